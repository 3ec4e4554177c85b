// The page works without this: it adds copying, and takes the language from ?lang=ja.
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
    // A file that is opened from a disk may not write to the clipboard in some browsers.
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

// A click on a column's head sorts the table of the runs by it.
document.querySelectorAll("table[aria-labelledby=t-runs]").forEach(table => {
  const body = table.tBodies[0];
  const key = cell => {
    const text = cell.textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return Number.isNaN(number) ? text : number;
  };
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      // The second click turns it round.
      const down = head.getAttribute("aria-sort") === "ascending";
      [...table.tHead.rows[0].cells].forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => order(key(a.cells[column]), key(b.cells[column])) * (down ? -1 : 1));
      body.append(...rows);
    });
  });
});
