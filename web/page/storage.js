// The run that this browser keeps: its files in the origin's private file system. What cannot be kept is only lost with the
// page, so that failures here are no one's concern but the console's.

const FOLDER = "run";

async function folder(create) {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create });
}

/// Whether this tab keeps its run: the first one that is open does. Two would mix their files.
export const isKeeper = new Promise((resolve) => {
  // There are no locks, and nowhere to keep a run, where a page comes over http from another host.
  if (!navigator.locks) return resolve(false);
  navigator.locks.request("run", { ifAvailable: true }, (lock) => {
    resolve(lock !== null);
    // Held for as long as the tab is open.
    return lock && new Promise(() => {});
  });
});

/// Keeps files by name, each written whole. Those of before stay.
export async function keep(files) {
  if (!await isKeeper) return;
  try {
    const handle = await folder(true);
    // The checkpoint comes last: on resuming, what other files have beyond it is dropped.
    const names = Object.keys(files).sort((a, b) => (a === "checkpoint") - (b === "checkpoint"));
    for (const name of names) {
      // Names with folders are those of the report, which can be made again.
      if (name.includes("/")) continue;
      const file = await handle.getFileHandle(name, { create: true });
      const stream = await file.createWritable();
      await stream.write(files[name]);
      await stream.close();
    }
  } catch (error) {
    console.warn("the run is not kept:", error);
  }
}

/// The files that are kept; none where there is no run.
export async function kept() {
  const files = {};
  if (!await isKeeper) return files;
  try {
    for await (const [name, handle] of (await folder(false)).entries()) {
      if (handle.kind === "file") files[name] = new Uint8Array(await (await handle.getFile()).arrayBuffer());
    }
  } catch (error) {
    if (error.name !== "NotFoundError") console.warn("what is kept cannot be read:", error);
  }
  return files;
}

export async function discard() {
  if (!await isKeeper) return;
  try {
    await (await navigator.storage.getDirectory()).removeEntry(FOLDER, { recursive: true });
  } catch (error) {
    if (error.name !== "NotFoundError") console.warn("the run is not discarded:", error);
  }
}
