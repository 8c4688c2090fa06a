// Line charts on a 2D canvas, in the colours of the page.

import { number } from "./language.js";

const PAD = { left: 46, right: 12, top: 10, bottom: 24 };

/// Round steps, at most `count` of them, from `low` to `high`.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return found;
}

export class Chart {
  #canvas;
  #series = [];
  #maxX = 1;
  #format;
  #range;
  #drawn = false;

  /// `format` writes a value of the y axis; `range` fixes its ends, where one is not null.
  constructor(canvas, { format = (value) => number(value, 2), range = [null, null] } = {}) {
    this.#canvas = canvas;
    this.#format = format;
    this.#range = range;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /// Series are { color, points: [[x, y]…], width, dots }; `color` is the name of a variable of the page's style.
  show(series, maxX) {
    this.#series = series;
    this.#maxX = Math.max(maxX, 1e-9);
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => {
      this.#drawn = false;
      this.draw();
    });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width || !height) return;
    const scale = devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    const context = this.#canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const values = this.#series.flatMap(({ points }) => points.map(([, y]) => y)).filter(Number.isFinite);
    let low = this.#range[0] ?? Math.min(...values, Infinity);
    let high = this.#range[1] ?? Math.max(...values, -Infinity);
    // Room above the highest line, where the end is open.
    if (this.#range[1] === null) high += (high - low) * 0.08;
    if (!values.length) [low, high] = [this.#range[0] ?? 0, this.#range[1] ?? 1];
    if (high - low < 1e-12) [low, high] = [low - Math.abs(low || 1) * 0.5, high + Math.abs(high || 1) * 0.5];
    const x = (value) => PAD.left + (value / this.#maxX) * (width - PAD.left - PAD.right);
    const y = (value) => height - PAD.bottom - ((value - low) / (high - low)) * (height - PAD.top - PAD.bottom);

    context.font = `12px ${style.getPropertyValue("--font")}`;
    context.lineWidth = 1;
    context.strokeStyle = color("line");
    context.fillStyle = color("muted");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const value of ticks(low, high, 4)) {
      context.beginPath();
      context.moveTo(PAD.left, Math.round(y(value)) + 0.5);
      context.lineTo(width - PAD.right, Math.round(y(value)) + 0.5);
      context.stroke();
      context.fillText(this.#format(value), PAD.left - 6, y(value));
    }
    context.textBaseline = "top";
    context.textAlign = "center";
    for (const value of ticks(0, this.#maxX, Math.min(8, Math.max(1, width / 70)))) {
      if (this.#maxX > 3 && value !== Math.round(value)) continue;
      context.fillText(number(value, value === Math.round(value) ? 0 : 1), x(value), height - PAD.bottom + 7);
    }
    context.lineJoin = "round";
    for (const { color: name, points, width: lineWidth = 2, dots = false } of this.#series) {
      context.strokeStyle = context.fillStyle = color(name);
      context.lineWidth = lineWidth;
      context.beginPath();
      let isOpen = false;
      for (const [px, py] of points) {
        if (!Number.isFinite(py)) {
          isOpen = false;
          continue;
        }
        const clamped = Math.min(Math.max(py, low), high);
        if (isOpen) context.lineTo(x(px), y(clamped));
        else context.moveTo(x(px), y(clamped));
        isOpen = true;
      }
      context.stroke();
      if (!dots) continue;
      for (const [px, py] of points.filter(([, py]) => Number.isFinite(py))) {
        context.beginPath();
        context.arc(x(px), y(Math.min(Math.max(py, low), high)), 3, 0, 2 * Math.PI);
        context.fill();
      }
    }
  }
}
