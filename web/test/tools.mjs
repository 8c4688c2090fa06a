// What the checks share: how one is run, the native program, the page's form, and files to give it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { deflateSync } from "node:zlib";

/// The site's folder, the program `lenet`, and a folder for pictures.
export const [siteFolder, lenet, results] = process.argv.slice(2, 5).map((path) => resolve(path));
mkdirSync(results, { recursive: true });
export const scratch = mkdtempSync(join(tmpdir(), "wgrad-web-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

/// A run that is short on a software adapter.
export const SHORT = { train_limit: 1000, test_limit: 500, epochs: 3, lr: 0.05 };
/// Losses of the same run on two devices: f32 sums in other orders, carried through 48 steps. Measured: 1.2e-7 between
/// SwiftShader in the page, llvmpipe and the CPU. Other data, order or initial weights would change the first digits.
const LOSS_TOLERANCE = 1e-5;
/// The longest that anything may take.
export const LONG = { timeout: 600_000 };
/// The page's images, wherever others of the data set may be on this machine.
export const DATA = ["--data", join(siteFolder, "data")];

/// Runs a check and prints a line; the first that fails ends the program.
export async function check(name, work) {
  const started = Date.now();
  try {
    const said = await work();
    console.log(`ok    ${((Date.now() - started) / 1000).toFixed(1).padStart(6)} s  ${name}${said ? `: ${said}` : ""}`);
  } catch (error) {
    console.log(`FAIL  ${name}\n${error.stack ?? error}`);
    process.exit(1);
  }
}

/// Runs `lenet`; gives what it prints.
export function native(...args) {
  return execFileSync(lenet, args.map(String), { encoding: "utf8", cwd: scratch, stdio: ["ignore", "pipe", "pipe"] });
}

export const flags = (settings) => Object.entries(settings).flatMap(([name, value]) => [`--${name.replaceAll("_", "-")}`, value]);

/// The only run in a folder of runs.
export const runIn = (folder) => join(scratch, folder, readdirSync(join(scratch, folder))[0]);

const parsed = (text) => text.trim().split("\n").map((line) => JSON.parse(line));
const ofEpochs = (text) => parsed(text).filter(({ epoch }) => epoch);

/// The epochs of a run folder of `lenet`.
export const losses = (folder) => ofEpochs(readFileSync(join(folder, "metrics.jsonl"), "utf8"));

const metrics = (page) => page.evaluate(() => new TextDecoder().decode(window.wgrad.files["metrics.jsonl"]));

/// The epochs of the page's run, and its result on the test images.
export const epochs = async (page) => ofEpochs(await metrics(page));
export const outcome = async (page) => parsed(await metrics(page)).at(-1);

/// Training and validation losses of two runs, epoch by epoch.
export function near(got, want) {
  assert.equal(got.length, want.length, "epochs");
  const differences = got.flatMap((report, index) => ["train_loss", "val_loss"].map((name) => Math.abs(report[name] - want[index][name])));
  const worst = Math.max(...differences);
  assert.ok(worst <= LOSS_TOLERANCE, `losses differ by ${worst}, which is more than ${LOSS_TOLERANCE}: ${JSON.stringify(got)}, ${JSON.stringify(want)}`);
  return `largest difference ${worst.toExponential(1)}`;
}

/// Sets fields of the form and the device.
export async function choose(page, settings, device = "gpu") {
  await page.evaluate(([settings, device]) => {
    for (const [name, value] of Object.entries(settings)) window.wgrad.form.set(name, String(value));
    window.wgrad.form.device.value = device;
  }, [settings, device]);
}

/// Waits for the end of a run that was just started, which is to be without an error.
export async function finished(page) {
  await page.waitForSelector("body[data-state=running]");
  await page.waitForSelector("body[data-state=idle]", LONG);
  assert.equal(await page.textContent("#error"), "");
  return epochs(page);
}

/// Presses Start and waits for the end; the epochs as the program reports them.
export async function train(page, settings, device) {
  await choose(page, settings, device);
  await page.click("#start");
  return finished(page);
}

export async function download(page, name) {
  await page.click("#tab-take");
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(`button[data-file="${name}"]`)]);
  const path = join(scratch, name);
  await file.saveAs(path);
  await page.click("#tab-train");
  return path;
}

/// Drops files on an element, as a reader does.
export async function drop(page, selector, files) {
  const transfer = await page.evaluateHandle((files) => {
    const transfer = new DataTransfer();
    for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
    return transfer;
  }, files.map(([name, bytes]) => [name, [...bytes]]));
  await page.dispatchEvent(selector, "dragover", { dataTransfer: transfer });
  await page.dispatchEvent(selector, "drop", { dataTransfer: transfer });
}

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
export function png(side, brightness) {
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
