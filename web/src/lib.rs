//! What the page calls. Each function takes and gives JSON, bytes or nothing, so that the page needs to know none of the
//! library's types; what can be set, with names, help and defaults, comes from the library's own lists.
//!
//! Functions that wait for a GPU are exported with JavaScript Promise Integration: the page awaits them. Where a browser
//! lacks it, the same functions work on the CPU, which is never waited for.

mod answer;
mod device;
mod files;
mod inside;
mod model;
mod options;
mod page;
mod train;

use wasm_bindgen::prelude::wasm_bindgen;

/// Prints panics to the console, with their place: they are faults of the program.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| {
        #[wasm_bindgen]
        extern "C" {
            #[wasm_bindgen(js_namespace = console)]
            fn error(message: &str);
        }
        error(&info.to_string());
    }));
}
