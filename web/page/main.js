// The page: two workers, the form, and what is shown of a run.

import { Chart } from "./charts.js";
import { Client } from "./client.js";
import { Form } from "./form.js";
import { Inside } from "./inside.js";
import { Live } from "./live.js";
import * as storage from "./storage.js";
import { chooseLanguage, fill, languages, number, percent, text } from "./strings.js";
import { Take } from "./take.js";
import { Try } from "./try.js";

const $ = (id) => document.getElementById(id);
const RUN = "/run";
const OWN_DATA = "/data";

/// What the parts of the page share.
const page = {
  trainer: new Client((event) => onEvent(event)),
  helper: new Client(),
  form: null,
  /// "idle", "running", "paused" or "stopping".
  state: "idle",
  device: null,
  /// The files of the run that was trained last, by name.
  files: {},
  /// Settled when what was to be kept is.
  keeping: Promise.resolve(),
  given: () => JSON.stringify(settings()),
  show: showError,
};

function settings() {
  const given = page.form.given();
  if (page.form.usesOwnImages) given.push(["data", OWN_DATA]);
  return given;
}

// ---- choices of the page itself

function setUpChoices() {
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
    live.redraw();
  };
  $("theme").value = theme;
  $("theme").onchange = ({ target }) => {
    localStorage.setItem("theme", target.value);
    apply(target.value);
  };
  fill();
  apply(theme);
}

function setUpTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const other of tabs) {
      const isChosen = other === tab;
      other.setAttribute("aria-selected", String(isChosen));
      other.tabIndex = isChosen ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = !isChosen;
    }
    if (tab.id === "tab-inside") inside.open();
    if (tab.id === "tab-try") trial.open();
  };
  for (const [index, tab] of tabs.entries()) {
    tab.onclick = () => choose(tab);
    tab.onkeydown = ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      choose(next);
    };
  }
}

// ---- the device

async function openDevice(wanted) {
  const { hasJspi, hasGpu, hasAdapter } = await page.trainer.ready;
  const canUseGpu = hasJspi && hasAdapter;
  const device = await page.trainer.call("open_device", canUseGpu ? wanted : "cpu");
  page.device = device;
  $("device-name").textContent = device.is_gpu ? `${device.name} (${device.kind})` : text("cpu");
  $("device-reason").textContent = canUseGpu ? device.reason : "";
  $("device-dot").className = `dot ${device.is_gpu ? "gpu" : "cpu"}`;
  $("device-limits").replaceChildren(...device.limits.flatMap(([name, value]) => [term("dt", name), term("dd", number(value))]));
  $("device-limits").append(term("dt", text("deviceWhy").features), term("dd", device.features.join(", ") || text("deviceWhy").none));
  $("device-details").hidden = !device.is_gpu;
  $("device-notice").hidden = canUseGpu;
  $("device-notice").textContent = canUseGpu ? "" : text(hasAdapter ? "noJspi" : hasGpu ? "noAdapter" : "noGpu");
  return device;
}

/// Opens the device that the form asks for, where it is another one.
async function useDevice() {
  const wanted = page.form.device.value;
  if (wanted !== page.opened) await openDevice(wanted);
  page.opened = wanted;
}

page.useDevice = useDevice;

function term(tag, content) {
  return Object.assign(document.createElement(tag), { textContent: content });
}

// ---- images

let loaded = null;

/// Brings the images that the form asks for to both workers; gives what they are.
async function loadImages() {
  const { form } = page;
  const key = form.usesOwnImages ? form.files : "bundled";
  if (loaded !== key) {
    loaded = null;
    for (const client of [page.trainer, page.helper]) {
      if (form.usesOwnImages) await putFiles(client, form.files ?? []);
      else await client.call("fetchBundled");
    }
    loaded = key;
  }
  await putNetwork();
  return page.helper.call("load_data", page.given());
}

/// A folder that was chosen as a whole has its own name in front, which is no class.
async function putFiles(client, files) {
  await client.call("remove_file", OWN_DATA);
  const first = (path) => path.split("/")[0];
  const isOneFolder = files.every(({ path }) => path.includes("/") && first(path) === first(files[0].path));
  for (const { path, file } of files) {
    const name = isOneFolder ? path.slice(first(path).length + 1) : path;
    await client.call("put_file", `${OWN_DATA}/${name}`, new Uint8Array(await file.arrayBuffer()));
  }
}

/// The reader's own network is a file, as `lenet` takes it.
async function putNetwork() {
  const layers = page.form.layers.value;
  if (!layers.trim()) return;
  for (const client of [page.trainer, page.helper]) await client.call("put_file", "/network.toml", new TextEncoder().encode(layers));
}

page.putNetwork = putNetwork;
page.loadImages = loadImages;

// ---- a run

function showError(failure, place = $("error")) {
  place.hidden = !failure;
  // Below the first line of a lost device's message is the browser's own account of it.
  place.textContent = failure ? (failure.lost ? failure.message.split("\n")[0] : failure.message) : "";
  if (failure?.fatal) console.error(failure);
}

function setState(state) {
  page.state = state;
  const isBusy = state !== "idle";
  $("start").hidden = isBusy;
  $("pause").hidden = $("stop").hidden = !isBusy;
  $("pause").textContent = text(state === "paused" ? "resume" : "pause");
  $("pause").disabled = $("stop").disabled = state === "stopping";
  page.form.disabled = isBusy;
  document.body.dataset.state = state;
}

function status(name, ...values) {
  $("status").textContent = text(name, ...values);
}

/// Runs `call` of the trainer from its beginning to its end.
async function run(prepare, call) {
  showError(null);
  page.form.mark(null);
  setState("running");
  // What is asked from here on is for this run, although it may not have begun.
  page.trainer.control("run");
  $("result").hidden = true;
  $("kept").hidden = true;
  try {
    status("loadingData");
    const data = await prepare();
    live.setData(data);
    await useDevice();
    status("preparing");
    const result = await call();
    live.finish(result);
    take.update();
    status("finished", percent(result.outcome.test_accuracy, 2));
    await page.keeping;
    await storage.discard();
  } catch (failure) {
    if (failure.interrupted) {
      status("stopped");
      await offerKept();
    } else {
      const isMarked = page.form.mark(failure);
      showError(failure);
      status(failure.lost ? "lost" : isMarked ? "settingWrong" : "failed");
      if (failure.lost || failure.fatal) await recover();
    }
    take.update();
  } finally {
    live.end();
    setState("idle");
  }
}

/// A device that is lost stays so, with the worker that has it; and a program that failed is of no more use.
async function recover() {
  await restartTrainer();
  await offerKept();
}

async function restartTrainer() {
  await page.trainer.restart();
  loaded = null;
  page.opened = null;
}

function start() {
  live.begin([]);
  page.files = {};
  return run(async () => {
    const data = await loadImages();
    const { network, parameters } = await page.helper.call("check", page.given());
    live.message(`${network}, ${text("parameters", number(parameters))}`);
    await storage.discard();
    return data;
  }, () => page.trainer.call("train", page.given(), RUN));
}

/// Continues the run whose files these are; `epochs` of 0 are as many as it was to have.
async function resume(files, epochs = 0) {
  const client = page.trainer;
  await client.call("remove_file", RUN);
  for (const [name, bytes] of Object.entries(files)) await client.call("put_file", `${RUN}/${name}`, bytes);
  const saved = await client.call("saved_run", RUN);
  for (const [name, value] of saved.settings) page.form.set(name.replace(/\.kind$/, ""), value);
  live.begin(saved.history);
  page.files = files;
  const data = page.form.usesOwnImages ? OWN_DATA : "";
  await run(loadImages, () => client.call("resume", RUN, epochs, data));
}

page.resume = resume;
page.restartTrainer = restartTrainer;

function keep(files) {
  page.keeping = page.keeping.then(() => storage.keep(files));
}

async function offerKept() {
  await page.keeping;
  const files = await storage.kept();
  if (!files.checkpoint) return;
  try {
    await page.helper.call("remove_file", RUN);
    for (const [name, bytes] of Object.entries(files)) await page.helper.call("put_file", `${RUN}/${name}`, bytes);
    const { done, epochs } = await page.helper.call("saved_run", RUN);
    $("continue").textContent = text("continueRun", done, epochs);
    $("continue").onclick = () => resume(files).catch(showError);
    $("kept").hidden = false;
    page.files = files;
    take.update();
  } catch (failure) {
    console.warn("what is kept is no run:", failure);
    await storage.discard();
  }
}

async function pause() {
  const { hasJspi } = await page.trainer.ready;
  if (page.state === "paused") {
    setState("running");
    status("training");
    page.trainer.control("run");
    return;
  }
  if (!hasJspi) return stop();
  status("pausing");
  page.trainer.control("pause");
}

async function stop() {
  const { hasJspi } = await page.trainer.ready;
  setState("stopping");
  status("stopping");
  if (hasJspi) page.trainer.control("stop");
  // Without JSPI no message gets through to a worker that computes: it ends, and the last checkpoint counts.
  else await restartTrainer();
}

function onEvent(event) {
  switch (event.type) {
    case "began":
      status("training");
      live.began(event);
      break;
    case "progress":
      live.progress(event);
      if (event.done === event.images && page.state === "running") status("training");
      break;
    case "batches":
      live.batches(event);
      break;
    case "epoch":
      live.epoch(event.report);
      break;
    case "weights":
      useModel(event.files.model);
      break;
    case "saved":
      page.files = event.files;
      take.update();
      keep(event.files);
      break;
    case "files":
      page.files = event.files;
      if (event.files["model.safetensors"]) useModel(event.files["model.safetensors"]);
      if (page.state === "stopping") keep(event.files);
      break;
    case "paused":
      setState("paused");
      status("paused");
      live.pause();
      break;
    case "event":
    case "warning":
      live.message(event.text);
      break;
  }
}

// ---- the model that is there

let isOpening = false;

/// Shows a model: filters, activations and predictions follow it. Weights that come meanwhile are left out.
async function useModel(bytes) {
  if (isOpening) return;
  isOpening = true;
  try {
    await page.helper.call("put_file", "/live/model.safetensors", bytes);
    const model = await page.helper.call("open_model", "/live/model.safetensors");
    page.model = model;
    await live.look();
    await trial.classify();
  } catch (failure) {
    console.warn("the weights cannot be shown:", failure);
  } finally {
    isOpening = false;
  }
}

page.useModel = useModel;

// ---- everything together

const live = new Live(page, {
  loss: new Chart($("chart-loss"), { range: [0, null] }),
  accuracy: new Chart($("chart-accuracy"), { format: (value) => percent(value, 0), range: [0, 1] }),
  rate: new Chart($("chart-rate"), { format: (value) => value.toPrecision(2), range: [0, null] }),
});
const inside = new Inside(page);
const trial = new Try(page);
const take = new Take(page);

async function begin() {
  setUpChoices();
  setUpTabs();
  $("start").onclick = () => start();
  $("pause").onclick = () => pause();
  $("stop").onclick = () => stop();
  $("discard").onclick = async () => {
    await storage.discard();
    $("kept").hidden = true;
  };
  $("form").onsubmit = (event) => event.preventDefault();
  page.form = new Form($("fields"), await page.helper.call("describe"), () => {
    loadedSettingsChanged();
  });
  page.opened = "auto";
  await openDevice("auto");
  await offerKept();
  $("start").disabled = false;
  document.body.dataset.state = "idle";
  window.wgrad = page;
}

/// What was shown of other settings is out of date.
function loadedSettingsChanged() {
  inside.forget();
}

begin().catch((failure) => {
  status("failed");
  showError(failure);
});
