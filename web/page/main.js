// The page: two workers, the form, and what is shown of a run.

import { Chart } from "./charts.js";
import { setUpChoices, setUpTabs } from "./choices.js";
import { Client } from "./client.js";
import { Device } from "./device.js";
import { $ } from "./dom.js";
import { Form } from "./form.js";
import { Images, OWN_DATA } from "./images.js";
import { Inside } from "./inside.js";
import { percent, significant } from "./language.js";
import { Live } from "./live.js";
import { Model } from "./model.js";
import { Run } from "./run.js";
import { Take } from "./take.js";
import { Try } from "./try.js";

/// What the parts of the page share; each part gets it, and is in it under its name.
const page = {
  /// The worker that trains, and the one that answers meanwhile.
  trainer: new Client((event) => page.run.on(event)),
  helper: new Client(),
  /// "idle", "running", "paused" or "stopping".
  state: "idle",
  /// The files of the run that was trained last, by name.
  files: {},
  form: null,

  /// The settings of the form for the program.
  given() {
    const given = page.form.given();
    if (page.form.usesOwnImages) given.push(["data", OWN_DATA]);
    return JSON.stringify(given);
  },

  /// Says what went wrong; nothing, where `failure` is null.
  show(failure, place = $("error")) {
    place.hidden = !failure;
    // What follows in a lost device's message is the browser's own account of it.
    const message = failure?.lost ? failure.message.split(/: |\n/)[0] : failure?.message ?? "";
    // The folders are the workers', and no reader's.
    place.textContent = message.replaceAll(/(^|\s)\/(?:(?:data|brought|opened|run)\/|(?=network\.toml))/g, "$1").replace(/^: /, "");
    if (failure?.fatal) console.error(failure);
  },
};

page.images = new Images(page);
page.device = new Device(page.trainer);
page.model = new Model(page);
page.live = new Live(page, {
  loss: new Chart($("chart-loss"), { range: [0, null] }),
  accuracy: new Chart($("chart-accuracy"), { format: (value) => percent(value, 0), range: [0, 1] }),
  rate: new Chart($("chart-rate"), { format: (value) => significant(value, 2), range: [0, null] }),
});
page.inside = new Inside(page);
page.trial = new Try(page);
page.take = new Take(page);
page.run = new Run(page);

async function begin() {
  setUpChoices(() => page.live.redraw());
  setUpTabs((tab) => {
    if (tab === "tab-inside") page.inside.open();
    if (tab === "tab-try") page.trial.open();
  });
  // A file that misses its place would take the page's.
  for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
  $("form").onsubmit = (event) => event.preventDefault();
  // What was shown of other settings is out of date.
  page.form = new Form($("fields"), await page.helper.call("describe"), () => page.inside.forget());
  await page.device.use("auto");
  await page.run.offerKept();
  $("start").disabled = false;
  document.body.dataset.state = "idle";
  // What a test reaches the page by.
  window.wgrad = page;
  keepForOffline();
}

/// The page works without a connection from its second visit on. Where it cannot be kept, it is fetched as ever.
function keepForOffline() {
  navigator.serviceWorker?.register("sw.js").catch((error) => console.warn("the page is not kept for offline use:", error));
}

begin().catch((failure) => {
  page.run.status("failed");
  page.show(failure);
});
