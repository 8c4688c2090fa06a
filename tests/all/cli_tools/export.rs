use super::{text, trained};
use crate::cli::{TINY, succeeds};

#[test]
fn a_run_becomes_an_onnx_file() {
    let (place, run) = trained(&[&TINY[..], &["--batch-norm", "--normalize=half"]].concat());
    let stdout = succeeds(place.lenet(&["export", "--run", text(&run), "--onnx", "made/network.onnx"]));
    for part in ["pixels (N, 1, 28, 28)", "logits (N, 10)", "made/network.onnx", "fashion-mnist"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let bytes = std::fs::read(place.path("made/network.onnx")).unwrap();
    let has = |part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
    for part in ["BatchNormalization", "bn1.running_var", "Ankle boot", "MaxPool"] {
        assert!(has(part), "{part}");
    }
    let model = run.join("model.safetensors");
    succeeds(place.lenet(&["export", "--model", text(&model), "--onnx", "again.onnx"]));
    assert!(std::fs::read(place.path("again.onnx")).unwrap() == bytes, "the same network, the same file");

    let cases: [(&[&str], i32, &str); 4] = [
        (&["export", "--run", text(&run)], 2, "--onnx"),
        (&["export", "--onnx=x.onnx"], 2, "--run"),
        (&["export", "--run=nowhere", "--onnx=x.onnx"], 1, "nowhere"),
        (&["export", "--model", text(&model), "--dataset=cifar10", "--onnx=x.onnx"], 1, "conv1.weight"),
    ];
    for (args, code, part) in cases {
        let refused = place.lenet(args);
        assert_eq!(refused.code, code, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{args:?}: {}", refused.stderr);
    }
    assert!(!place.path("x.onnx").exists());
}
