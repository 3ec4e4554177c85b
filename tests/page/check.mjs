// Checks the page of `knockline serve` in Chromium, at two widths, in the light and in the dark, in two languages:
//
//   cargo run -p knockline -- serve model.knock &
//   cd tests/page && npm install && node check.mjs http://127.0.0.1:8080 [FOLDER FOR SCREENSHOTS]
//
// CHROMIUM names the browser (/usr/bin/chromium if it is not set).
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url, folder] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: flags });
const kinds = [
  ["phone-light", 390, "light", "en-US"],
  ["phone-dark", 390, "dark", "ja-JP"],
  ["desktop-light", 1280, "light", "ja-JP"],
  ["desktop-dark", 1280, "dark", "en-US"],
];
for (const [name, width, colorScheme, locale] of kinds) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, locale });
  const page = await context.newPage();
  const problems = [];
  page.on("request", (request) => { if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url())) problems.push(request.url()); });
  page.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById("about").textContent !== "");
  assert.equal(await page.evaluate(() => document.documentElement.lang), locale.slice(0, 2));
  // By keyboard alone.
  for (let tabs = 0; (await page.evaluate(() => document.activeElement.id)) !== "text"; tabs++) {
    assert.ok(tabs < 10, "the text cannot be reached by keyboard");
    await page.keyboard.press("Tab");
  }
  const typed = "Bank raises forecast <b>after</b> İ — record quarter";
  await page.keyboard.type(typed);
  await page.waitForFunction(() => /%/.test(document.getElementById("label").textContent) && /quarter/.test(document.getElementById("words").textContent));
  assert.equal(await page.textContent("#words"), typed, "the words are those that were typed");
  assert.ok((await page.$$("#words .for, #words .against")).length > 0);
  const rows = Array.from({ length: 450 }, (_, i) => `${i + 3},Bank raises rates ${i}`);
  const csv = ["id,title", '1,"Cannes, ""jury"" plans"', "2,Bank raises rates", ...rows].join("\n");
  await page.setInputFiles("#file", { name: "t.csv", mimeType: "text/csv", buffer: Buffer.from(csv) });
  await page.waitForSelector("#download:not([hidden])");
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  const made = fs.readFileSync(await download.path(), "utf8");
  const lines = made.trimEnd().split("\n");
  assert.equal(lines.length, 453);
  assert.equal(lines[0], "id,title,predicted,probability");
  assert.match(lines[1], /^1,"Cannes, ""jury"" plans",[^,]+,(0\.\d{4}|1\.0000)$/);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, "the page is too wide");
  if (folder) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  assert.deepEqual(violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.html)}`), []);
  assert.deepEqual(problems, []);
  console.log(`${name}: no violation, no outside request`);
  await context.close();
}
await browser.close();
