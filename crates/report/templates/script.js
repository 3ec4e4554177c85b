// The page works without this: it adds copying, and takes the language from ?lang=ja.
const choose = () => { document.documentElement.lang = document.querySelector('input[name="lang"]:checked').value; };
const wanted = document.getElementById("lang-" + new URLSearchParams(location.search).get("lang"));
if (wanted) wanted.checked = true;
choose();
document.querySelectorAll('input[name="lang"]').forEach(input => input.addEventListener("change", choose));
document.querySelectorAll(".copy").forEach(button => {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const rows = [...button.closest(".table").querySelectorAll("tr")];
    const text = rows.map(row => [...row.cells].map(cell => cell.innerText.trim().replace(/\s+/g, " ")).join("\t")).join("\n");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // A file that is opened from a disk may not write to the clipboard in some browsers.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("done");
    const label = button.innerHTML;
    button.textContent = "✓";
    setTimeout(() => { button.innerHTML = label; }, 1200);
  });
});
