//! The files in memory that the library reads and writes: the page puts files in and takes files out.

use std::path::Path;

use wasm_bindgen::prelude::wasm_bindgen;
use wgrad::files::memory;

use crate::answer::answer;

/// Puts a file under a path.
#[wasm_bindgen]
pub fn put_file(path: &str, bytes: &[u8]) -> String {
    answer(memory::put(Path::new(path), bytes))
}

/// The bytes of a file; none where it is not there.
#[wasm_bindgen]
pub fn get_file(path: &str) -> Option<Vec<u8>> {
    memory::get(Path::new(path)).ok()
}

/// The paths of all files in a folder and below it.
#[wasm_bindgen]
pub fn list_files(folder: &str) -> Vec<String> {
    memory::files_below(Path::new(folder)).into_iter().map(|path| path.display().to_string()).collect()
}

/// Removes a file or a folder.
#[wasm_bindgen]
pub fn remove_file(path: &str) {
    memory::remove(Path::new(path));
}
