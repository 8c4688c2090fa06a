// The page in a real browser, held to the native program. `node page.mjs SITE LENET RESULTS`: the site's folder, the program,
// and a folder for pictures. Each check prints a line; the first that fails ends the run.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { deflateSync } from "node:zlib";
import { launch, open, serve } from "./browser.mjs";

const [siteFolder, lenet, results] = process.argv.slice(2);
/// A network in a file, as `lenet` takes it.
const LAYERS = new URL("../../examples/my_network.toml", import.meta.url);
const scratch = mkdtempSync(join(tmpdir(), "wgrad-web-"));
mkdirSync(results, { recursive: true });

/// A run that is short on a software adapter.
const SHORT = { train_limit: 1000, test_limit: 500, epochs: 3, lr: 0.05 };
/// Losses of the same run on two devices: f32 sums in other orders, carried through 48 steps. Measured: 1.2e-7 between
/// SwiftShader in the page, llvmpipe and the CPU. Other data, order or initial weights would change the first digits.
const LOSS_TOLERANCE = 1e-5;
const EPOCH_MS = 120_000;
/// The page's images, wherever others of the data set may be on this machine.
const DATA = ["--data", join(resolve(siteFolder), "data")];

const site = await serve(siteFolder);
let browser = await launch();

async function check(name, work) {
  const started = Date.now();
  try {
    const said = await work();
    console.log(`ok    ${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${name}${said ? `: ${said}` : ""}`);
  } catch (error) {
    console.log(`FAIL  ${name}\n${error.stack ?? error}`);
    await browser.close();
    site.close();
    process.exit(1);
  }
}

function native(...args) {
  return execFileSync(lenet, args.map(String), { encoding: "utf8", cwd: scratch, stdio: ["ignore", "pipe", "pipe"] });
}

const flags = (settings) => Object.entries(settings).flatMap(([name, value]) => [`--${name.replaceAll("_", "-")}`, value]);
const losses = (folder) => readFileSync(join(scratch, folder, "metrics.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line)).filter(({ epoch }) => epoch);

/// Sets fields of the form and the device.
async function choose(page, settings, device = "gpu") {
  await page.evaluate(([settings, device]) => {
    for (const [name, value] of Object.entries(settings)) window.wgrad.form.set(name, String(value));
    window.wgrad.form.device.value = device;
  }, [settings, device]);
}

const idle = (page) => page.waitForSelector("body[data-state=idle]", { timeout: EPOCH_MS });

/// Presses Start and waits for the end; the epochs as the program reports them.
async function train(page, settings, device) {
  await choose(page, settings, device);
  await page.click("#start");
  await page.waitForSelector("body[data-state=running]");
  await idle(page);
  assert.equal(await page.textContent("#error"), "");
  return epochs(page);
}

const epochs = (page) => page.evaluate(() => {
  const text = new TextDecoder().decode(window.wgrad.files["metrics.jsonl"]);
  return text.trim().split("\n").map((line) => JSON.parse(line)).filter(({ epoch }) => epoch);
});

/// The checksum of PNG's chunks; `zlib.crc32` is newer than the Node of stable systems.
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/// A grey PNG of one brightness.
function png(side, brightness) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header[8] = 8;
  const rows = Buffer.alloc(side * (side + 1), brightness);
  for (let row = 0; row < side; row++) rows[row * (side + 1)] = 0;
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

function near(got, want, tolerance = LOSS_TOLERANCE) {
  assert.equal(got.length, want.length, "epochs");
  let worst = 0;
  for (const [index, { train_loss: train, val_loss: val }] of got.entries()) {
    worst = Math.max(worst, Math.abs(train - want[index].train_loss), Math.abs(val - want[index].val_loss));
  }
  assert.ok(worst <= tolerance, `losses differ by ${worst}, which is more than ${tolerance}: ${JSON.stringify(got)}, ${JSON.stringify(want)}`);
  return `largest difference ${worst.toExponential(1)}`;
}

async function download(page, name) {
  await page.click("#tab-take");
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(`button[data-file="${name}"]`)]);
  const path = join(scratch, name);
  await file.saveAs(path);
  await page.click("#tab-train");
  return path;
}

const { page, complaints } = await open(browser, site.url);
let straight;

await check("nothing is asked of other hosts, and every control has a name", async () => {
  const hosts = await page.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => new URL(name, location).host));
  assert.deepEqual([...new Set(hosts)], [new URL(site.url).host]);
  const nameless = await page.evaluate(() => [...document.querySelectorAll("input, select, textarea, button, progress, canvas[role]")]
    .filter((control) => !(control.labels?.length || control.ariaLabel || control.textContent.trim()))
    .map((control) => control.outerHTML));
  assert.deepEqual(nameless, []);
});

await check("a step of every network agrees with the f64 reference on SwiftShader", async () => {
  await page.evaluate(() => window.wgrad.trainer.call("open_device", "gpu"));
  await page.evaluate(() => window.wgrad.loadImages());
  const networks = [["lenet5"], ["lenet5", ["network.batch_norm", "true"], ["network.dropout", "0.25"], ["optimizer", "adamw"]], ["mlp"], ["vgg"], ["resnet"]];
  let [num, most] = [0, 0];
  for (const [network, ...more] of networks) {
    const given = JSON.stringify([["network", network], ["batch_size", "4"], ["train_limit", "4"], ["test_limit", "4"], ["val_split", "0"], ...more]);
    const { agrees, worst, text, ops } = await page.evaluate((given) => window.wgrad.trainer.call("verify", given), given);
    assert.ok(agrees, text);
    assert.match(text, /WebGPU|BrowserWebGpu/, "it ran on the adapter");
    [num, most] = [num + ops.length, Math.max(most, worst)];
  }
  return `${num} ops, the largest difference is ${(100 * most).toFixed(1)}% of the tolerance`;
});

await check("every shader of every op and optimizer is accepted by the browser's compiler", async () => {
  const [num, refused] = await page.evaluate(async () => {
    const shaders = await window.wgrad.helper.call("shaders");
    const adapter = await navigator.gpu.requestAdapter();
    const requiredFeatures = ["subgroups"].filter((feature) => adapter.features.has(feature));
    const device = await adapter.requestDevice({ requiredFeatures });
    const compiled = shaders.filter(([, code]) => !code.includes("enable subgroups") || requiredFeatures.length);
    const messages = await Promise.all(compiled.map(async ([name, code]) => {
      const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
      return messages.filter(({ type }) => type === "error").map(({ message }) => `${name}: ${message}`);
    }));
    device.destroy();
    return [compiled.length, messages.flat()];
  });
  assert.deepEqual(refused, []);
  assert.ok(num > 30, `${num} shaders`);
  return `${num} of them`;
});

await check("1,000 images × 3 epochs are as in the native program", async () => {
  const device = native("devices").match(/software adapter|GPU/) ? "gpu" : "cpu";
  native("train", ...flags(SHORT), ...DATA, "--device", device, "--out", "native");
  const folder = join("native", readdirSync(join(scratch, "native"))[0]);
  const started = Date.now();
  await choose(page, SHORT);
  await page.evaluate(() => {
    const { onEvent } = window.wgrad.trainer;
    window.seen = [];
    window.wgrad.trainer.onEvent = (event) => {
      if (event.type === "batches") window.seen.push(event);
      onEvent(event);
    };
  });
  await page.click("#start");
  await page.waitForFunction(() => document.getElementById("progress").value > 0, null, { timeout: EPOCH_MS });
  const first = Date.now() - started;
  await page.waitForFunction(() => document.querySelectorAll("#layers canvas").length > 0 && document.querySelectorAll("#epochs tbody tr").length > 1, null, { timeout: EPOCH_MS });
  await page.screenshot({ path: join(results, "training.png"), fullPage: true });
  await idle(page);
  assert.equal(await page.textContent("#error"), "");
  straight = await epochs(page);
  assert.match(await page.textContent("#device-name"), /WebGPU/);
  // The curve of batches is of the same numbers: their mean, by their sizes, is the epoch's loss.
  const [images, batchSize] = [SHORT.train_limit, 64];
  const seen = await page.evaluate(() => window.seen);
  for (const { epoch, train_loss: want } of straight) {
    const all = seen.filter((event) => event.epoch === epoch).flatMap(({ loss }) => loss);
    assert.equal(all.length, Math.ceil(images / batchSize));
    const sum = all.reduce((sum, loss, index) => sum + loss * Math.min(batchSize, images - index * batchSize), 0);
    assert.ok(Math.abs(sum / images - want) < 1e-9, `epoch ${epoch}: ${sum / images} and ${want}`);
  }
  const said = near(straight, losses(folder));
  return `${said} from the native ${device}; ${(first / 1000).toFixed(1)} s from the click to the first steps`;
});

await check("the result is shown, and its model evaluates the same in lenet", async () => {
  assert.equal(await page.$$eval("#confusion tbody tr", (rows) => rows.length), 10);
  assert.ok((await page.$$("#mistakes canvas")).length > 0);
  const model = await download(page, "model.safetensors");
  const outcome = await page.evaluate(() => JSON.parse(new TextDecoder().decode(window.wgrad.files["metrics.jsonl"]).trim().split("\n").pop()));
  const said = JSON.parse(native("eval", "--weights", model, ...DATA, "--test-limit", SHORT.test_limit, "--device", "cpu", "--json"));
  const accuracy = said.test_accuracy;
  // An image whose two largest logits are equal but for rounding may change sides.
  assert.ok(Math.abs(accuracy - outcome.test_accuracy) <= 1 / SHORT.test_limit, `${accuracy} and ${outcome.test_accuracy}`);
  for (const name of ["metrics.csv", "model.onnx", "report.html", "config.toml"]) assert.ok(readFileSync(await download(page, name)).length > 100, name);
  assert.equal(readFileSync(join(scratch, "metrics.csv"), "utf8").trim().split("\n").length, 1 + SHORT.epochs);
  return `accuracy ${accuracy}`;
});

await check("a test image is classified, and a drawing", async () => {
  await page.click("#tab-try");
  await page.click("#test-image");
  await page.waitForSelector("#classes li");
  await page.screenshot({ path: join(results, "try.png"), fullPage: true });
  const box = await page.locator("#draw").boundingBox();
  await page.mouse.move(box.x + 80, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + 180, box.y + 200, { steps: 5 });
  await page.mouse.up();
  const shares = await page.$$eval("#classes .probability", (cells) => cells.map((cell) => parseFloat(cell.textContent)));
  assert.ok(shares.length === 5 && shares[0] >= shares[1], shares.join());
  await page.click("#tab-train");
});

await check("a run that is paused and resumed is the same to the bit", async () => {
  await choose(page, SHORT);
  await page.click("#start");
  await page.waitForFunction(() => document.getElementById("progress").value > 0.05, null, { timeout: EPOCH_MS });
  await page.click("#pause");
  await page.waitForSelector("body[data-state=paused]");
  const value = () => page.evaluate(() => document.getElementById("progress").value);
  const before = await value();
  await page.waitForTimeout(1500);
  assert.equal(await value(), before, "nothing moves while it is paused");
  await page.click("#pause");
  await idle(page);
  const all = (list) => list.map(({ train_loss: train, val_loss: val }) => [train, val]);
  assert.deepEqual(all(await epochs(page)), all(straight));
});

await check("a run that was stopped survives the page, and continues in lenet and here", async () => {
  await choose(page, SHORT);
  await page.click("#start");
  await page.waitForFunction(() => document.querySelectorAll("#epochs tbody tr").length === 1, null, { timeout: EPOCH_MS });
  await page.click("#stop");
  await idle(page);
  const archive = await download(page, "run.zip");
  execFileSync("python3", ["-m", "zipfile", "-e", archive, scratch]);
  native("train", "--resume", "run", ...DATA, "--device", "cpu");
  const inLenet = near(losses("run"), straight);
  await page.waitForTimeout(500);
  await page.reload();
  await page.waitForSelector("#kept:not([hidden])", { timeout: 30_000 });
  await page.evaluate(() => (window.wgrad.form.device.value = "gpu"));
  await page.click("#continue");
  await page.waitForSelector("body[data-state=running]");
  await idle(page);
  assert.equal(await page.textContent("#error"), "");
  return `lenet: ${inLenet}; here: ${near(await epochs(page), straight)}`;
});

await check("a run of lenet continues here", async () => {
  native("train", ...flags({ ...SHORT, epochs: 1 }), ...DATA, "--device", "cpu", "--out", "begun");
  const folder = join("begun", readdirSync(join(scratch, "begun"))[0]);
  await page.click("#tab-take");
  const files = ["checkpoint", "config.toml", "metrics.jsonl", "diagnostics.jsonl"].map((name) => join(scratch, folder, name)).filter(existsSync);
  await page.setInputFiles("#run-files", files);
  await page.waitForSelector("#run-go:not([hidden])");
  await page.fill("#run-epochs", String(SHORT.epochs));
  await page.click("#run-resume");
  await page.waitForSelector("body[data-state=running]");
  await idle(page);
  assert.equal(await page.textContent("#error"), "");
  return near(await epochs(page), straight);
});

await check("a truncated file is refused with its name, and nothing is lost", async () => {
  const folder = join(siteFolder, "data");
  const files = readdirSync(folder).filter((name) => name.endsWith(".gz")).map((name) => {
    const bytes = readFileSync(join(folder, name));
    const path = join(scratch, name);
    writeFileSync(path, name.startsWith("train-images") ? bytes.subarray(0, 100_000) : bytes);
    return path;
  });
  await page.selectOption("#images", "own");
  await page.setInputFiles("#data-files", files);
  await page.click("#start");
  await page.waitForSelector("#error:not([hidden])", { timeout: EPOCH_MS });
  const message = await page.textContent("#error");
  assert.match(message, /train-images-idx3-ubyte\.gz: expected an undamaged gzip stream/);
  await page.selectOption("#images", "bundled");
  near(await train(page, { ...SHORT, epochs: 1 }), straight.slice(0, 1));
  return message.split(";")[0];
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
  assert.deepEqual(await page.$$eval("#confusion tbody th", (cells) => cells.map((cell) => cell.textContent)), ["bright", "dark"]);
  await page.evaluate(() => (window.wgrad.form.layers.value = ""));
  await page.selectOption("#images", "bundled");
});

await check("a setting that cannot be is marked", async () => {
  await choose(page, { "network.dropout": "2" });
  await page.click("#start");
  await page.waitForSelector(".field.wrong");
  assert.match(await page.textContent(".field.wrong .error"), /dropout: expected/);
  await choose(page, { "network.dropout": "0.0" });
});

await check("the page said nothing on its console", () => assert.deepEqual(complaints, []));

/// Code that a worker runs before its own.
const inWorkers = (code) => (page) => page.route("**/worker.js", async (route) => {
  const response = await route.fetch();
  await route.fulfill({ response, body: `${code}\n${await response.text()}` });
});

await check("a GPU that is lost costs no more than the epoch under way", async () => {
  const before = inWorkers(`
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (...descriptor) {
      const device = await requestDevice.apply(this, descriptor);
      new BroadcastChannel("lose").onmessage = () => device.destroy();
      return device;
    };`);
  const { page, context } = await open(browser, site.url, { before });
  await choose(page, SHORT);
  await page.click("#start");
  await page.waitForFunction(() => window.wgrad.files.checkpoint, null, { timeout: EPOCH_MS });
  await page.evaluate(() => new BroadcastChannel("lose").postMessage(null));
  await page.waitForSelector("#kept:not([hidden])", { timeout: 30_000 });
  const message = await page.textContent("#error");
  assert.match(message, /lost|destroyed/i);
  await page.click("#continue");
  await page.waitForSelector("body[data-state=running]");
  await idle(page);
  assert.equal(await page.textContent("#error"), "");
  near(await epochs(page), straight);
  await context.close();
  return message.split("\n")[0];
});

await check("both widths, light and dark, in two languages", async () => {
  for (const [name, options] of Object.entries({
    "desktop-light": {}, "desktop-dark": { colorScheme: "dark", locale: "fr-FR" },
    "phone-light": { width: 390, height: 844, locale: "fr-FR" }, "phone-dark": { width: 390, height: 844, colorScheme: "dark" },
  })) {
    const { page, context } = await open(browser, site.url, options);
    assert.equal(await page.getAttribute("html", "lang"), options.locale ? "fr" : "en");
    for (const tab of ["train", "inside", "try", "take"]) {
      await page.click(`#tab-${tab}`);
      if (tab === "inside") await page.waitForFunction(() => document.getElementById("wgsl").textContent);
      const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(content <= width, `${name}, ${tab}: ${content} pixels wide in ${width}`);
      await page.screenshot({ path: join(results, `${name}-${tab}.png`), fullPage: true });
    }
    await context.close();
  }
});

await browser.close();
browser = await launch({ webgpu: false });

await check("without WebGPU the CPU trains, and the page says so", async () => {
  const { page } = await open(browser, site.url);
  assert.match(await page.textContent("#device-notice"), /WebGPU.* so the CPU computes/);
  const said = near(await train(page, SHORT, "auto"), straight);
  assert.match(await page.textContent("#device-name"), /CPU/);
  return said;
});

await check("without JSPI too: it can be stopped, and continued", async () => {
  const before = inWorkers("delete WebAssembly.Suspending; delete WebAssembly.promising;");
  const { page } = await open(browser, site.url, { before });
  await choose(page, { ...SHORT, train_limit: 5000, epochs: 6 }, "auto");
  await page.click("#start");
  await page.waitForFunction(() => window.wgrad.files.checkpoint, null, { timeout: EPOCH_MS });
  await page.click("#stop");
  await page.waitForSelector("#kept:not([hidden])", { timeout: 30_000 });
  await page.click("#continue");
  await page.waitForSelector("body[data-state=running]");
  await idle(page);
  assert.equal((await epochs(page)).length, 6);
});

await browser.close();
site.close();
rmSync(scratch, { recursive: true });
console.log("The page passed.");
