// The run that this browser keeps: its files in the origin's private file system. What cannot be kept is only lost with the
// page, so that failures here are no one's concern but the console's.

const FOLDER = "run";

async function folder(create) {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create });
}

/// Keeps files by name, each written whole. Those of before stay.
export async function keep(files) {
  try {
    const handle = await folder(true);
    for (const [name, bytes] of Object.entries(files)) {
      // Names with folders are those of the report, which can be made again.
      if (name.includes("/")) continue;
      const file = await handle.getFileHandle(name, { create: true });
      const stream = await file.createWritable();
      await stream.write(bytes);
      await stream.close();
    }
  } catch (error) {
    console.warn("the run is not kept:", error);
  }
}

/// The files that are kept; none where there is no run.
export async function kept() {
  const files = {};
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
  try {
    await (await navigator.storage.getDirectory()).removeEntry(FOLDER, { recursive: true });
  } catch (error) {
    if (error.name !== "NotFoundError") console.warn("the run is not discarded:", error);
  }
}
