// The page as a learner uses it: wrong settings, the keyboard alone, drawing, and looking inside.

import assert from "node:assert/strict";
import { join } from "node:path";
import { check, choose, LONG, results } from "./tools.mjs";

export async function checkUse(page) {
  await check("every setting that is wrong is marked, with what is expected of it", async () => {
    const wrong = await page.evaluate(async () => {
      const { form, helper, given } = window.wgrad;
      const missed = [];
      let tried = 0;
      // Each choice is made once, so that the settings of all of them are tried.
      const choices = (await helper.call("describe")).flatMap(({ choices }) => choices);
      const tryAll = async () => {
        for (const input of form.root.querySelectorAll("input[type=text]")) {
          const name = input.dataset.setting;
          if (input.closest("[hidden]") || input.dataset.takes === "text") continue;
          form.set(name, "wrong");
          tried += 1;
          const failure = await helper.call("check", given()).then(() => null, (failure) => failure);
          if (!failure || !form.mark(failure) || form.root.querySelector(".wrong .error")?.parentElement.querySelector("input") !== input) missed.push(`${name}: ${failure?.message}`);
          form.set(name, input.defaultValue);
        }
      };
      await tryAll();
      for (const { name, entries } of choices.filter(({ name }) => name !== "dataset")) {
        for (const entry of entries.filter(({ name }) => name !== "layers")) {
          form.set(name, entry.name);
          for (const setting of entry.settings.filter(({ takes }) => !["switch", "word", "text"].includes(takes))) {
            form.set(setting.name, "wrong");
            tried += 1;
            const failure = await helper.call("check", given()).then(() => null, (failure) => failure);
            if (!failure || !form.mark(failure)) missed.push(`${entry.name}, ${setting.name}: ${failure?.message}`);
            form.set(setting.name, setting.default);
          }
        }
      }
      form.mark(null);
      form.reset();
      return { missed, tried };
    });
    assert.deepEqual(wrong.missed, []);
    assert.ok(wrong.tried > 60, `${wrong.tried} settings`);
    await choose(page, { "network.dropout": "2" }, "cpu");
    await page.click("#start");
    await page.waitForSelector(".field.wrong");
    assert.match(await page.textContent(".field.wrong .error"), /dropout: expected/);
    await page.screenshot({ path: join(results, "wrong.png"), fullPage: true });
    await page.evaluate(() => window.wgrad.form.reset());
    return `${wrong.tried} settings`;
  });

  await check("a run from beginning to end by keyboard alone", async () => {
    await page.evaluate(() => {
      document.activeElement?.blur();
      window.wgrad.form.device.value = "cpu";
      window.wgrad.form.set("train_limit", "1000");
    });
    // To the field of epochs, then to Start: by Tab, as a keyboard gets there.
    const tabTo = async (id) => {
      for (let presses = 0; presses < 150; presses++) {
        if (await page.evaluate(() => document.activeElement?.id) === id) return presses;
        await page.keyboard.press("Tab");
      }
      throw new Error(`Tab does not get to ${id}`);
    };
    await tabTo("set-epochs");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("1");
    const presses = await tabTo("start");
    await page.keyboard.press("Enter");
    await page.waitForSelector("body[data-state=running]");
    await page.waitForSelector("body[data-state=idle]", LONG);
    assert.match(await page.textContent("#status"), /Finished/);
    assert.notEqual(await page.evaluate(() => document.activeElement?.id), "", "the focus is not lost");
    await tabTo("tab-train");
    for (const tab of ["inside", "try", "take", "train"]) {
      await page.keyboard.press("ArrowRight");
      assert.ok(await page.isVisible(`#${tab}`), tab);
    }
    return `${presses} presses of Tab from the epochs to Start`;
  });

  await check("a test image and a drawing are classified", async () => {
    await page.click("#tab-try");
    await page.click("#test-image");
    await page.waitForSelector("#classes li");
    await page.screenshot({ path: join(results, "try.png"), fullPage: true });
    const box = await page.locator("#draw").boundingBox();
    await page.mouse.move(box.x + 80, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + 180, box.y + 200, { steps: 5 });
    await page.mouse.up();
    await page.waitForFunction(() => document.querySelectorAll("#classes .probability").length === 5);
    const shares = await page.$$eval("#classes .probability", (cells) => cells.map((cell) => parseFloat(cell.textContent)));
    assert.ok(shares[0] >= shares[1], shares.join());
    await page.screenshot({ path: join(results, "draw.png"), fullPage: true });
    await page.click("#clear");
    assert.equal(await page.$$eval("#classes li", (lines) => lines.length), 0);
    await page.click("#tab-train");
  });

  await check("plan, kernels, profile and verification are shown", async () => {
    await choose(page, { batch_size: 8, train_limit: 64, test_limit: 8 }, "gpu");
    await page.click("#tab-inside");
    await page.waitForFunction(() => document.getElementById("wgsl").textContent.includes("@compute"), null, LONG);
    assert.match(await page.textContent("#plan"), /conv2d_pool/, "the plan is a GPU's");
    await page.click("#verify");
    await page.waitForSelector("#verify-report:not([hidden])", LONG);
    assert.match(await page.textContent("#verify-result"), /agree/);
    await page.click("#profile");
    await page.waitForSelector("#profile-table:not([hidden])", LONG);
    await page.screenshot({ path: join(results, "inside.png"), fullPage: true });
    await page.click("#tab-train");
    await page.evaluate(() => window.wgrad.form.reset());
  });
}
