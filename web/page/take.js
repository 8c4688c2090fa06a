// Taking a run along, and bringing one: the files of its folder.

import { $, element } from "./dom.js";
import { chosen, dropArea } from "./drop.js";
import { text } from "./language.js";
import { zip } from "./zip.js";

export class Take {
  #page;
  #brought = null;

  constructor(page) {
    this.#page = page;
    $("run-files").onchange = ({ target }) => target.files.length && this.#bring(chosen(target));
    dropArea($("drop-run"), (list) => this.#bring(list));
    $("run-resume").onclick = () => this.#resume();
  }

  /// Shows what of the run can be downloaded.
  update() {
    const { files } = this.#page;
    const offers = [
      ["model.safetensors", "fileModel", () => files["model.safetensors"]],
      ["config.toml", "fileConfig", () => files["config.toml"]],
      ["metrics.csv", "fileMetrics", () => this.#metrics()],
      ["model.onnx", "fileOnnx", () => this.#onnx()],
      ["report.html", "fileReport", () => files["report.html"]],
      ["run.zip", "fileZip", () => zip(files, "run")],
    ];
    const needs = { "metrics.csv": "metrics.jsonl", "model.onnx": "model.safetensors", "run.zip": "checkpoint" };
    const there = offers.filter(([name]) => files[needs[name] ?? name]);
    $("take-none").hidden = there.length > 0;
    $("downloads").replaceChildren(...there.map(([name, about, bytes]) => this.#offer(name, about, bytes)));
  }

  #offer(name, about, bytes) {
    const button = element("button", { type: "button", ariaLabel: `${text("download")} ${name}`, textContent: text("download") });
    button.dataset.file = name;
    button.onclick = async () => save(name, await bytes());
    const described = element("div", {}, element("code", {}, name), element("p", { className: "help" }, text(about)));
    return element("li", {}, described, button);
  }

  async #metrics() {
    const { helper, files } = this.#page;
    for (const name of ["config.toml", "metrics.jsonl"]) await helper.call("put_file", `/taken/${name}`, files[name]);
    return helper.call("metrics_csv", "/taken");
  }

  async #onnx() {
    const { helper, files } = this.#page;
    await helper.call("put_file", "/taken/model.safetensors", files["model.safetensors"]);
    await helper.call("export_onnx", "/taken/model.safetensors", "/taken/model.onnx");
    return helper.call("get_file", "/taken/model.onnx");
  }

  /// Reads the files of a run folder, and says what it is.
  async #bring(list) {
    this.#page.show(null, $("run-error"));
    $("run-go").hidden = true;
    $("run-read").textContent = "";
    try {
      if (!list.some(({ file }) => file.name === "checkpoint")) throw new Error(text("noCheckpoint"));
      const files = {};
      for (const { file } of list) files[file.name] = new Uint8Array(await file.arrayBuffer());
      const { helper } = this.#page;
      await helper.call("remove_file", "/brought");
      for (const [name, bytes] of Object.entries(files)) await helper.call("put_file", `/brought/${name}`, bytes);
      const { done, epochs, settings } = await helper.call("saved_run", "/brought");
      const network = settings.find(([name]) => name === "network.kind")?.[1] ?? "";
      $("run-read").textContent = text("runRead", done, epochs, network);
      $("run-epochs").value = epochs;
      $("run-go").hidden = false;
      this.#brought = files;
    } catch (failure) {
      this.#page.show(failure, $("run-error"));
    }
  }

  async #resume() {
    if (!$("run-epochs").reportValidity()) return;
    if (this.#page.state !== "idle") {
      this.#page.show({ message: text("busy") }, $("run-error"));
      return;
    }
    $("tab-train").click();
    try {
      await this.#page.run.resume(this.#brought, Number($("run-epochs").value));
    } catch (failure) {
      this.#page.show(failure);
    }
  }
}

function save(name, bytes) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(bytes instanceof Blob ? bytes : new Blob([bytes]));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
