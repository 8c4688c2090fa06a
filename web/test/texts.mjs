// The texts: both languages have the same ones, all are used, and what comes from the program is translated.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { check, siteFolder } from "./tools.mjs";

/// Parts of the program's list that the page has fields of its own for, or does not show.
const OWN = ["data", "init", "device", "name", "layers"];
/// Words that are the same in French.
const NAMES = ["Dropout", "Activation", "Convolutions", "Nesterov", "Alpha", "L1", "L2", "Gamma", "T 0", "Mode", "Patience", "Diagnostics"];

export async function checkTexts(page) {
  const { texts } = await import(pathToFileURL(join(siteFolder, "strings.js")));
  const { library } = await import(pathToFileURL(join(siteFolder, "library.js")));

  await check("nothing is asked of other hosts, and every control has a name", async () => {
    const hosts = await page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => new URL(name, location).host));
    assert.deepEqual([...new Set(hosts)], [new URL(page.url()).host]);
    const nameless = await page.evaluate(() => [...document.querySelectorAll("input, select, textarea, button, progress, canvas[role]")]
      .filter((control) => !(control.labels?.length || control.ariaLabel || control.textContent.trim()))
      .map((control) => control.outerHTML));
    assert.deepEqual(nameless, []);
  });

  await check("both languages have the same texts, and all are used", () => {
    const kind = (value) => (typeof value === "object" ? Object.keys(value).join() : typeof value === "function" ? value.length : "text");
    const kinds = (language) => Object.entries(texts[language]).map(([name, value]) => `${name}: ${kind(value)}`);
    assert.deepEqual(kinds("fr"), kinds("en"));
    const sources = readdirSync(siteFolder).filter((name) => /\.(js|html)$/.test(name) && !/^(strings|library|wgrad_web)\.js$/.test(name))
      .map((name) => readFileSync(join(siteFolder, name), "utf8")).join();
    assert.deepEqual(Object.keys(texts.en).filter((name) => !sources.includes(`"${name}"`)), []);
    return `${Object.keys(texts.en).length} of them`;
  });

  await check("every setting has its name and help in both languages", async () => {
    const shown = await page.evaluate(async (own) => {
      const { title } = await import("./form.js");
      const ofSetting = ({ name, help }) => (own.includes(name) ? [] : [title(name), help]);
      const ofChoice = ({ name, help, entries, common }) => [
        title(name), help, ...common.flatMap(ofSetting),
        ...entries.filter(({ name }) => !own.includes(name)).flatMap(({ about, settings }) => [about, ...settings.flatMap(ofSetting)]),
      ];
      const sections = await window.wgrad.helper.call("describe");
      return [...new Set(sections.flatMap(({ heading, choices, settings }) => [heading, ...choices.flatMap(ofChoice), ...settings.flatMap(ofSetting)]))];
    }, OWN);
    assert.ok(shown.length > 150 && shown.every((text) => text), `${shown.length} texts`);
    assert.deepEqual(shown.filter((text) => !(text in library.fr)), [], "texts of the program without French ones: add them to web/page/library.js");
    assert.deepEqual(Object.keys(library.fr).filter((text) => !shown.includes(text)), [], "French ones of texts that the program no longer has");
    const same = Object.entries(library.fr).filter(([english, french]) => english === french).map(([text]) => text);
    assert.deepEqual(same.filter((text) => !NAMES.includes(text)), [], "not translated");
    return `${shown.length} texts`;
  });
}
