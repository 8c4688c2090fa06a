//! Model files: tensors come out whole, or the file is refused.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wgrad::nn::weights;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = weights::from_bytes(Path::new("file"), bytes) {
        for tensor in file.tensors.values() {
            assert_eq!(tensor.to_f32_vec().len(), tensor.shape().num_elems());
        }
    }
});
