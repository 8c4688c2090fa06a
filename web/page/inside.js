// Looking inside: plan, kernels, profile, verification.

import { $, element } from "./dom.js";
import { number, percent, text } from "./language.js";

export class Inside {
  #page;
  #shown = null;

  constructor(page) {
    this.#page = page;
    $("verify").onclick = () => this.#work("verify", $("verify-result"), (result) => this.#verified(result));
    $("profile").onclick = () => this.#work("profile", $("profile-result"), (rows) => this.#profiled(rows));
    $("kernel").onchange = () => this.#showKernel();
    $("verify-copy").onclick = async () => {
      await navigator.clipboard.writeText($("verify-text").textContent);
      $("verify-copy").textContent = text("copied");
      setTimeout(() => ($("verify-copy").textContent = text("copy")), 2000);
    };
  }

  forget() {
    this.#shown = null;
    if (!$("inside").hidden) this.open();
  }

  /// Shows plan and kernels of the settings as they are.
  async open() {
    const given = this.#page.given();
    if (this.#shown === given) return;
    this.#shown = given;
    try {
      if (this.#page.form.usesOwnImages) await this.#page.images.load();
      await this.#page.images.putNetwork();
      // The trainer knows the device; while it trains, the plan is the CPU's, and kernels are as a GPU has them.
      const isIdle = this.#page.state === "idle";
      if (isIdle) await this.#page.device.use(this.#page.form.device.value);
      const client = isIdle ? this.#page.trainer : this.#page.helper;
      $("plan").textContent = await client.call("plan", given);
      this.kernels = await client.call("kernels", given);
      $("kernel").replaceChildren(...this.kernels.map(({ label }, index) => new Option(label, index)));
      this.#showKernel();
    } catch (failure) {
      $("plan").textContent = failure.message;
    }
  }

  #showKernel() {
    $("wgsl").textContent = this.kernels?.[$("kernel").value]?.wgsl ?? "";
  }

  async #work(call, place, show) {
    if (this.#page.state !== "idle") {
      place.textContent = text("busy");
      return;
    }
    place.textContent = text("working");
    $("verify").disabled = $("profile").disabled = true;
    try {
      await this.#page.images.load();
      await this.#page.device.use(this.#page.form.device.value);
      show(await this.#page.trainer.call(call, this.#page.given()));
    } catch (failure) {
      place.textContent = failure.message;
      if (failure.lost || failure.fatal) await this.#page.run.restartTrainer();
    } finally {
      $("verify").disabled = $("profile").disabled = false;
    }
  }

  #verified({ agrees, ops, worst, text: report }) {
    $("verify-result").textContent = agrees ? text("verifyRight", number(ops.length), percent(worst)) : text("verifyWrong");
    $("verify-report").hidden = false;
    $("verify-text").textContent = report;
  }

  #profiled(rows) {
    const total = rows.reduce((sum, { us }) => sum + us, 0);
    $("profile-result").textContent = `${number(total / 1000, 2)} ms`;
    $("profile-table").hidden = false;
    const cells = ({ label, us, flops }) => [label, number(us, 1), percent(us / total), number(flops / us / 1000, 1)];
    const line = (row) => element("tr", {}, ...cells(row).map((cell) => element("td", {}, cell)));
    $("profile-table").tBodies[0].replaceChildren(...rows.map(line));
  }
}
