// The page works without this script, which adds copying, sorting, and the language of ?lang=ja.
const title = document.querySelector("title");
const titles = { en: title.textContent, ja: title.dataset.ja };
const choose = () => {
  const language = document.querySelector('input[name="lang"]:checked').value;
  document.documentElement.lang = language;
  document.title = titles[language];
};
const wanted = document.getElementById("lang-" + new URLSearchParams(location.search).get("lang"));
if (wanted) wanted.checked = true;
choose();
document.querySelectorAll('input[name="lang"]').forEach(input => input.addEventListener("change", choose));

const copy = async text => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Some browsers do not let a page opened from a file write to the clipboard.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
};
document.querySelectorAll(".copy").forEach(button => {
  const label = button.innerHTML;
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const rows = [...button.closest(".table").querySelectorAll("tr")];
    const text = rows.map(row => [...row.cells].map(cell => cell.innerText.trim().replace(/\s+/g, " ")).join("\t")).join("\n");
    const done = await copy(text);
    const japanese = document.documentElement.lang === "ja";
    document.getElementById("status").textContent = done ? (japanese ? "表をコピーした" : "table copied") : (japanese ? "コピーできなかった" : "could not copy");
    button.textContent = done ? "✓" : "✗";
    clearTimeout(timer);
    timer = setTimeout(() => { button.innerHTML = label; }, 1200);
  });
});

// A click on a column header sorts the table of runs by that column.
document.querySelectorAll("table[aria-labelledby=t-runs]").forEach(table => {
  const body = table.tBodies[0];
  const key = cell => {
    const text = cell.textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  // A missing value comes last in both orders.
  const order = (a, b, sign) =>
    a === "–" || b === "–" ? (a === "–") - (b === "–")
    : typeof a !== typeof b ? (typeof a === "number" ? -1 : 1)
    : (a < b ? -1 : a > b ? 1 : 0) * sign;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      // A second click reverses the order.
      const down = head.getAttribute("aria-sort") === "ascending";
      [...table.tHead.rows[0].cells].forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => order(key(a.cells[column]), key(b.cells[column]), down ? -1 : 1));
      body.append(...rows);
    });
  });
});
