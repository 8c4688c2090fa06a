// The page's side of a worker.

/// What the program could not do; `setting` names the setting that is wrong.
export class Failure extends Error {
  constructor({ message, ...rest }) {
    super(message);
    Object.assign(this, rest);
  }
}

export class Client {
  #worker;
  #waiting = new Map();
  #next = 0;

  constructor(onEvent = () => {}) {
    this.onEvent = onEvent;
    this.ready = this.#start();
  }

  #start() {
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    return new Promise((resolve, reject) => {
      this.#worker.onerror = (event) => {
        event.preventDefault();
        const failure = new Failure({ message: event.message || "the worker could not be started", fatal: true });
        reject(failure);
        for (const { reject } of this.#waiting.values()) reject(failure);
        this.#waiting.clear();
      };
      this.#worker.onmessage = ({ data }) => {
        if (data.ready) resolve(data);
        else if (data.event) this.onEvent(data.event);
        else this.#settle(data);
      };
    });
  }

  #settle({ id, answer }) {
    const { resolve, reject } = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (answer.error) reject?.(new Failure(answer.error));
    else resolve?.(answer.ok);
  }

  /// Calls a function of the program; calls are answered in their order.
  async call(name, ...args) {
    await this.ready;
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call: name, args });
    });
  }

  /// Asks a run to "pause", "run" or "stop".
  control(wanted) {
    this.#worker.postMessage({ control: wanted });
  }

  /// Ends the worker, whatever it is doing, and starts another.
  async restart() {
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(new Failure({ message: "ended", interrupted: true }));
    this.#waiting.clear();
    this.ready = this.#start();
    return this.ready;
  }
}
