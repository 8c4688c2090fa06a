// What a browser or a computer lacks or loses: the GPU, JSPI, WebGPU, the connection.

import assert from "node:assert/strict";
import { open } from "./browser.mjs";
import { check, choose, finished, LONG, near, SHORT, train } from "./tools.mjs";

/// Code that a worker runs before its own.
const inWorkers = (code) => (page) => page.route("**/worker.js", async (route) => {
  const response = await route.fetch();
  await route.fulfill({ response, body: `${code}\n${await response.text()}` });
});

export async function checkFallbacks(browser, url, straight) {
  await check("a GPU that is lost costs no more than the epoch under way", async () => {
    const before = inWorkers(`
      const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function (...descriptor) {
        const device = await requestDevice.apply(this, descriptor);
        new BroadcastChannel("lose").onmessage = () => device.destroy();
        return device;
      };`);
    const { page, context } = await open(browser, url, { before });
    await choose(page, SHORT);
    await page.click("#start");
    await page.waitForFunction(() => window.wgrad.files.checkpoint, null, LONG);
    await page.evaluate(() => new BroadcastChannel("lose").postMessage(null));
    await page.waitForSelector("#continue:not([hidden])", LONG);
    const message = await page.textContent("#error");
    assert.match(message, /lost|destroyed/i);
    await page.waitForSelector("body[data-state=idle]");
    await choose(page, {}, "cpu");
    await page.click("#continue");
    near(await finished(page), straight);
    await context.close();
    return message.split("\n")[0];
  });

  await check("two tabs do not mix their runs", async () => {
    const { page: first, context } = await open(browser, url);
    const second = await context.newPage();
    await second.goto(url);
    await second.waitForSelector("body[data-state=idle]", LONG);
    await train(first, { ...SHORT, epochs: 1 }, "cpu");
    await train(second, { ...SHORT, epochs: 2 }, "cpu");
    assert.match(await second.textContent("#messages"), /lost when its tab is closed/);
    await second.close();
    await first.reload();
    await first.waitForSelector("#kept:not([hidden])", LONG);
    assert.match(await first.textContent("#kept-text"), /finished run of 1 epochs/);
    await context.close();
  });

  await check("without a connection, after a first visit", async () => {
    const { page, context } = await open(browser, url);
    await page.evaluate(async () => {
      await navigator.serviceWorker.ready;
      await window.wgrad.images.load();
    });
    await context.setOffline(true);
    await page.reload();
    await page.waitForSelector("body[data-state=idle]", LONG);
    near(await train(page, { ...SHORT, epochs: 1 }, "cpu"), straight.slice(0, 1));
    await context.close();
  });
}

/// In a browser without WebGPU.
export async function checkWithoutGpu(browser, url, straight) {
  await check("without WebGPU the CPU trains, and the page says so", async () => {
    const { page, context } = await open(browser, url);
    assert.match(await page.textContent("#device-notice"), /WebGPU.* so the CPU computes/);
    const said = near(await train(page, SHORT, "auto"), straight);
    assert.match(await page.textContent("#device-name"), /CPU/);
    await context.close();
    return said;
  });

  await check("without JSPI too: it can be stopped, and continued", async () => {
    const before = inWorkers("delete WebAssembly.Suspending; delete WebAssembly.promising;");
    const { page, context } = await open(browser, url, { before });
    await choose(page, { ...SHORT, train_limit: 3000, epochs: 5 }, "auto");
    await page.click("#start");
    await page.waitForFunction(() => window.wgrad.files.checkpoint, null, LONG);
    await page.click("#stop");
    await page.waitForSelector("#continue:not([hidden])", LONG);
    await page.waitForSelector("body[data-state=idle]");
    await page.click("#continue");
    assert.equal((await finished(page)).length, 5);
    await context.close();
  });
}
