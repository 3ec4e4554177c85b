// Checks the box in which a report's page classifies what is typed, in Chromium, at two widths, in the light and in the dark, in two languages:
//
//   cargo xtask pipeline
//   cd tests/page && npm install && node report.mjs ../../artifacts/report/index.html [FOLDER FOR SCREENSHOTS]
//
// CHROMIUM names the browser (/usr/bin/chromium if it is not set).
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [file, folder] = process.argv.slice(2);
const url = pathToFileURL(path.resolve(file)).href;
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: flags });
const kinds = [
  ["phone-light", 390, "light", "en"],
  ["phone-dark", 390, "dark", "ja"],
  ["desktop-light", 1280, "light", "ja"],
  ["desktop-dark", 1280, "dark", "en"],
];
for (const [name, width, colorScheme, language] of kinds) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const page = await context.newPage();
  const problems = [];
  page.on("request", (request) => { if (!/^(file|data|blob):/.test(request.url())) problems.push(request.url()); });
  page.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(`${url}?lang=${language}#try`);
  await page.focus("#try-text");
  const typed = "Stocks  rise <b>after</b> the film's İ — record";
  await page.keyboard.type(typed);
  await page.waitForFunction(() => /%/.test(document.getElementById("try-label").textContent));
  assert.equal(await page.textContent("#try-words"), typed, "the words are those that were typed");
  assert.ok((await page.$$("#try-words .for, #try-words .against")).length > 0);
  assert.ok((await page.$$("#try-odds tr")).length > 1);
  const nets = await page.$$eval("#try-net option", (all) => all.map((option) => option.value));
  for (const net of nets.reverse()) await page.selectOption("#try-net", net, { force: true });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, "the page is too wide");
  if (folder) await (await page.$("#try")).screenshot({ path: `${folder}/report-${name}.png` });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.html)}`), []);
  // The last net that was picked knows words only, or n-grams of no emoji.
  await page.fill("#try-text", "\u{1f600}\u{1f601}");
  await page.waitForFunction(() => document.getElementById("try-label").textContent === "");
  assert.ok(await page.isVisible(`#try .unknown .${language}`));
  await page.fill("#try-text", "");
  assert.equal(await page.textContent("#try-label"), "");
  assert.deepEqual(problems, []);
  console.log(`${name}: no violation, no outside request`);
  await context.close();
}
await browser.close();
