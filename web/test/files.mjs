// Files that a reader gives the page: sound ones, and damaged ones, after which nothing is lost.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { check, choose, drop, LONG, near, png, runIn, scratch, SHORT, siteFolder, train } from "./tools.mjs";

/// A network in a file, as `lenet` takes it.
const LAYERS = new URL("../../examples/my_network.toml", import.meta.url);

export async function checkFiles(page, straight) {
  await check("a truncated data file is refused with its name, and nothing is lost", async () => {
    const folder = join(siteFolder, "data");
    const files = readdirSync(folder).filter((name) => name.endsWith(".gz")).map((name) => {
      const bytes = readFileSync(join(folder, name));
      return [name, name.startsWith("train-images") ? bytes.subarray(0, 100_000) : bytes];
    });
    await page.selectOption("#images", "own");
    await page.click("#start");
    assert.match(await page.textContent("#error"), /Choose the files/, "without files");
    await drop(page, "#drop-data", files.map(([name, bytes]) => [name, bytes]));
    await page.waitForFunction(() => window.wgrad.form.files?.length === 4);
    await page.click("#start");
    await page.waitForFunction(() => document.getElementById("error").textContent.includes("gz"), null, LONG);
    await page.waitForSelector("body[data-state=idle]");
    const message = await page.textContent("#error");
    assert.match(message, /train-images-idx3-ubyte\.gz: expected an undamaged gzip stream/);
    assert.ok(await page.isVisible("#kept"), "the run that was there is still offered");
    await page.selectOption("#images", "bundled");
    near(await train(page, { ...SHORT, epochs: 1 }, "cpu"), straight.slice(0, 1));
    return message.split(";")[0];
  });

  await check("so are a truncated checkpoint, a truncated model and a file that is no image", async () => {
    await page.click("#tab-take");
    const read = (name) => readFileSync(join(runIn("begun"), name));
    await drop(page, "#drop-run", [["checkpoint", read("checkpoint").subarray(0, 5000)], ["config.toml", read("config.toml")], ["metrics.jsonl", read("metrics.jsonl")]]);
    await page.waitForSelector("#run-error:not([hidden])");
    const said = [await page.textContent("#run-error")];
    assert.ok(await page.isHidden("#run-go"));
    await drop(page, "#drop-run", [["notes.txt", Buffer.from("no run")]]);
    await page.waitForFunction((before) => document.getElementById("run-error").textContent !== before, said[0]);
    said.push(await page.textContent("#run-error"));

    await page.click("#tab-try");
    await page.click("#test-image");
    await page.waitForSelector("#classes li");
    const model = await page.evaluate(() => [...window.wgrad.files["model.safetensors"]]);
    await drop(page, "#drop-model", [["model.safetensors", Buffer.from(model).subarray(0, 3000)]]);
    await page.waitForSelector("#model-error:not([hidden])");
    said.push(await page.textContent("#model-error"));
    await page.click("#test-image");
    await page.waitForSelector("#classes li");
    assert.equal(await page.$$eval("#classes li", (lines) => lines.length), 5, "the model that was there is still there");
    await drop(page, "#drop-image", [["notes.txt", Buffer.from("no image")]]);
    await page.waitForSelector("#image-error:not([hidden])");
    said.push(await page.textContent("#image-error"));
    await page.click("#clear");
    await drop(page, "#drop-image", [["grey.png", png(40, 90)]]);
    await page.waitForSelector("#classes li");
    assert.ok(await page.isHidden("#image-error"));
    await page.click("#tab-train");
    return `\n          ${said.join("\n          ")}`;
  });

  await check("a folder of images trains a network of one's own", async () => {
    const folder = join(scratch, "pictures");
    for (const [name, isBright] of [["bright", true], ["dark", false]]) {
      mkdirSync(join(folder, name), { recursive: true });
      for (let index = 0; index < 40; index++) writeFileSync(join(folder, name, `${index}.png`), png(20, isBright ? 160 + index : 20 + index));
    }
    await page.selectOption("#images", "own");
    await page.setInputFiles("#data-folder", folder);
    await page.evaluate((layers) => (window.wgrad.form.layers.value = layers), readFileSync(LAYERS, "utf8"));
    await train(page, { "dataset.size": 32, "dataset.channels": 3, train_limit: "", test_limit: "", epochs: 2, batch_size: 8 }, "cpu");
    await page.evaluate(() => (window.wgrad.form.layers.value = "layers = [ {"));
    await page.click("#start");
    await page.waitForSelector("#error:not([hidden])");
    assert.match(await page.textContent("#error"), /^network.toml: expected a list of layers/);
    await page.waitForSelector("body[data-state=idle]");
    assert.deepEqual(await page.$$eval("#confusion tbody th", (cells) => cells.map((cell) => cell.textContent)), ["bright", "dark"]);
    await page.evaluate(() => window.wgrad.form.reset());
    await page.selectOption("#images", "bundled");
    await page.click("#tab-try");
    await page.click("#test-image");
    await page.waitForSelector("#image-error:not([hidden])");
    assert.match(await page.textContent("#image-error"), /takes images of 3 × 32 × 32 values; this one has 1 × 28 × 28/);
    await page.click("#tab-train");
  });

  await check("a run of one's own images asks for them when it is continued", async () => {
    await page.selectOption("#images", "own");
    await page.setInputFiles("#data-folder", join(scratch, "pictures"));
    await choose(page, { "dataset.size": 32, "dataset.channels": 3, epochs: 2000, batch_size: 8, early_stopping: false }, "cpu");
    await page.click("#start");
    await page.waitForFunction(() => window.wgrad.files.checkpoint && document.querySelectorAll("#epochs tbody tr").length > 1, null, LONG);
    await page.click("#stop");
    await page.waitForSelector("#continue:not([hidden])", LONG);
    await page.reload();
    await page.waitForSelector("#continue:not([hidden])", LONG);
    await page.click("#continue");
    await page.waitForSelector("#error:not([hidden])");
    assert.match(await page.textContent("#error"), /choose their files again/);
    await page.setInputFiles("#data-folder", join(scratch, "pictures"));
    await page.click("#continue");
    await page.waitForSelector("body[data-state=running]");
    const before = await page.$$eval("#epochs tbody tr", (rows) => rows.length);
    await page.waitForFunction((before) => document.querySelectorAll("#epochs tbody tr").length > before, before, LONG);
    await page.click("#stop");
    await page.waitForSelector("body[data-state=idle]", LONG);
    await page.click("#discard");
    await page.evaluate(() => window.wgrad.form.reset());
    await page.selectOption("#images", "bundled");
  });
}
