// A run from its beginning to its end: its buttons, its events, and what of it is kept.

import { $ } from "./dom.js";
import { BUNDLED } from "./form.js";
import { OWN_DATA } from "./images.js";
import { number, percent, text } from "./language.js";
import * as storage from "./storage.js";

/// The run's folder in a worker.
const RUN = "/run";

export class Run {
  #page;
  #keeping = Promise.resolve();
  /// The most epochs of the run under way.
  #epochs = 0;

  constructor(page) {
    this.#page = page;
    $("start").onclick = () => this.start();
    $("pause").onclick = () => this.#pause();
    $("stop").onclick = () => this.#stop();
    $("discard").onclick = async () => {
      await storage.discard();
      $("kept").hidden = true;
    };
    addEventListener("beforeunload", (event) => {
      if (page.state !== "idle") event.preventDefault();
    });
  }

  start() {
    const { images, helper, trainer, live, take } = this.#page;
    return this.#drive(async () => {
      const data = await images.load();
      const { network, parameters } = await helper.call("check", this.#page.given());
      // From here on nothing of the settings is wrong: the run that was there gives way.
      await storage.discard();
      this.#page.files = {};
      take.update();
      live.begin([]);
      live.message(`${network}, ${text("parameters", number(parameters))}`);
      if (!await storage.isKeeper) live.message(text("notKept"));
      return data;
    }, () => trainer.call("train", this.#page.given(), RUN));
  }

  /// Continues the run whose files these are; `epochs` of 0 are as many as it was to have.
  async resume(files, epochs = 0) {
    const { trainer, form, images, live } = this.#page;
    await trainer.call("remove_file", RUN);
    for (const [name, bytes] of Object.entries(files)) await trainer.call("put_file", `${RUN}/${name}`, bytes);
    const saved = await trainer.call("saved_run", RUN);
    const isOwn = saved.data === OWN_DATA || saved.settings.some(([name, value]) => name === "dataset.kind" && value !== BUNDLED);
    form.reset();
    form.usesOwnImages = isOwn;
    for (const [name, value] of saved.settings) form.set(name.replace(/\.kind$/, ""), value);
    if (isOwn && !form.files?.length) throw new Error(text("chooseImagesAgain"));
    live.begin(saved.history);
    this.#page.files = files;
    await this.#drive(() => images.load(), () => trainer.call("resume", RUN, epochs, isOwn ? OWN_DATA : ""));
  }

  /// Runs `call` of the trainer from its beginning to its end.
  async #drive(prepare, call) {
    const { form, trainer, device, live, take } = this.#page;
    this.#page.show(null);
    form.mark(null);
    this.#setState("running");
    // What is asked from here on is for this run, although it may not have begun.
    trainer.control("run");
    $("kept").hidden = true;
    try {
      this.status("loadingData");
      live.setData(await prepare());
      await device.use(form.device.value);
      this.status("preparing");
      const result = await call();
      live.finish(result);
      this.status("finished", percent(result.outcome.test_accuracy, 2));
    } catch (failure) {
      await this.#failed(failure);
    } finally {
      live.end();
      take.update();
      await this.#keeping;
      this.#setState("idle");
    }
  }

  async #failed(failure) {
    if (failure.interrupted) {
      this.status("stopped");
    } else {
      const isMarked = this.#page.form.mark(failure);
      this.#page.show(failure);
      this.status(failure.lost ? "lost" : isMarked ? "settingWrong" : "failed");
      // A device that is lost stays so, with the worker that has it; and a program that failed is of no more use.
      if (failure.lost || failure.fatal) await this.restartTrainer();
    }
    await this.offerKept();
  }

  /// Ends the worker that trains, whatever it is doing, and starts another.
  async restartTrainer() {
    const { trainer, images, device } = this.#page;
    images.forget();
    device.forget();
    await trainer.restart();
  }

  status(name, ...values) {
    $("status").textContent = text(name, ...values);
  }

  #setState(state) {
    this.#page.state = state;
    const focused = document.activeElement;
    const isBusy = state !== "idle";
    $("start").hidden = isBusy;
    $("pause").hidden = $("stop").hidden = !isBusy;
    $("pause").textContent = text(state === "paused" ? "resume" : "pause");
    $("pause").disabled = $("stop").disabled = state === "stopping";
    document.body.dataset.state = state;
    // A button that is gone hands the keyboard to the one that takes its place.
    if (focused?.matches("button") && !focused.offsetParent) $(isBusy ? "pause" : "start").focus();
    this.#page.form.disabled = isBusy;
  }

  async #pause() {
    const { trainer, state } = this.#page;
    const { hasJspi } = await trainer.ready;
    if (state === "paused") {
      this.#setState("running");
      this.status("training");
      trainer.control("run");
    } else if (hasJspi) {
      this.status("pausing");
      trainer.control("pause");
    } else {
      await this.#stop();
    }
  }

  async #stop() {
    const { trainer } = this.#page;
    const { hasJspi } = await trainer.ready;
    this.#setState("stopping");
    this.status("stopping");
    if (hasJspi) trainer.control("stop");
    // Without JSPI no message gets through to a worker that computes: it ends, and the last checkpoint counts.
    else await this.restartTrainer();
  }

  /// What the program tells while it trains.
  on(event) {
    const { live, take, model } = this.#page;
    switch (event.type) {
      case "began":
        this.#epochs = event.epochs;
        this.status("training");
        live.began(event);
        break;
      case "progress":
        live.progress(event);
        break;
      case "batches":
        live.batches(event);
        break;
      case "epoch":
        live.epoch(event.report);
        if (event.report.epoch === this.#epochs) this.status("evaluating");
        break;
      case "weights":
        model.use(event.files.model);
        break;
      case "saved":
        this.#keep(event.files);
        take.update();
        break;
      case "files":
        this.#keep(event.files);
        if (event.files["model.safetensors"]) model.use(event.files["model.safetensors"]);
        break;
      case "paused":
        this.#setState("paused");
        this.status("paused");
        live.pause();
        break;
      case "event":
      case "warning":
        live.message(event.text);
        break;
    }
  }

  #keep(files) {
    if (!Object.keys(files).length) return;
    this.#page.files = files;
    this.#keeping = this.#keeping.then(() => storage.keep(files));
  }

  /// Offers the run that this browser keeps: to be continued, or what it came to.
  async offerKept() {
    await this.#keeping;
    const files = await storage.kept();
    if (!files.checkpoint) return;
    const { helper, take, model } = this.#page;
    try {
      await helper.call("remove_file", RUN);
      for (const [name, bytes] of Object.entries(files)) await helper.call("put_file", `${RUN}/${name}`, bytes);
      const { done, epochs } = await helper.call("saved_run", RUN);
      const isFinished = hasResult(files);
      $("kept-text").textContent = text(isFinished ? "finishedRun" : "savedRun", done);
      $("continue").hidden = isFinished;
      $("continue").textContent = text("continueRun", done, epochs);
      $("continue").onclick = () => this.resume(files).catch((failure) => this.#page.show(failure));
      $("kept").hidden = false;
      this.#page.files = files;
      take.update();
      if (files["model.safetensors"] && !this.#page.model.shown) await model.use(files["model.safetensors"]);
    } catch (failure) {
      console.warn("what is kept is no run:", failure);
      await storage.discard();
    }
  }
}

/// Whether a run came to its end: the last line of its metrics is then that of the test images.
function hasResult(files) {
  const lines = new TextDecoder().decode(files["metrics.jsonl"] ?? new Uint8Array()).trim().split("\n");
  return lines.at(-1).includes('"test_accuracy"');
}
