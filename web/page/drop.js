// Files that are dropped on the page.

/// Makes an element take what is dropped on it; `take` gets [{ path, file }…], with the paths below what was dropped.
export function dropArea(area, take) {
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", async (event) => {
    event.preventDefault();
    area.classList.remove("over");
    const list = await dropped(event.dataTransfer);
    if (list.length) take(list);
  });
}

/// The files of a field, as those of a drop.
export function chosen(input) {
  const files = [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
  // The same files may be chosen again, when they are others by then.
  input.value = "";
  return files;
}

async function dropped(transfer) {
  const files = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      files.push({ path: path + entry.name, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!entries.length) return;
      for (const inner of entries) await walk(inner, `${path}${entry.name}/`);
    }
  };
  // Both lists are only there until the first wait.
  const plain = [...transfer.files];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  for (const entry of entries) await walk(entry, "");
  return files.length ? files : plain.map((file) => ({ path: file.name, file }));
}
