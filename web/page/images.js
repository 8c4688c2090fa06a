// The images that a run is about, in both workers: the bundled ones, or files of the reader's.

import { text } from "./language.js";

/// Where the reader's own images are in a worker.
export const OWN_DATA = "/data";
/// Where a list of layers is.
export const OWN_NETWORK = "/network.toml";

export class Images {
  #page;
  #loaded = null;

  constructor(page) {
    this.#page = page;
  }

  /// A worker was started anew and has none.
  forget() {
    this.#loaded = null;
  }

  /// Brings the images that the form asks for to both workers; gives what they are.
  async load() {
    const { form, trainer, helper } = this.#page;
    const wanted = form.usesOwnImages ? form.files : "bundled";
    if (!wanted?.length) throw new Error(text("noFiles"));
    if (this.#loaded !== wanted) {
      this.#loaded = null;
      for (const client of [trainer, helper]) {
        if (form.usesOwnImages) await putFiles(client, form.files);
        else await bundled(client);
      }
      this.#loaded = wanted;
    }
    await this.putNetwork();
    return helper.call("load_data", this.#page.given());
  }

  /// The reader's own network is a file, as `lenet` takes it.
  async putNetwork() {
    const { form, trainer, helper } = this.#page;
    const layers = form.layers.value;
    if (!layers.trim()) return;
    for (const client of [trainer, helper]) await client.call("put_file", OWN_NETWORK, new TextEncoder().encode(layers));
  }
}

async function bundled(client) {
  try {
    await client.call("fetchBundled");
  } catch (failure) {
    throw new Error(text("imagesMissing", failure.message));
  }
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
