//! CIFAR-10's binary files. The first byte says how long a run of records the rest is repeated to, since a fuzzer would
//! take long to find inputs of thousands of bytes.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wgrad::data::cifar::{self, IMAGE_LEN_BYTES, Layout, Records};

fuzz_target!(|bytes: &[u8]| {
    let Some((&count, pattern)) = bytes.split_first() else { return };
    let whole = usize::from(count % 4) * Layout::CIFAR10.record_len_bytes() + usize::from(count / 200);
    let file: Vec<u8> = pattern.iter().copied().cycle().take(whole).collect();
    let mut records = Records::default();
    if cifar::append(Path::new("file"), Layout::CIFAR10, &file, &mut records).is_ok() {
        assert_eq!(records.images.len(), records.labels.len() * IMAGE_LEN_BYTES);
        assert!(!records.labels.is_empty() && records.labels.iter().all(|&label| label < 10));
    }
});
