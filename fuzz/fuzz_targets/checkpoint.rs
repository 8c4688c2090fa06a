//! Checkpoints: what is read says the same again when it is written.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use wgrad::train::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(checkpoint) = Checkpoint::from_bytes(Path::new("file"), bytes) {
        let path = std::env::temp_dir().join(format!("wgrad-fuzz-{}", std::process::id()));
        checkpoint.save(&path).expect("what was read can be written");
        let again = Checkpoint::load(&path).expect("what was written can be read");
        assert_eq!(again.state, checkpoint.state);
    }
});
