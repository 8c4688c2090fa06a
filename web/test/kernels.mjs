// Kernels in the browser: right on SwiftShader, and accepted by Tint, the browser's compiler.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { check } from "./tools.mjs";

/// Every network, and the layers and rules that the defaults leave out. One image fewer or more changes no kernel, and
/// ResNet's blocks repeat: 8 layers have all that 20 have. Its other
/// shortcut, which pads, is held to the reference by every step natively.
const STEPS = {
  lenet5: {},
  "lenet5 with all": { network: "lenet5", "network.batch_norm": true, "network.dropout": 0.25, optimizer: "adamw" },
  mlp: {},
  vgg: {},
  all_conv: { "network.width": 16 },
  resnet: { "network.depth": 8, "network.shortcut": "B" },
};
const FEW = { batch_size: 4, train_limit: 4, test_limit: 4, val_split: 0 };

export async function checkKernels(page, casesFile) {
  await check("a step of every network agrees with the f64 reference on SwiftShader", async () => {
    await page.evaluate(() => window.wgrad.trainer.call("open_device", "gpu"));
    await page.evaluate(() => window.wgrad.images.load());
    const names = await page.evaluate(async () => (await window.wgrad.helper.call("describe")).flatMap(({ choices }) => choices).find(({ name }) => name === "network").entries.map(({ name }) => name));
    assert.deepEqual(names.filter((name) => name !== "layers" && !(name in STEPS)), [], "networks without a step here");
    let [num, most] = [0, 0];
    for (const [name, settings] of Object.entries(STEPS)) {
      const given = JSON.stringify(Object.entries({ network: name, ...settings, ...FEW }).map(([name, value]) => [name, String(value)]));
      const { agrees, worst, text, ops } = await page.evaluate((given) => window.wgrad.trainer.call("verify", given), given);
      assert.ok(agrees, text);
      assert.match(text, /WebGPU|BrowserWebGpu/, "it ran on the adapter");
      [num, most] = [num + ops.length, Math.max(most, worst)];
    }
    return `${num} ops, the largest difference is ${(100 * most).toFixed(1)}% of the tolerance`;
  });

  await check("the browser's compiler accepts every shader of every op and optimizer", async () => {
    const shaders = await page.evaluate(() => window.wgrad.helper.call("shaders"));
    const { refused, compiled } = await compile(page, shaders);
    assert.deepEqual(refused, []);
    assert.ok(compiled > 30, `${compiled} shaders`);
    return `${compiled} of them`;
  });

  if (!casesFile) return;
  await check("so it does the kernels of every case of every op, with their constants", async () => {
    const kernels = JSON.parse(readFileSync(casesFile, "utf8")).map((wgsl) => [wgsl.split("\n", 1)[0], wgsl]);
    const { refused, compiled, left } = await compile(page, kernels);
    assert.deepEqual(refused, []);
    assert.ok(compiled > 300, `${compiled} kernels`);
    return `${compiled} of them; ${left} use subgroups, which this adapter does not have`;
  });
}

/// Compiles modules [name, WGSL], and says what was refused. Not to the end, which takes SwiftShader many minutes.
async function compile(page, kernels) {
  const all = { refused: [], compiled: 0, left: 0 };
  // A few at a time: the list has many megabytes.
  for (let first = 0; first < kernels.length; first += 40) {
    const { refused, compiled, left } = await page.evaluate(compileSome, kernels.slice(first, first + 40));
    all.refused.push(...refused);
    all.compiled += compiled;
    all.left += left;
  }
  return all;
}

/// Runs in the page.
async function compileSome(kernels) {
  const adapter = await navigator.gpu.requestAdapter();
  const requiredFeatures = ["subgroups"].filter((feature) => adapter.features.has(feature));
  const device = await adapter.requestDevice({ requiredFeatures });
  const taken = kernels.filter(([, code]) => !code.includes("enable subgroups") || requiredFeatures.length);
  const refused = await Promise.all(taken.map(async ([name, code]) => {
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    return messages.filter(({ type }) => type === "error").map(({ message }) => `${name}: ${message}`);
  }));
  device.destroy();
  return { refused: refused.flat(), compiled: taken.length, left: kernels.length - taken.length };
}
