// The device that the trainer computes on, and what the page says of it.

import { $, element } from "./dom.js";
import { number, text } from "./language.js";

export class Device {
  #trainer;
  #opened = null;

  constructor(trainer) {
    this.#trainer = trainer;
  }

  /// The worker was started anew and has none.
  forget() {
    this.#opened = null;
  }

  /// Opens the device that is wanted ("auto", "gpu" or "cpu"), where another one is open.
  async use(wanted) {
    if (wanted === this.#opened) return;
    this.#opened = null;
    const { hasJspi, hasGpu, hasAdapter } = await this.#trainer.ready;
    const canUseGpu = hasJspi && hasAdapter;
    const device = await this.#trainer.call("open_device", canUseGpu ? wanted : "cpu");
    this.#opened = wanted;
    $("device-name").textContent = device.is_gpu ? `${device.name} (${device.kind})` : text("cpu");
    $("device-reason").textContent = canUseGpu ? text("colon") + text("deviceReason")[reason(wanted, device)] : "";
    $("device-dot").className = `dot ${device.is_gpu ? "gpu" : "cpu"}`;
    $("device-limits").replaceChildren(...device.limits.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, number(value))]));
    $("device-limits").append(element("dt", {}, text("deviceFeatures")), element("dd", {}, device.features.join(", ") || text("deviceNoFeatures")));
    $("device-details").hidden = !device.is_gpu;
    $("device-notice").hidden = canUseGpu;
    $("device-notice").textContent = canUseGpu ? "" : text(hasAdapter ? "noJspi" : hasGpu ? "noAdapter" : "noGpu");
  }
}

/// Why it is this one, as `Device::select_with_reason` chooses.
function reason(wanted, device) {
  if (wanted === "auto") return device.is_gpu ? "best" : "noneReal";
  return device.is_gpu && device.is_software ? "software" : "asked";
}
