//! Files, as the library reads and writes them: those of the system, or in a browser, which has none, files in memory that
//! the page fills and takes away. Both sides have the same functions, so that runs, data sets and reports are the same
//! code on both.

#[cfg(not(target_arch = "wasm32"))]
mod disk;
#[cfg(any(test, target_arch = "wasm32"))]
pub mod memory;

#[cfg(not(target_arch = "wasm32"))]
use disk as system;
#[cfg(target_arch = "wasm32")]
use memory as system;

#[cfg(feature = "fetch")]
pub(crate) use system::sync_folder;
#[cfg(feature = "report")]
pub(crate) use system::{Appended, append_to_new, process_id};
pub(crate) use system::{
    Lock, absolute, canonical, create_dir, create_dir_all, exists, is_dir, is_file, list, lock, open, read,
    read_to_string, remove, write_whole,
};
