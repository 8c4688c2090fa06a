// Trying the network: an image that is drawn, dropped or taken from the test set, and its most probable classes.

import { canvasRgb, paintImage, readImage } from "./pictures.js";
import { percent, text } from "./strings.js";

const $ = (id) => document.getElementById(id);
const PEN = 22;
const SHOWN = 5;

export class Try {
  #page;
  #pixels = null;
  #shape = null;
  #isDrawing = false;
  #index = -1;
  #isBusy = false;
  #isStale = false;

  constructor(page) {
    this.#page = page;
    this.context = $("draw").getContext("2d", { willReadFrequently: true });
    this.#clear();
    const canvas = $("draw");
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#isDrawing = true;
      this.#line(event, true);
    };
    canvas.onpointermove = (event) => this.#isDrawing && this.#line(event);
    canvas.onpointerup = canvas.onpointercancel = () => (this.#isDrawing = false);
    $("clear").onclick = () => this.#clear();
    $("test-image").onclick = () => this.#testImage();
    $("image-file").onchange = ({ target }) => target.files[0] && this.#file(target.files[0]);
    $("model-file").onchange = ({ target }) => target.files[0] && this.#model(target.files[0]);
    this.#drop($("drop-image"), (file) => this.#file(file));
    this.#drop($("drop-model"), (file) => this.#model(file));
    $("invert").onchange = () => this.#again?.();
  }

  #again = null;

  #drop(area, take) {
    area.ondragover = (event) => {
      event.preventDefault();
      area.classList.add("over");
    };
    area.ondragleave = () => area.classList.remove("over");
    area.ondrop = (event) => {
      event.preventDefault();
      area.classList.remove("over");
      if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    };
  }

  open() {
    this.classify();
  }

  #clear() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, $("draw").width, $("draw").height);
    this.#pixels = null;
    $("classes").replaceChildren();
    $("seen-figure").hidden = true;
  }

  #line({ offsetX, offsetY }, isFirst = false) {
    const scale = $("draw").width / $("draw").clientWidth;
    const [x, y] = [offsetX * scale, offsetY * scale];
    const { context } = this;
    context.strokeStyle = "#fff";
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...(isFirst ? [x, y] : this.last));
    context.lineTo(x, y);
    context.stroke();
    this.last = [x, y];
    $("test-class").textContent = "";
    this.#again = () => this.#fit(canvasRgb($("draw")), false);
    this.#again();
  }

  async #file(file) {
    this.#showError(null);
    try {
      const image = await readImage(file);
      $("test-class").textContent = file.name;
      this.#again = () => this.#fit(image, $("invert").checked);
      await this.#again();
    } catch (failure) {
      this.#showError(failure);
    }
  }

  /// An image of any size, as the network takes it.
  async #fit({ width, height, rgb }, inverts) {
    if (!this.#page.model) return this.classify();
    const { pixels, shape } = await this.#page.helper.call("fitted", width, height, rgb, inverts);
    [this.#pixels, this.#shape] = [new Uint8Array(pixels), shape];
    await this.classify();
  }

  async #testImage() {
    this.#showError(null);
    try {
      const { test } = await this.#page.loadImages();
      this.#index = (this.#index + 1 + Math.floor(Math.random() * (test - 1))) % test;
      const { pixels, shape, class: name } = await this.#page.helper.call("test_image", this.#index);
      [this.#pixels, this.#shape] = [new Uint8Array(pixels), shape];
      this.#again = null;
      $("test-class").textContent = name;
      await this.classify();
    } catch (failure) {
      this.#showError(failure);
    }
  }

  async #model(file) {
    this.#showError(null);
    try {
      const bytes = new Uint8Array(await file.arrayBuffer());
      await this.#page.helper.call("put_file", "/opened/model.safetensors", bytes);
      this.#page.model = await this.#page.helper.call("open_model", "/opened/model.safetensors");
      await this.classify();
    } catch (failure) {
      this.#showError(failure);
    }
  }

  #showError(failure) {
    this.#page.show(failure, $("model-error"));
  }

  /// Classifies the image again: it or the weights have changed.
  async classify() {
    const { model } = this.#page;
    $("try-none").hidden = Boolean(model);
    $("model-line").hidden = !model;
    $("model-title").textContent = model ? model.title : "–";
    if (!model || !this.#pixels || $("try").hidden) return;
    if (String(model.shape) !== String(this.#shape)) return;
    // What changes meanwhile is classified after it.
    this.#isStale = this.#isBusy;
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      do {
        this.#isStale = false;
        $("seen-figure").hidden = false;
        paintImage($("seen"), this.#pixels, this.#shape);
        this.#show(await this.#page.helper.call("classify", this.#pixels));
      } while (this.#isStale);
    } catch (failure) {
      this.#showError(failure);
    } finally {
      this.#isBusy = false;
    }
  }

  #show({ classes, probabilities }) {
    const order = probabilities.map((probability, index) => [probability ?? 0, classes[index]]).sort(([a], [b]) => b - a);
    $("classes").replaceChildren(...order.slice(0, SHOWN).map(([probability, name]) => {
      const line = document.createElement("li");
      line.innerHTML = '<span></span><span class="bar"><i></i></span><span class="probability"></span>';
      line.children[0].textContent = name;
      line.querySelector("i").style.width = `${100 * probability}%`;
      line.children[2].textContent = percent(probability);
      return line;
    }));
    $("classes").setAttribute("aria-label", text("classes"));
  }
}
