// The box that classifies what is typed.
const box = document.getElementById("try-box");
if (box) {
  const element = id => document.getElementById("try-" + id);
  let nets;
  const text = element("text"), pick = element("net");
  const categories = JSON.parse(box.dataset.categories);
  const named = label => {
    const { letter, name, japanese } = categories[label];
    const meaning = document.documentElement.lang === "ja" ? japanese : name;
    return meaning ? `${letter} (${meaning})` : letter;
  };
  const make = (name, content, className) => {
    const made = document.createElement(name);
    if (content !== undefined) made.textContent = content;
    if (className) made.className = className;
    return made;
  };
  const show = () => {
    if (text.value === "" && !nets) return;
    // The nets are read when they are first needed.
    nets ??= classifier.read(JSON.parse(document.getElementById("classifier").textContent));
    const typed = text.value, answer = classifier.classify(nets, Number(pick.value), typed);
    const shown = typed.trim() !== "" && answer.known;
    const order = answer.probabilities.map((p, label) => [p, label]).sort((a, b) => b[0] - a[0]);
    const label = order[0][1];
    box.querySelectorAll(".unknown").forEach(note => { note.hidden = typed.trim() === "" || answer.known; });
    const percent = p => (100 * p).toFixed(1) + "\u00a0%";
    element("label").textContent = shown ? `${named(label)}: ${percent(order[0][0])}` : "";
    element("odds").replaceChildren(...(shown ? order.slice(0, 8) : []).map(([p, k]) => {
      const row = make("tr"), head = make("th", named(k)), track = make("span", "", "track"), bar = make("span", "", "bar"), cell = make("td");
      head.scope = "row";
      bar.style.width = `${100 * p}%`;
      track.append(bar);
      cell.append(track);
      row.append(head, cell, make("td", percent(p)));
      return row;
    }));
    const words = shown ? classifier.explain(answer, typed, label) : [];
    const most = Math.max(...words.map(word => Math.abs(word.gives)), 1e-9);
    const parts = [];
    let end = 0;
    for (const { piece, from, to, gives } of words) {
      parts.push(typed.slice(end, from));
      const share = Math.abs(gives) / most;
      const made = make("span", piece, share > 0.1 ? (gives > 0 ? "for" : "against") + (share > 0.5 ? " strong" : "") : "");
      made.title = (gives >= 0 ? "+" : "") + gives.toFixed(2);
      parts.push(made);
      end = to;
    }
    element("words").replaceChildren(...parts);
  };
  text.addEventListener("input", show);
  pick.addEventListener("change", show);
  // The handler that sets the page's language was added before this one.
  document.querySelectorAll('input[name="lang"]').forEach(input => input.addEventListener("change", show));
  box.hidden = false;
}
