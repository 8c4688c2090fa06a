//! IDX files, plain and gzip: whatever the bytes, images and labels are read whole or refused.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wgrad::data::idx;

fuzz_target!(|bytes: &[u8]| {
    let (path, len) = (Path::new("file"), bytes.len() as u64);
    if let Ok(images) = idx::images_from(path, bytes, len) {
        assert_eq!(images.pixels.len(), images.num_images * images.height * images.width);
        assert!(!images.pixels.is_empty());
    }
    if let Ok(labels) = idx::labels_from(path, bytes, len) {
        assert!(!labels.is_empty());
    }
});
