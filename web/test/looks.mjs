// Both widths, light and dark, in two languages: nothing is cut off, and pictures of all of them.

import assert from "node:assert/strict";
import { join } from "node:path";
import { open } from "./browser.mjs";
import { check, LONG, results, train } from "./tools.mjs";

const LOOKS = {
  "desktop-light": {},
  "desktop-dark": { colorScheme: "dark", locale: "fr-FR" },
  "phone-light": { width: 390, height: 844, locale: "fr-FR" },
  "phone-dark": { width: 390, height: 844, colorScheme: "dark" },
};

export async function checkLooks(browser, url) {
  await check("both widths, light and dark, in two languages", async () => {
    for (const [name, options] of Object.entries(LOOKS)) {
      const { page, context } = await open(browser, url, options);
      assert.equal(await page.getAttribute("html", "lang"), options.locale ? "fr" : "en");
      const picture = async (part) => {
        const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(content <= width, `${name}, ${part}: ${content} pixels wide in ${width}`);
        await page.screenshot({ path: join(results, `${name}-${part}.png`), fullPage: true });
      };
      await picture("before");
      await train(page, { train_limit: 1000, test_limit: 500, epochs: 3, lr: 0.05 }, "cpu");
      for (const tab of ["train", "inside", "try", "take"]) {
        await page.click(`#tab-${tab}`);
        if (tab === "inside") await page.waitForFunction(() => document.getElementById("wgsl").textContent, null, LONG);
        if (tab === "try") await page.click("#test-image").then(() => page.waitForSelector("#classes li", LONG));
        await picture(tab);
      }
      await context.close();
    }
  });
}
