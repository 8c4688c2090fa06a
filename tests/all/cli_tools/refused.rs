//! Runs that cannot be: values of the environment that mean nothing, networks that no memory holds. They end with a message
//! and an exit code, in training and whatever else takes the same settings.

use crate::cli::{DATA, Place, done};

#[test]
fn variables_that_mean_nothing_are_named() {
    let place = Place::new();
    let cases = [
        ("WGRAD_THREADS", "x", "a number of threads from 1 to 1024"),
        ("WGRAD_THREADS", "0", "a number of threads from 1 to 1024"),
        ("RAYON_NUM_THREADS", "many", "a number of threads from 0 to 1024"),
        ("WGRAD_CPU", "foo", "portable, avx2, avx512 or neon"),
    ];
    for (name, value, expected) in cases {
        let mut command = place.command(&["train", "--device", "cpu", "--data", DATA]);
        let refused = done(command.env(name, value).output().unwrap());
        let message = format!("{name}: expected {expected}, got {value}");
        assert!(refused.code == 2 && refused.stderr.contains(&message), "{message}: {}", refused.stderr);
    }
    assert!(place.runs().is_empty());
}

#[test]
fn networks_that_no_memory_holds_are_refused() {
    let place = Place::new();
    // 2^62 + 1: times 4 bytes it wraps to 4.
    let hidden = ["--network=mlp", "--hidden=4611686018427387905"];
    let layers = |list: &str| std::fs::write(place.path("mine.toml"), format!("layers = [{list}]")).unwrap();
    let train = ["train", "--device=cpu", "--data", DATA];
    for command in [&train[..], &["summary"], &["plan"]] {
        let refused = place.lenet(&[command, &hidden].concat());
        assert!(refused.code == 1 && refused.stderr.contains("at most 1099511627776 elements"), "{}", refused.stderr);
        for layer in [
            "\"flatten\", { kind = \"linear\", out_features = 4611686018427387905 }, { kind = \"linear\", name = \"fc\" }",
            "{ kind = \"conv2d\", out_channels = 1, kernel_size = 3, padding = 9223372036854775807 }, \"flatten\", \"linear\"",
        ] {
            layers(layer);
            let refused = place.lenet(&[command, &["--network=mine.toml"]].concat());
            assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
            assert!(refused.stderr.contains("at most") && !refused.stderr.contains("panicked"), "{}", refused.stderr);
        }
    }
    // 313 GB of weights, and twice that for the optimizer.
    let refused = place.lenet(&[&train[..], &["--network=mlp", "--hidden=99999999"]].concat());
    assert!(refused.code == 1 && refused.stderr.contains("bytes"), "{}", refused.stderr);
}
