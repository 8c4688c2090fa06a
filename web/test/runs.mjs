// Runs: as in the native program, paused, stopped, continued on either side.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { check, choose, DATA, download, epochs, finished, flags, LONG, losses, native, near, outcome, results, runIn, scratch, SHORT } from "./tools.mjs";

/// Gives the epochs of the run that the others are held to.
export async function checkRuns(page) {
  let straight;

  await check("1,000 images × 3 epochs are as in the native program", async () => {
    const device = native("devices").match(/software adapter|GPU/) ? "gpu" : "cpu";
    native("train", ...flags(SHORT), ...DATA, "--device", device, "--out", "native");
    await page.evaluate(() => {
      const { onEvent } = window.wgrad.trainer;
      window.seen = [];
      window.wgrad.trainer.onEvent = (event) => {
        if (event.type === "batches") window.seen.push(event);
        onEvent(event);
      };
    });
    await choose(page, SHORT);
    const started = Date.now();
    await page.click("#start");
    await page.waitForFunction(() => document.getElementById("progress").value > 0, null, LONG);
    const first = Date.now() - started;
    await page.waitForFunction(() => document.querySelectorAll("#layers canvas").length > 0 && document.querySelectorAll("#epochs tbody tr").length > 1, null, LONG);
    await page.screenshot({ path: join(results, "training.png"), fullPage: true });
    straight = await finished(page);
    assert.match(await page.textContent("#device-name"), /WebGPU/);
    await checkCurve(page, straight);
    return `${near(straight, losses(runIn("native")))} from the native ${device}; ${(first / 1000).toFixed(1)} s from the click to the first steps`;
  });

  await check("the result is shown, and its model evaluates the same in lenet", async () => {
    assert.equal(await page.$$eval("#confusion tbody tr", (rows) => rows.length), 10);
    assert.ok((await page.$$("#mistakes canvas")).length > 0);
    await page.screenshot({ path: join(results, "result.png"), fullPage: true });
    const model = await download(page, "model.safetensors");
    const { test_accuracy: inPage } = await outcome(page);
    const { test_accuracy: accuracy } = JSON.parse(native("eval", "--weights", model, ...DATA, "--test-limit", SHORT.test_limit, "--device", "cpu", "--json"));
    // An image whose two largest logits are equal but for rounding may change sides.
    assert.ok(Math.abs(accuracy - inPage) <= 1 / SHORT.test_limit, `${accuracy} and ${inPage}`);
    for (const name of ["metrics.csv", "model.onnx", "report.html", "config.toml"]) assert.ok(readFileSync(await download(page, name)).length > 100, name);
    assert.equal(readFileSync(join(scratch, "metrics.csv"), "utf8").trim().split("\n").length, 1 + SHORT.epochs);
    return `accuracy ${accuracy}`;
  });

  await check("a finished run survives the page, with its model", async () => {
    await page.reload();
    await page.waitForSelector("body[data-state=idle]");
    assert.match(await page.textContent("#kept-text"), /finished run of 3 epochs/);
    assert.ok(await page.isHidden("#continue"));
    await page.click("#tab-try");
    await page.click("#test-image");
    await page.waitForSelector("#classes li", LONG);
    await page.click("#tab-train");
  });

  await check("a run that is paused and resumed is the same to the bit", async () => {
    await choose(page, SHORT);
    await page.click("#start");
    await page.waitForFunction(() => document.getElementById("progress").value > 0.05, null, LONG);
    await page.click("#pause");
    await page.waitForSelector("body[data-state=paused]");
    const value = () => page.evaluate(() => document.getElementById("progress").value);
    const before = await value();
    await page.waitForTimeout(1500);
    assert.equal(await value(), before, "nothing moves while it is paused");
    await page.click("#pause");
    const all = (list) => list.map(({ train_loss: train, val_loss: val }) => [train, val]);
    assert.deepEqual(all(await finished(page)), all(straight));
  });

  await check("a run that was stopped survives the page, and continues in lenet and here", async () => {
    await choose(page, SHORT);
    await page.click("#start");
    await page.waitForFunction(() => document.querySelectorAll("#epochs tbody tr").length === 1, null, LONG);
    await page.click("#stop");
    await page.waitForSelector("body[data-state=idle]", LONG);
    const archive = await download(page, "run.zip");
    execFileSync("python3", ["-m", "zipfile", "-e", archive, scratch]);
    native("train", "--resume", "run", ...DATA, "--device", "cpu");
    const inLenet = near(losses(join(scratch, "run")), straight);
    await page.reload();
    await page.waitForSelector("#continue:not([hidden])", LONG);
    await page.evaluate(() => (window.wgrad.form.device.value = "cpu"));
    await page.click("#continue");
    return `lenet: ${inLenet}; here, on the CPU: ${near(await finished(page), straight)}`;
  });

  await check("a run of lenet continues here", async () => {
    native("train", ...flags({ ...SHORT, epochs: 1 }), ...DATA, "--device", "cpu", "--out", "begun");
    await page.click("#tab-take");
    const files = ["checkpoint", "config.toml", "metrics.jsonl", "diagnostics.jsonl"].map((name) => join(runIn("begun"), name)).filter(existsSync);
    await page.setInputFiles("#run-files", files);
    await page.waitForSelector("#run-go:not([hidden])");
    await page.fill("#run-epochs", "-1");
    await page.click("#run-resume");
    assert.ok(await page.isVisible("#run-go"), "-1 is no number of epochs");
    await page.fill("#run-epochs", String(SHORT.epochs));
    await page.click("#run-resume");
    return near(await finished(page), straight);
  });

  return straight;
}

/// The curve of batches is of the same numbers as the epochs: their mean, by the batches' sizes, is the epoch's loss.
async function checkCurve(page, reports) {
  const [images, batchSize] = [SHORT.train_limit, 64];
  const seen = await page.evaluate(() => window.seen);
  for (const { epoch, train_loss: want } of reports) {
    const all = seen.filter((event) => event.epoch === epoch).flatMap(({ loss }) => loss);
    assert.equal(all.length, Math.ceil(images / batchSize));
    const sum = all.reduce((sum, loss, index) => sum + loss * Math.min(batchSize, images - index * batchSize), 0);
    assert.ok(Math.abs(sum / images - want) < 1e-9, `epoch ${epoch}: ${sum / images} and ${want}`);
  }
}
