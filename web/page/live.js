// A run as it goes: numbers, curves, table of epochs, filters and activations, and at the end the confusion matrix.

import { $, element } from "./dom.js";
import { duration, number, percent, significant, text } from "./language.js";
import { filterCanvases, mapCanvases, paintImage } from "./pictures.js";

/// Points of a curve of batches: more than a screen has columns is no use.
const MOST_POINTS = 1200;

export class Live {
  #page;
  #charts;
  #epochs = [];
  #batchLoss = [];
  #batchAccuracy = [];
  #rates = [];
  #run = null;
  #pixels = null;
  #shape = null;

  constructor(page, charts) {
    this.#page = page;
    this.#charts = charts;
    $("image").oninput = () => this.#chooseImage();
  }

  /// A run begins, with the epochs that it has already.
  begin(epochs) {
    this.#epochs = [...epochs];
    this.#batchLoss = [];
    this.#batchAccuracy = [];
    this.#rates = epochs.map(({ epoch, lr }) => [epoch - 1, lr]);
    this.#run = null;
    $("messages").replaceChildren();
    $("progress").value = 0;
    for (const id of ["epoch", "speed", "rate", "left"]) $(`number-${id}`).textContent = "–";
    $("result").hidden = true;
    this.#table();
    this.redraw();
  }

  setData({ test }) {
    $("image-choice").hidden = false;
    $("image").max = test - 1;
    this.#chooseImage();
  }

  began(run) {
    this.#run = { ...run, startedAt: performance.now(), doneBefore: null };
    this.redraw();
  }

  progress({ epoch, done, images }) {
    const { epochs } = this.#run;
    const total = (epoch - 1) * images + done;
    const now = performance.now();
    this.#run.first ??= { total: total - done, at: this.#run.startedAt };
    // The speed of the last seconds: the first steps also compile kernels.
    this.#run.recent = [...(this.#run.recent ?? []), [now, total]].filter(([at]) => now - at < 8000);
    const [[firstAt, firstTotal]] = this.#run.recent;
    const speed = now - firstAt > 300 ? ((total - firstTotal) / (now - firstAt)) * 1000 : null;
    $("progress").value = total / (epochs * images);
    $("number-epoch").textContent = `${epoch} / ${epochs}`;
    if (speed) {
      $("number-speed").textContent = number(speed);
      $("number-left").textContent = duration((epochs * images - total) / speed);
    }
  }

  batches({ epoch, first, loss, accuracy, lr }) {
    const at = (index) => epoch - 1 + (first + index + 1) / this.#run.batches;
    this.#batchLoss = thin([...this.#batchLoss, ...loss.map((value, index) => [at(index), value ?? NaN])]);
    this.#batchAccuracy = thin([...this.#batchAccuracy, ...accuracy.map((value, index) => [at(index), value ?? NaN])]);
    this.#rates = thin([...this.#rates, [at(loss.length - 1), lr]]);
    $("number-rate").textContent = significant(lr);
    this.redraw();
  }

  epoch(report) {
    this.#epochs.push(report);
    this.#table();
    this.redraw();
  }

  message(line) {
    $("messages").prepend(element("li", { textContent: line }));
  }

  pause() {
    if (this.#run) this.#run.recent = [];
    $("number-left").textContent = "–";
  }

  end() {
    $("number-left").textContent = "–";
  }

  redraw() {
    const maxX = Math.max(this.#run?.epochs ?? 1, this.#epochs.length, 1);
    // A long run is shown as far as it has come, and a little more.
    const reached = Math.max(this.#epochs.length, this.#batchLoss.at(-1)?.[0] ?? 0);
    const shown = Math.min(maxX, Math.max(3, Math.ceil(reached * 1.15)));
    const points = (of) => this.#epochs.map((report) => [report.epoch, of(report) ?? NaN]);
    const curves = (batches, train, validation) => [
      { color: "batch", points: smooth(batches), width: 1.5 },
      { color: "train", points: points(train), dots: true },
      { color: "validation", points: points(validation), dots: true },
    ];
    this.#charts.loss.show(curves(this.#batchLoss, (r) => r.train_loss, (r) => r.val_loss), shown);
    this.#charts.accuracy.show(curves(this.#batchAccuracy, (r) => r.train_accuracy, (r) => r.val_accuracy), shown);
    this.#charts.rate.show([{ color: "train", points: this.#rates }], shown);
    const last = this.#epochs.at(-1);
    if (!last) return;
    const say = (id, name, value) => $(id).setAttribute("aria-label", `${text(name)}: ${text("epoch")} ${last.epoch}, ${text("validation")} ${value}`);
    say("chart-loss", "loss", number(last.val_loss, 4));
    say("chart-accuracy", "accuracy", percent(last.val_accuracy, 2));
  }

  #table() {
    $("epochs-card").hidden = !this.#epochs.length;
    const best = this.#epochs.findLast(({ is_best: isBest }) => isBest)?.epoch;
    const row = (report) => {
      const cells = [number(report.train_loss, 4), percent(report.train_accuracy, 2), number(report.val_loss, 4), percent(report.val_accuracy, 2), significant(report.lr), number(report.images_per_second)];
      const first = element("td", {}, String(report.epoch));
      if (report.epoch === best) first.append(element("span", { className: "badge", textContent: text("best") }));
      return element("tr", { className: report.epoch === best ? "best" : "" }, first, ...cells.map((cell) => element("td", { textContent: cell })));
    };
    $("epochs").tBodies[0].replaceChildren(...this.#epochs.toReversed().map(row));
  }

  async #chooseImage() {
    const index = Number($("image").value);
    $("image-number").textContent = index;
    try {
      const { pixels, shape, class: name } = await this.#page.helper.call("test_image", index);
      [this.#pixels, this.#shape] = [new Uint8Array(pixels), shape];
      paintImage($("image-shown"), this.#pixels, shape);
      $("image-class").textContent = name;
      await this.look();
    } catch (failure) {
      console.warn(failure);
    }
  }

  /// Filters of the first layer, and what the layers make of the chosen image.
  async look() {
    const model = this.#page.model.shown;
    if (!this.#pixels || String(model?.shape) !== String(this.#shape)) return;
    const { filters, layers } = await this.#page.helper.call("look", this.#pixels);
    if (filters) $("filters").replaceChildren(...filterCanvases(filters));
    $("layers").replaceChildren(...layers.map((layer) => element("div", { className: "layer" },
      element("h3", { textContent: `${layer.label}  ${layer.channels} × ${layer.height} × ${layer.width}` }),
      element("div", {}, ...mapCanvases(layer)))));
  }

  /// The confusion matrix and the mistakes of a run that came to its end.
  finish({ confusion, classes, mistakes, shape, outcome, has_report: hasReport }) {
    $("result").hidden = false;
    $("progress").value = 1;
    const report = this.#page.files["report.html"];
    $("report").hidden = !hasReport || !report;
    if (report) $("report").href = URL.createObjectURL(new Blob([report], { type: "text/html" }));
    const head = element("tr", {}, element("th"), ...classes.map((name) => element("th", { scope: "col" }, element("span", { textContent: name }))));
    const rows = confusion.map((row, label) => {
      const total = row.reduce((sum, count) => sum + count, 0) || 1;
      const cell = (count, predicted) => {
        const made = element("td", { textContent: count || "" });
        const share = Math.round((count / total) * 100);
        const color = label === predicted ? "train" : "wrong";
        made.style.background = `color-mix(in srgb, var(--${color}) ${share ? Math.max(share, 6) : 0}%, var(--page))`;
        if (share > 55) made.style.color = "var(--on-accent)";
        made.title = `${classes[label]} → ${classes[predicted]}: ${count}`;
        return made;
      };
      return element("tr", {}, element("th", { scope: "row", textContent: classes[label] }), ...row.map(cell));
    });
    $("confusion").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
    $("mistakes").replaceChildren(...mistakes.map(({ pixels, label, predicted, probability }) => {
      const canvas = paintImage(element("canvas", { className: "pixels" }), pixels, shape);
      return element("figure", {}, canvas, element("figcaption", {}, `${text("trueClass")} ${classes[label]}, ${text("takenFor")} `,
        element("span", { className: "taken", textContent: `${classes[predicted]} (${percent(probability, 0)})` })));
    }));
    this.message(`${text("loss")} ${number(outcome.test_loss, 4)}, ${text("accuracy")} ${percent(outcome.test_accuracy, 2)}; ${outcome.stopped}`);
  }
}

/// Every other point, once there are many.
function thin(points) {
  return points.length > 2 * MOST_POINTS ? points.filter((_, index) => index % 2 === 1) : points;
}

/// Means over neighbours, so that noise does not hide the course.
function smooth(points) {
  const width = Math.max(1, Math.round(points.length / 150));
  if (width < 2) return points;
  const smoothed = [];
  for (let first = 0; first < points.length; first += width) {
    const group = points.slice(first, first + width);
    const mean = (of) => group.reduce((sum, point) => sum + point[of], 0) / group.length;
    smoothed.push([mean(0), mean(1)]);
  }
  return smoothed;
}
