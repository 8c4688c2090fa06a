// What the reader chooses of the page itself: language, colours, and which part of it is seen.

import { $ } from "./dom.js";
import { chooseLanguage, fill } from "./language.js";
import { languages } from "./strings.js";

/// Language and colours; `redraw` is called when the colours are others.
export function setUpChoices(redraw) {
  const language = chooseLanguage();
  $("language").append(...Object.entries(languages).map(([value, name]) => new Option(name, value, false, value === language)));
  $("language").onchange = ({ target }) => {
    chooseLanguage(target.value);
    location.reload();
  };
  const theme = localStorage.getItem("theme") ?? "auto";
  const apply = (value) => {
    if (value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
    redraw();
  };
  $("theme").value = theme;
  $("theme").onchange = ({ target }) => {
    localStorage.setItem("theme", target.value);
    apply(target.value);
  };
  fill();
  apply(theme);
}

/// The tabs, as the ARIA pattern of tabs has them; `opened` is called with the one that was chosen.
export function setUpTabs(opened) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const other of tabs) {
      const isChosen = other === tab;
      other.setAttribute("aria-selected", String(isChosen));
      other.tabIndex = isChosen ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = !isChosen;
    }
    opened(tab.id);
  };
  for (const [index, tab] of tabs.entries()) {
    tab.onclick = () => choose(tab);
    tab.onkeydown = ({ key }) => {
      const last = tabs.length - 1;
      const next = { ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index === 0 ? last : index - 1, Home: 0, End: last }[key];
      if (next === undefined) return;
      tabs[next].focus();
      choose(tabs[next]);
    };
  }
}
