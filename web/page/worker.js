// A worker around the program: calls by name, one after the other, and the control of a run in between. The page has two:
// one trains, the other answers questions meanwhile.

const hasJspi = "Suspending" in WebAssembly;
if (!hasJspi) {
  // The program only waits for a GPU, and is told to take the CPU then.
  WebAssembly.Suspending = function Suspending(imported) {
    return imported;
  };
  WebAssembly.promising = (exported) => exported;
}

const program = await import("./wgrad_web.js");
await program.default({ module_or_path: unpacked(new URL("program.packed", import.meta.url)) });

/// The module is compressed, so that it is small on servers that compress nothing.
async function unpacked(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  const module = response.body.pipeThrough(new DecompressionStream("gzip"));
  return new Response(module, { headers: { "content-type": "application/wasm" } });
}

// Messages get through while the program waits for a promise; on the CPU it never does but for this one.
const YIELD_EVERY_MS = 40;
let wanted = "run";
let goOn = null;
let yieldedAt = performance.now();

function control() {
  if (wanted === "stop") return true;
  if (!hasJspi) return undefined;
  if (wanted === "pause") {
    postMessage({ event: { type: "paused" } });
    return new Promise((resolve) => {
      goOn = resolve;
    });
  }
  if (performance.now() - yieldedAt < YIELD_EVERY_MS) return undefined;
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      yieldedAt = performance.now();
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/// The files of a folder, by their names in it.
function folderFiles(folder) {
  const files = {};
  for (const path of program.list_files(folder)) {
    if (!path.endsWith("/.lock")) files[path.slice(folder.length + 1)] = program.get_file(path);
  }
  return files;
}

function sendFiles(name, files) {
  postMessage({ event: { type: name, files } }, Object.values(files).map((bytes) => bytes.buffer));
}

function emitter(folder) {
  return (json) => {
    const event = JSON.parse(json);
    if (event.type === "saved") {
      sendFiles("saved", folderFiles(folder));
    } else if (event.type === "weights") {
      sendFiles("weights", { model: program.get_file(event.path) });
    } else {
      postMessage({ event });
    }
  };
}

const runs = {
  async train(given, folder) {
    const answer = await program.train(given, folder, emitter(folder), control);
    sendFiles("files", folderFiles(folder));
    return answer;
  },
  async resume(folder, epochs, data) {
    const answer = await program.resume(folder, epochs, data, emitter(folder), control);
    sendFiles("files", folderFiles(folder));
    return answer;
  },
  async fetchBundled() {
    const names = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"];
    await Promise.all(names.map(async (name) => program.put_file(`/bundled:${name}`, await bundled(name))));
    return '{"ok":null}';
  },
};

/// A file of the bundled images, which is fetched once.
async function bundled(name) {
  const url = new URL(`data/${name}`, import.meta.url);
  // There is none where a page comes over http from another host.
  const cache = await globalThis.caches?.open("wgrad-images");
  let response = await cache?.match(url);
  if (!response) {
    response = await fetch(url);
    if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
    await cache?.put(url, response.clone());
  }
  return new Uint8Array(await response.arrayBuffer());
}

let last = Promise.resolve();

onmessage = ({ data }) => {
  if (data.control) {
    wanted = data.control;
    goOn?.();
    goOn = null;
    return;
  }
  const { id, call, args } = data;
  last = last.then(async () => {
    try {
      const result = await (runs[call] ?? program[call])(...args);
      const isAnswer = typeof result === "string" && (result.startsWith('{"ok"') || result.startsWith('{"error"'));
      postMessage({ id, answer: isAnswer ? JSON.parse(result) : { ok: result } });
    } catch (error) {
      postMessage({ id, answer: { error: { message: String(error?.message ?? error), fatal: true } } });
    }
  });
};

// A browser may offer WebGPU and have no adapter for it.
const hasGpu = "gpu" in navigator;
const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
postMessage({ ready: true, hasJspi, hasGpu, hasAdapter: Boolean(adapter) });
