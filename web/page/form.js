// The form of a run's settings, built from the program's own list: names, descriptions, defaults and words are its.

import { element } from "./dom.js";
import { chosen, dropArea } from "./drop.js";
import { number, text, translated } from "./language.js";

/// Settings that the page has fields of its own for.
const OWN = new Set(["data", "init", "device", "name"]);
/// Settings that are seen at once; the others are behind a fold.
const FIRST = new Set(["epochs", "batch_size", "lr", "early_stopping", "early_stopping.patience"]);
/// What short names are short for.
const WORDS = { lr: "learning rate", val: "validation", min: "minimum", max: "maximum", num: "number of", prob: "probability" };
/// Sections that are open at first.
const OPEN = new Set(["Data", "Network", "Training"]);
/// The data set of the bundled images.
export const BUNDLED = "fashion-mnist";
/// Choices whose own settings are seen at once.
const SHOWN_CHOICES = new Set(["dataset", "network", "schedule"]);

/// A setting's last name, as words in English.
export function title(name) {
  const last = name.split(".").pop().split("_").map((word) => WORDS[word] ?? word).join(" ");
  return last[0].toUpperCase() + last.slice(1);
}

export class Form {
  /// Every field: { setting, input, wrap, shown } by the setting's name.
  #fields = new Map();
  #sections;
  #data;

  constructor(root, sections, onChange) {
    this.#sections = sections;
    this.root = root;
    this.onChange = onChange;
    this.files = null;
    this.#build();
  }

  #build() {
    for (const section of this.#sections) {
      const body = element("div");
      if (section.heading === "Data") body.append(this.#dataField());
      for (const choice of section.choices) body.append(...this.#choice(choice));
      if (section.heading === "Network") body.append(this.#networkField());
      const common = section.settings.filter(({ name }) => !OWN.has(name));
      const [first, more] = [true, false].map((isFirst) => common.filter(({ name }) => FIRST.has(name) === isFirst).map((setting) => this.#field(setting)));
      body.append(...first);
      if (section.heading === "Run") body.append(this.#deviceField());
      const inner = section.choices.filter(({ name }) => !SHOWN_CHOICES.has(name)).map(({ name }) => this.#fields.get(name).inner);
      if (OPEN.has(section.heading) && more.length + inner.length) {
        body.append(element("details", { className: "more" }, element("summary", { textContent: text("more") }), element("div", {}, ...inner, ...more)));
      } else {
        body.append(...more);
      }
      const details = element("details", { open: OPEN.has(section.heading) && matchMedia("(min-width: 901px)").matches });
      details.append(element("summary", { textContent: translated(section.heading) }), body);
      this.root.append(details);
    }
    this.root.addEventListener("change", () => this.#changed());
    this.#changed(true);
  }

  #wrap(id, label, help, input) {
    const labelled = element("label", { htmlFor: id, textContent: translated(label) });
    const described = element("p", { className: "help", id: `${id}-help`, textContent: translated(help) });
    input.setAttribute("aria-describedby", described.id);
    return element("div", { className: "field" }, labelled, input, described);
  }

  #field(setting) {
    const { name, takes, words, help } = setting;
    const id = `set-${name.replaceAll(".", "-")}`;
    let input;
    let wrap;
    if (takes === "switch") {
      input = element("input", { type: "checkbox", id, checked: setting.default === "true" });
      const label = element("label", {}, input, element("span", { textContent: translated(title(name)) }));
      wrap = element("div", { className: "field switch" }, label, element("p", { className: "help", id: `${id}-help`, textContent: translated(help) }));
      input.setAttribute("aria-describedby", `${id}-help`);
    } else if (takes === "word") {
      input = element("select", { id });
      // One that has no default may be left open.
      const open = setting.default ? [] : [""];
      input.append(...[...open, ...words].map((word) => element("option", { value: word, textContent: word || "–" })));
      input.value = setting.default;
      wrap = this.#wrap(id, title(name), help, input);
    } else {
      input = element("input", { id, type: "text", value: setting.default, inputMode: takes === "number" || takes === "numbers" ? "decimal" : takes === "text" ? "text" : "numeric", spellcheck: false });
      wrap = this.#wrap(id, title(name), help, input);
    }
    Object.assign(input.dataset, { setting: name, takes });
    this.#fields.set(name, { setting, input, wrap });
    return wrap;
  }

  #choice(choice) {
    const id = `set-${choice.name}`;
    const input = element("select", { id });
    for (const entry of choice.entries) {
      // A list of layers has a field of its own.
      if (entry.name !== "layers") input.append(element("option", { value: entry.name, textContent: entry.name }));
    }
    input.value = choice.default;
    const wrap = this.#wrap(id, title(choice.name), choice.help, input);
    const inner = element("div", { className: "inner" });
    this.#fields.set(choice.name, { setting: { ...choice, takes: "choice" }, input, wrap, choice, inner });
    const show = () => {
      const chosen = choice.entries.find(({ name }) => name === input.value) ?? choice.entries[0];
      wrap.querySelector(".help").textContent = `${translated(choice.help)}${text("colon")}${translated(chosen.about)}`;
      for (const name of [...this.#fields.keys()].filter((name) => name.startsWith(`${choice.name}.`))) this.#fields.delete(name);
      inner.replaceChildren(...[...chosen.settings, ...choice.common].map((setting) => this.#field(setting)));
      const rate = this.#fields.get("lr")?.input;
      if (rate && choice.name === "optimizer") rate.placeholder = String(chosen.lr);
    };
    input.addEventListener("change", show);
    show();
    // Fields of later sections are not there yet.
    if (choice.name === "optimizer") queueMicrotask(show);
    return SHOWN_CHOICES.has(choice.name) ? [wrap, inner] : [wrap];
  }

  #dataField() {
    const select = element("select", { id: "images" });
    select.append(element("option", { value: "bundled", textContent: text("imagesBundled") }), element("option", { value: "own", textContent: text("imagesOwn") }));
    const files = element("input", { type: "file", multiple: true, id: "data-files" });
    const folder = element("input", { type: "file", webkitdirectory: true, id: "data-folder" });
    const taken = element("p", { className: "help", role: "status" });
    const drop = element("div", { className: "drop", id: "drop-data" },
      element("strong", { textContent: text("dropTitle") }),
      element("label", { className: "check" }, `${text("chooseFiles")} `, files),
      element("label", { className: "check" }, `${text("chooseFolder")} `, folder));
    const own = element("div", { className: "field", hidden: true }, drop, element("p", { className: "help", textContent: text("dropHelp") }), taken);
    const take = (list) => {
      this.files = list;
      const bytes = list.reduce((sum, { file }) => sum + file.size, 0);
      const dataset = guess(list.map(({ path }) => path));
      if (dataset) this.set("dataset", dataset);
      taken.textContent = text("filesTaken", number(list.length), `${number(bytes / 1e6, 1)} MB`);
      this.#changed();
    };
    for (const input of [files, folder]) input.addEventListener("change", () => input.files.length && take(chosen(input)));
    dropArea(drop, take);
    select.addEventListener("change", () => {
      own.hidden = select.value !== "own";
    });
    this.#data = select;
    return element("div", {}, this.#wrapPlain("images", text("images"), select), own);
  }

  #networkField() {
    this.layers = element("textarea", { id: "layers-file", placeholder: text("networkFilePlaceholder"), spellcheck: false });
    this.layers.setAttribute("aria-label", text("networkFile"));
    return element("details", { className: "field" }, element("summary", { textContent: text("networkFile") }), this.layers);
  }

  #deviceField() {
    this.device = element("select", { id: "compute-on" });
    this.device.append(...["auto", "gpu", "cpu"].map((value) => element("option", { value, textContent: text(value) })));
    return this.#wrapPlain("compute-on", text("computeOn"), this.device);
  }

  #wrapPlain(id, label, input) {
    return element("div", { className: "field" }, element("label", { htmlFor: id, textContent: label }), input);
  }

  /// Whether the images are files of the reader's.
  get usesOwnImages() {
    return this.#data.value === "own";
  }

  set usesOwnImages(isOwn) {
    this.#data.value = isOwn ? "own" : "bundled";
    this.#data.dispatchEvent(new Event("change", { bubbles: true }));
  }

  #changed(isFirst = false) {
    const dataset = this.#fields.get("dataset");
    for (const part of [dataset.wrap, dataset.inner]) part.hidden = !this.usesOwnImages;
    if (!this.usesOwnImages) dataset.input.value = BUNDLED;
    if (!isFirst) this.onChange();
  }

  /// Names and texts of what differs from the defaults.
  given() {
    const given = [];
    for (const [name, { setting, input }] of this.#fields) {
      const value = setting.takes === "switch" ? String(input.checked) : input.value.trim();
      if (value !== setting.default && !(value === "" && setting.takes !== "text")) given.push([name, value]);
    }
    if (this.layers.value.trim()) {
      // A file of layers takes the place of the choice and its settings.
      return [...given.filter(([name]) => name.split(".")[0] !== "network"), ["network", "/network.toml"]];
    }
    return given;
  }

  /// Sets every setting to its default.
  reset() {
    this.layers.value = "";
    for (const choice of this.#sections.flatMap(({ choices }) => choices)) this.set(choice.name, choice.default);
    for (const [name, { setting, choice }] of this.#fields) if (!choice) this.set(name, setting.default);
  }

  /// Sets a field, as a test or a saved run has it.
  set(name, value) {
    const { input } = this.#fields.get(name) ?? {};
    if (!input) return;
    if (input.type === "checkbox") input.checked = value === true || value === "true";
    else input.value = value;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  /// Marks the field of the setting that an error names, and shows it.
  mark(failure) {
    for (const { wrap } of this.#fields.values()) {
      wrap.classList.remove("wrong");
      wrap.querySelector(".error")?.remove();
    }
    const field = failure?.setting && (this.#fields.get(failure.setting) ?? [...this.#fields].find(([name]) => name.split(".").pop() === failure.setting)?.[1]);
    if (!field) return false;
    field.wrap.classList.add("wrong");
    field.wrap.append(element("p", { className: "error", textContent: failure.message }));
    for (let fold = field.wrap.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    return true;
  }

  /// While a run is under way; after it a setting that is wrong has the focus.
  set disabled(value) {
    this.root.disabled = value;
    if (!value) this.root.querySelector(".wrong :is(input, select)")?.focus();
  }
}

/// The data set that files with such names are of, where that tells.
function guess(paths) {
  const some = (pattern) => paths.some((path) => pattern.test(path.split("/").pop()));
  if (some(/\.(png|jpe?g)$/i)) return "folder";
  if (some(/^(data|test)_batch/)) return "cifar10";
  if (some(/^(train|test)\.bin$/)) return "cifar100";
  if (some(/^emnist-/)) return "emnist";
  return null;
}
