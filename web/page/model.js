// The model that there is: the weights of the run as it goes, or a file that was opened.

export class Model {
  #page;
  #isOpening = false;
  /// What the program says of it: title, shape, classes; null where there is none.
  shown = null;

  constructor(page) {
    this.#page = page;
  }

  /// Opens a model file in the helper.
  async open(bytes) {
    const { helper } = this.#page;
    await helper.call("put_file", "/opened/model.safetensors", bytes);
    this.shown = await helper.call("open_model", "/opened/model.safetensors");
  }

  /// Shows the weights of a run: filters, activations and predictions follow them. Weights that come meanwhile are left out.
  async use(bytes) {
    if (this.#isOpening) return;
    this.#isOpening = true;
    try {
      await this.open(bytes);
      await this.#page.live.look();
      await this.#page.trial.classify();
    } catch (failure) {
      console.warn("the weights cannot be shown:", failure);
    } finally {
      this.#isOpening = false;
    }
  }
}
