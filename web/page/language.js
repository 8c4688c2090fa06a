// The language of the page: its texts, and numbers and times as it writes them.

import { library } from "./library.js";
import { texts } from "./strings.js";

let current = "en";

/// The language of the page: the one chosen before, else the browser's, else English.
export function chooseLanguage(wanted) {
  const preferred = wanted ?? localStorage.getItem("language") ?? navigator.language.slice(0, 2);
  current = preferred in texts ? preferred : "en";
  if (wanted) localStorage.setItem("language", current);
  document.documentElement.lang = current;
  return current;
}

/// The text of a name; with arguments where it takes them.
export function text(name, ...values) {
  const found = texts[current][name] ?? texts.en[name] ?? name;
  return typeof found === "function" ? found(...values) : found;
}

/// A text of the program, which is in English, in the language of the page.
export function translated(english) {
  return library[current]?.[english] ?? english;
}

/// A number as the language writes it.
export function number(value, digits = 0) {
  return Number(value).toLocaleString(current, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/// A number with as many digits as matter, such as a learning rate.
export function significant(value, digits = 3) {
  return Number(value).toLocaleString(current, { maximumSignificantDigits: digits });
}

export function percent(share, digits = 1) {
  return Number(share).toLocaleString(current, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/// A time in seconds as people read it.
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} ${text("seconds")}`;
  const minutes = seconds / 60;
  if (minutes < 60) return `${Math.floor(minutes)} ${text("minutes")} ${Math.floor(seconds % 60)} ${text("seconds")}`;
  return `${Math.floor(minutes / 60)} ${text("hours")} ${Math.floor(minutes % 60)} ${text("minutes")}`;
}

/// Fills every element with `data-text` below `root`.
export function fill(root = document) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", text(element.dataset.label));
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
}
