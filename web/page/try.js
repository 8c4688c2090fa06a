// Trying the network: an image that is drawn, dropped or taken from the test set, and its most probable classes.

import { $ } from "./dom.js";
import { chosen, dropArea } from "./drop.js";
import { percent, text } from "./language.js";
import { canvasRgb, paintImage, readImage } from "./pictures.js";

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
    $("image-file").onchange = ({ target }) => target.files[0] && this.#file(chosen(target)[0].file);
    $("model-file").onchange = ({ target }) => target.files[0] && this.#model(chosen(target)[0].file);
    dropArea($("drop-image"), ([{ file }]) => this.#file(file));
    dropArea($("drop-model"), ([{ file }]) => this.#model(file));
    $("invert").onchange = () => this.#again?.();
  }

  #again = null;

  open() {
    if (this.#again) this.#again();
    else this.classify();
  }

  #clear() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, $("draw").width, $("draw").height);
    this.#pixels = this.#again = null;
    $("test-class").textContent = "";
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
    this.#page.show(null, $("image-error"));
    try {
      const image = await readImage(file).catch(() => {
        throw new Error(text("noImage", file.name));
      });
      $("test-class").textContent = file.name;
      this.#again = () => this.#fit(image, $("invert").checked);
      await this.#again();
    } catch (failure) {
      this.#page.show(failure, $("image-error"));
    }
  }

  /// An image of any size, as the network takes it.
  async #fit({ width, height, rgb }, inverts) {
    if (!this.#page.model.shown) return this.classify();
    const { pixels, shape } = await this.#page.helper.call("fitted", width, height, rgb, inverts);
    [this.#pixels, this.#shape] = [new Uint8Array(pixels), shape];
    await this.classify();
  }

  async #testImage() {
    this.#page.show(null, $("image-error"));
    try {
      const { test } = await this.#page.images.load();
      this.#index = (this.#index + 1 + Math.floor(Math.random() * (test - 1))) % test;
      const { pixels, shape, class: name } = await this.#page.helper.call("test_image", this.#index);
      [this.#pixels, this.#shape] = [new Uint8Array(pixels), shape];
      this.#again = null;
      $("test-class").textContent = name;
      await this.classify();
    } catch (failure) {
      this.#page.show(failure, $("image-error"));
    }
  }

  async #model(file) {
    this.#page.show(null, $("model-error"));
    this.#page.show(null, $("image-error"));
    try {
      await this.#page.model.open(new Uint8Array(await file.arrayBuffer()));
      this.open();
    } catch (failure) {
      this.#page.show(failure, $("model-error"));
    }
  }

  /// Classifies the image again: it or the weights have changed.
  async classify() {
    const model = this.#page.model.shown;
    $("try-none").hidden = Boolean(model);
    $("model-line").hidden = !model;
    $("model-line").textContent = model ? `${text("modelNow")}${text("colon")}${model.title}` : "";
    if (!model || !this.#pixels || $("try").hidden) return;
    if (String(model.shape) !== String(this.#shape)) {
      $("classes").replaceChildren();
      this.#page.show(new Error(text("otherShape", model.shape.join(" × "), this.#shape.join(" × "))), $("image-error"));
      return;
    }
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
      this.#page.show(failure, $("model-error"));
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
