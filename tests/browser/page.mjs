// Opens a page in a browser without a window, and prints as JSON: its title, what it requested, what it said, whether anything
// of it ran, and what axe-core finds in light and in dark.
//
//   node tests/browser/page.mjs DIR FILE      DIR: what install.sh printed
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [dir, file] = process.argv.slice(2);
const require = createRequire(resolve(dir, "package.json"));
const puppeteer = require("puppeteer-core");
const axe = require.resolve("axe-core/axe.min.js");

const executablePath = execFileSync("sh", ["-c", "command -v chromium"], { encoding: "utf8" }).trim();
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  const page = await browser.newPage();
  const url = pathToFileURL(resolve(file)).href;
  const [requests, said] = [[], []];
  page.on("request", (request) => request.url() === url || requests.push(request.url()));
  page.on("console", (message) => said.push(message.text()));
  page.on("dialog", (dialog) => { said.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.setBypassCSP(false);
  await page.goto(url, { waitUntil: "load" });
  const title = await page.title();
  const scripts = await page.evaluate(() => document.scripts.length);
  const foreign = await page.evaluate(() => document.querySelectorAll("img,iframe,object,embed,link,[onerror],[onload]").length);
  const fits = await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth);
  const violations = [];
  for (const scheme of ["light", "dark"]) {
    const other = await browser.newPage();
    await other.setBypassCSP(true);
    await other.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await other.goto(url, { waitUntil: "load" });
    await other.addScriptTag({ path: axe });
    const found = await other.evaluate(() => window.axe.run());
    for (const one of found.violations) violations.push({ scheme, id: one.id, nodes: one.nodes.slice(0, 3).map((node) => node.html) });
  }
  console.log(JSON.stringify({ title, requests, said, scripts, foreign, fits, violations }));
} finally {
  await browser.close();
}
