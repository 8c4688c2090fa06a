// The page in a real browser, held to the native program: `node page.mjs SITE LENET RESULTS [KERNELS]`, with the site's
// folder, the program, a folder for pictures and the kernels that tests/all/shaders/kernels.rs writes.

import assert from "node:assert/strict";
import { launch, open, serve } from "./browser.mjs";
import { check, siteFolder } from "./tools.mjs";
import { checkFallbacks, checkWithoutGpu } from "./fallbacks.mjs";
import { checkFiles } from "./files.mjs";
import { checkKernels } from "./kernels.mjs";
import { checkLooks } from "./looks.mjs";
import { checkRuns } from "./runs.mjs";
import { checkTexts } from "./texts.mjs";
import { checkUse } from "./use.mjs";

const site = await serve(siteFolder);
let browser = await launch();
const { page, complaints } = await open(browser, site.url);

await checkTexts(page);
await checkKernels(page, process.argv[5]);
const straight = await checkRuns(page);
await checkFiles(page, straight);
await checkUse(page);
await check("the page said nothing on its console", () => assert.deepEqual(complaints, []));
await page.context().close();
await checkLooks(browser, site.url);
await checkFallbacks(browser, site.url, straight);
await browser.close();

browser = await launch({ webgpu: false });
await checkWithoutGpu(browser, site.url, straight);
await browser.close();
site.close();
console.log("The page passed.");
