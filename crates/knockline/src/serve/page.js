"use strict";

const texts = {
  en: {
    one: "Type a text", model: "Model", token: "Token", text: "Text", classes: "Classes and their probabilities",
    words: "What each word gives to this class", for: "for", against: "against", many: "Classify a file",
    how: "One text per line, or CSV with a header. The file is sent to this server and to nobody else.",
    drop: "Drop a file here, or choose one", column: "Column of the text", download: "Download as CSV",
    label: "Class", probability: "Probability", unknown: "no word of this text is known",
    exact: "(exact: the terms of a sum)", "leave-one-out": "(by leaving out each word, for which others may make up)",
    about: (m) => `${m.run}: ${m.labels} classes, ${m.words} words`, done: (n, all, none) => `${n} of ${all} texts read${none ? `, ${none} without an answer` : ""}`, known: (n, all) => `${n} of ${all} words known`,
    first: (n) => `; the first ${n} are shown`, empty: "the file has no texts", other: "日本語", code: "ja",
  },
  ja: {
    one: "文を入力する", model: "モデル", token: "トークン", text: "文", classes: "各カテゴリの確率",
    words: "このカテゴリへの各単語の寄与", for: "支持", against: "反対", many: "ファイルを分類する",
    how: "1行に1文、またはヘッダ付きのCSV。ファイルはこのサーバーにだけ送られます。",
    drop: "ここにファイルをドロップするか、選択してください", column: "文の列", download: "CSVでダウンロード",
    label: "カテゴリ", probability: "確率", unknown: "既知の単語がありません",
    exact: "（厳密：和の各項）", "leave-one-out": "（各単語を除いたときの差。他の単語が補うこともある）",
    about: (m) => `${m.run}：${m.labels}カテゴリ、${m.words}語`, done: (n, all, none) => `${all}文のうち${n}文を読みました${none ? `（うち${none}文は分類できませんでした）` : ""}`, known: (n, all) => `${all}語のうち${n}語が既知`,
    first: (n) => `(先頭の${n}件を表示)`, empty: "ファイルに文がありません", other: "English", code: "en",
  },
};

const SHOWN = 200, AT_ONCE = 200;
const $ = (id) => document.getElementById(id);
let language = navigator.language.startsWith("ja") ? "ja" : "en";
let models = [];
let asked = 0;
const say = () => texts[language];

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function translate() {
  document.documentElement.lang = language;
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = say()[each.dataset.text];
  $("language").textContent = say().other;
  $("language").lang = say().code;
  const model = models.find((m) => m.name === $("pick").value);
  $("about").textContent = model ? say().about(model) : "";
}

async function ask(path, body) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  for (let tries = 0; ; tries++) {
    const response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
    if (response.status === 401) $("token-row").hidden = false;
    // The server is busy, and says when to come again.
    if (response.status === 503 && tries < 5) {
      await new Promise((later) => setTimeout(later, 1000 * Number(response.headers.get("Retry-After") || 1)));
      continue;
    }
    const answer = await response.json();
    if (!response.ok) throw new Error(`${answer.error.what}: ${answer.error.hint}`);
    return answer;
  }
}

function problem(error) {
  $("problem").textContent = error ? error.message : "";
}

function show(text, of) {
  const unknown = text.trim() && !of.label;
  $("label").textContent = unknown ? say().unknown : of.label && text.trim() ? `${of.label}  ${(100 * of.probability).toFixed(1)} %` : "";
  $("odds").tBodies[0].replaceChildren(...of.top.map(({ label, probability }) => {
    const row = element("tr"), head = element("th", label), cell = element("td"), track = element("span", "", "track"), bar = element("span", "", "bar");
    head.scope = "row";
    bar.style.width = `${100 * probability}%`;
    track.append(bar);
    cell.append(track);
    row.append(head, cell, element("td", `${(100 * probability).toFixed(1)} %`));
    return row;
  }));
  const words = of.explanation.words.map((word) => ({ ...word, gives: (word.contributions.find((c) => c.label === of.label) || {}).contribution || 0 }));
  const most = Math.max(...words.map((word) => Math.abs(word.gives)), 1e-9);
  const bytes = new TextEncoder().encode(text), decoder = new TextDecoder();
  const parts = [];
  let end = 0;
  for (const word of words) {
    parts.push(decoder.decode(bytes.slice(end, word.start)));
    const share = Math.abs(word.gives) / most;
    const strength = share > 0.5 ? " strong" : "";
    const made = element("span", word.word, share > 0.1 ? (word.gives > 0 ? "for" : "against") + strength : "");
    made.title = `${word.gives >= 0 ? "+" : ""}${word.gives.toFixed(2)}`;
    parts.push(made);
    end = word.end;
  }
  parts.push(decoder.decode(bytes.slice(end)));
  $("words").replaceChildren(...parts);
  $("method").textContent = text.trim() ? `${say()[of.explanation.method]} ${say().known(of.words_known, of.words)}` : "";
}

async function typed() {
  const number = ++asked;
  const text = $("text").value;
  try {
    const answer = await ask("/explain", { text, top_k: 8, model: $("pick").value || undefined });
    // A later text may have been answered first.
    if (number !== asked) return;
    show(text, answer.explanations[0]);
    problem();
  } catch (error) {
    if (number === asked) problem(error);
  }
}

let timer;
$("text").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(typed, 60);
});

// RFC 4180; in TSV a quote is a character.
function cells(text, delimiter) {
  if (delimiter === "\t") return text.split(/\r?\n/).filter((line) => line).map((line) => line.split("\t"));
  const rows = [];
  let row = [], cell = "", quoted = false;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[at + 1] === '"') { cell += '"'; at++; }
      else quoted = false;
    } else if (c === '"' && cell === "") quoted = true;
    else if (c === delimiter) { row.push(cell); cell = ""; }
    else if (c === "\n" || c === "\r") {
      if (c === "\r" && text[at + 1] === "\n") at++;
      row.push(cell);
      if (row.length > 1 || row[0]) rows.push(row);
      row = [];
      cell = "";
    } else cell += c;
  }
  if (cell || row.length) { row.push(cell); rows.push(row); }
  return rows;
}

const quoted = (cell) => (/[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
let table = null, url = null, running = 0;

async function opened(file) {
  problem();
  const text = (await file.text()).replace(/^\ufeff/, "");
  const name = file.name.toLowerCase();
  const delimiter = name.endsWith(".csv") ? "," : name.endsWith(".tsv") ? "\t" : null;
  if (!delimiter) {
    const lines = text.split(/\r?\n/);
    if (lines.at(-1) === "") lines.pop();
    table = { header: ["text"], rows: lines.map((line) => [line]) };
  } else {
    const [header = [], ...rows] = cells(text, delimiter);
    table = { header, rows };
  }
  $("column").replaceChildren(...table.header.map((name, at) => new Option(name, at)));
  const usual = table.header.findIndex((name) => ["text", "title", "headline", "sentence"].includes(name.toLowerCase()));
  $("column").value = String(Math.max(usual, 0));
  $("column-row").hidden = table.header.length < 2;
  await classify();
}

async function classify() {
  const number = ++running, at = Number($("column").value), body = $("rows").tBodies[0];
  const { header, rows } = table;
  body.replaceChildren();
  $("download").hidden = true;
  $("scroll").hidden = rows.length === 0;
  if (rows.length === 0) {
    $("progress").textContent = say().empty;
    return;
  }
  const lines = [[...header, "predicted", "probability"].map(quoted).join(",")];
  try {
    let size = AT_ONCE, none = 0;
    for (let start = 0; start < rows.length; ) {
      const some = rows.slice(start, start + size);
      let answer;
      try {
        answer = await ask("/predict", { texts: some.map((row) => row[at] || ""), top_k: 1, model: $("pick").value || undefined });
      } catch (error) {
        // The server may allow fewer texts at once.
        if (size === 1 || number !== running) throw error;
        size = Math.ceil(size / 4);
        continue;
      }
      if (number !== running) return;
      answer.predictions.forEach(({ label, probability }, index) => {
        const p = probability === null ? "" : probability.toFixed(4);
        if (label === null) none++;
        lines.push([...some[index], label || "", p].map(quoted).join(","));
        if (start + index < SHOWN) {
          const row = element("tr");
          row.append(element("td", label || "-"), element("td", p), element("td", some[index][at] || ""));
          body.append(row);
        }
      });
      start += some.length;
      const done = start;
      $("progress").textContent = say().done(done, rows.length, none) + (rows.length > SHOWN ? say().first(SHOWN) : "");
    }
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    $("download").href = url;
    $("download").hidden = false;
  } catch (error) {
    if (number === running) problem(error);
  }
}

$("file").addEventListener("change", () => $("file").files[0] && opened($("file").files[0]).catch(problem));
$("column").addEventListener("change", () => classify());
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) opened(event.dataTransfer.files[0]).catch(problem);
  });
}
$("language").addEventListener("click", () => {
  language = say().code;
  translate();
  if ($("text").value) typed();
});
$("pick").addEventListener("change", () => { translate(); typed(); });
$("token").addEventListener("change", start);

async function start() {
  try {
    models = (await ask("/models")).models;
    $("pick").replaceChildren(...models.map(({ name }) => new Option(name)));
    $("pick-row").hidden = models.length < 2;
    problem();
    translate();
    await typed();
  } catch (error) {
    problem(error);
  }
}

translate();
start();
