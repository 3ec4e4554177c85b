// Holds the classifier in a report's page to the predictions of its runs, text by text:
//
//   node tests/page/classifier.mjs ARTIFACTS TEXTS [PREDICT]
//
// TEXTS is a file with a text per line, PREDICT the program `predict` (target/debug/predict if it is not given).
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const CLOSE = 1e-3;
const [artifacts, file, program = "target/debug/predict"] = process.argv.slice(2);
const page = fs.readFileSync(path.join(artifacts, "report/index.html"), "utf8");
const inside = (begin) => {
  const start = page.indexOf(begin);
  assert.ok(start > 0, `the page has no ${begin}`);
  return page.slice(start + begin.length, page.indexOf("</script>", start));
};
const code = inside('<script id="classifier-code">');
const json = inside('<script type="application/json" id="classifier">');
const classifier = new Function(`${code}; return classifier;`)();
const nets = classifier.read(JSON.parse(json));
const texts = fs.readFileSync(file, "utf8").split("\n");
if (texts.at(-1) === "") texts.pop();
assert.ok(nets.nets.length > 0 && texts.length > 0);
nets.nets.forEach(({ run }, number) => {
  const arguments_ = ["--artifacts", artifacts, "--run", run, "--json", "--top-k", String(nets.labels.length), "--file", file];
  const answers = execFileSync(program, arguments_, { encoding: "utf8", maxBuffer: 2 ** 30 }).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.equal(answers.length, texts.length);
  let worst = 0, others = 0, known = 0;
  const start = performance.now();
  texts.forEach((text, at) => {
    const made = classifier.classify(nets, number, text), { top, category } = answers[at];
    assert.equal(made.known, top.length > 0, `${run}: is a word of ${JSON.stringify(text)} known?`);
    if (!made.known) return;
    known++;
    for (const { category, probability } of top) {
      const difference = Math.abs(made.probabilities[nets.labels.indexOf(category)] - probability);
      worst = Math.max(worst, difference);
      assert.ok(difference <= CLOSE, `${run}: ${JSON.stringify(text)}: ${category} differs by ${difference}`);
    }
    const largest = made.probabilities.indexOf(Math.max(...made.probabilities));
    if (nets.labels[largest] !== category) others++;
    // The characters of the text give what the net adds up, but for n-grams without a place.
    const words = classifier.explain(made, text, largest);
    assert.ok(words.every(({ piece, from, to }) => piece.length > 0 && text.slice(from, to) === piece));
    const mean = (all) => all.reduce((a, b) => a + b, 0) / all.length;
    const inside = (from, to) => words.some((word) => word.from <= from && to <= word.to);
    let least = 0, most = 0;
    for (const { places, gives } of made.given) {
      const share = (gives[largest] - mean(gives)) / Math.max(places.length, 1);
      for (const [from, to] of places) {
        if (inside(from, to) && to > from) [least, most] = [least + share, most + share];
        // Part of an n-gram of two words lies in the space between them.
        else if (to > from) [least, most] = [least + Math.min(share, 0), most + Math.max(share, 0)];
      }
    }
    const sum = words.reduce((sum, word) => sum + word.gives, 0);
    assert.ok(least - 1e-6 <= sum && sum <= most + 1e-6, `${run}: ${JSON.stringify(text)}: the words give ${sum}, not ${least} to ${most}`);
  });
  assert.ok(known > 0, "no text has a known word");
  const each = (performance.now() - start) / texts.length;
  console.log(`${run}: ${known} texts, largest difference ${worst.toExponential(1)}, ${others} other labels, ${each.toFixed(2)} ms a text; the nets take ${(json.length / 1e6).toFixed(2)} MB`);
});
