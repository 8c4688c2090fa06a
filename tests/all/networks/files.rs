//! Networks from files of layers.

use wgrad::data::bundled;
use wgrad::nn::weights::{self, Metadata};
use wgrad::nn::{Classifier, Layers, Mode, Model, Network};
use wgrad::run::RunConfig;
use wgrad::train::{EpochReport, Observer, fit};
use wgrad::{Device, Graph, Result, StateDict, Tensor, TensorType};

use crate::cli::{Place, TINY, read, succeeds};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/my_network.toml");

struct Losses(Vec<f64>);

impl Observer for Losses {
    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        self.0.push(report.train_loss);
        Ok(())
    }
}

#[test]
fn the_example_learns() -> Result<()> {
    let network = Network::open(EXAMPLE)?;
    let config =
        RunConfig { network, epochs: 3, batch_size: 20, lr: Some(0.05), diagnostics: None, ..RunConfig::default() };
    let mut splits = bundled::fashion_mnist()?;
    splits.train.limit(400);
    splits.test.limit(100);
    let (train, test, source) = (splits.train, splits.test, splits.source);
    let data = wgrad::run::RunData { train, validation: None, test, source };
    let mut session = wgrad::run::setup::session(&config, &Device::Cpu, &data)?;
    let mut losses = Losses(Vec::new());
    let outcome = fit(&mut session, &config.fit_options(), &mut losses)?;
    assert!(losses.0[2] < 0.7 * losses.0[0], "{:?}", losses.0);
    // Chance is one in ten.
    assert!(outcome.test_accuracy > 0.3, "{outcome:?}");
    Ok(())
}

#[test]
fn a_run_keeps_the_layers_and_not_the_path() {
    let place = Place::new();
    let file = place.path("mine.toml");
    std::fs::write(&file, "layers = [{ kind = \"flatten\" }, { kind = \"linear\", name = \"fc\" }]").unwrap();
    let stdout = succeeds(place.train(&["--network", "mine.toml"]));
    assert!(stdout.contains("a network of 2 layers, 7,850 parameters"), "{stdout}");
    std::fs::remove_file(file).unwrap();
    let run = &place.runs()[0];
    let config = read(&run.join("config.toml"));
    assert!(config.contains("kind = \"layers\"") && !config.contains("mine"), "{config}");
    succeeds(place.lenet(&["eval", run.to_str().unwrap(), "--data", crate::cli::DATA]));
    let metadata = wgrad::nn::weights::read_metadata(&run.join("model.safetensors")).unwrap();
    assert_eq!(metadata.network.unwrap().name(), "layers");
    assert_eq!((metadata.classes.len(), metadata.image_shape), (10, Some([1, 28, 28])));
}

/// A NaN would spread through the first step and be blamed on the learning rate.
#[test]
fn a_run_starts_from_finite_weights() {
    let place = Place::new();
    std::fs::write(place.path("mine.toml"), "layers = [\"flatten\", { kind = \"linear\", name = \"fc\" }]").unwrap();
    let weight = |value| Tensor::full([10, 784], value);
    let save = |value| {
        let weights = StateDict::from([("fc.weight".into(), weight(value)), ("fc.bias".into(), Tensor::zeros([10]))]);
        weights::save(&place.path("init.safetensors"), &weights, &Metadata::default()).unwrap();
    };
    let options = ["--network", "mine.toml", "--init", "init.safetensors"];
    save(0.01);
    succeeds(place.train(&options));
    for value in [f32::NAN, f32::INFINITY] {
        save(value);
        let refused = place.train(&options);
        let says = |part: &str| assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        says("init.safetensors");
        says("finite numbers");
        says(&value.to_string());
        assert_eq!(refused.code, 1, "{}", refused.stderr);
    }
}

#[test]
fn networks_are_chosen_by_name() {
    let place = Place::new();
    let shorter = [&TINY[..4], &["--epochs", "1", "--batch-size", "50"]].concat();
    let fixed = ["train", "--device", "cpu", "--data", crate::cli::DATA, "--network", "mlp", "--dropout", "0.5"];
    let stdout = succeeds(place.lenet(&[&fixed[..], &shorter].concat()));
    assert!(stdout.contains("MLP 128-64, dropout 0.5, 109,386 parameters"), "{stdout}");
    let run = &place.runs()[0];
    assert!(run.file_name().unwrap().to_str().unwrap().contains("-mlp-"), "{}", run.display());
    succeeds(place.lenet(&["eval", run.to_str().unwrap(), "--data", crate::cli::DATA]));
    let refused = place.train(&["--network", "alexnet"]);
    assert!(
        refused.code == 2 && refused.stderr.contains("lenet5, mlp, vgg, resnet, all-conv or layers"),
        "{}",
        refused.stderr
    );
    let refused = place.train(&["--network", "mlp", "--batch-norm"]);
    assert!(
        refused.code == 2
            && refused.stderr.contains("--batch-norm: expected to be used only with --network lenet5, vgg or all-conv"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let text = std::fs::read_to_string(EXAMPLE).unwrap();
    let layers: Layers = toml::from_str(&text).unwrap();
    let written = toml::to_string_pretty(&layers).unwrap();
    assert_eq!(toml::from_str::<Layers>(&written).unwrap(), layers, "{written}");
    assert!(!written.contains("dilation"), "defaults are left out: {written}");
    let network = Network::from(layers);
    let json = serde_json::to_string(&network).unwrap();
    assert_eq!(serde_json::from_str::<Network>(&json).unwrap(), network);
    let config = RunConfig { network, ..RunConfig::default() };
    let read: RunConfig = toml::from_str(&config.to_toml().unwrap()).unwrap();
    assert_eq!(read.network, config.network);
}

#[test]
fn mistakes_are_named_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    let error = |layers: &str| {
        std::fs::write(&path, format!("layers = [{layers}]")).unwrap();
        let error = match Network::from_file(&path) {
            Err(error) => error,
            Ok(network) => {
                let mut graph = Graph::new("g");
                let images = graph.input("images", TensorType::f32([2, 3, 8, 8])).unwrap();
                Classifier::new(network, 10).logits(&mut graph, images, Mode::Eval).unwrap_err()
            }
        };
        error.to_string()
    };
    let conv = "{ kind = \"conv2d\", out_channels = 4, kernel_size = 3 }";
    let cases: [(String, &[&str]); 20] = [
        ("{ kind = \"conv\" }".into(), &["wrong.toml", "layers[0].kind", "conv2d", "\"conv\"|conv"]),
        ("{ out_channels = 4 }".into(), &["layers[0]", "kind"]),
        ("3".into(), &["layers[0]", "3"]),
        ("{ kind = \"conv2d\", out_channels = 4 }".into(), &["layers[0] (conv2d)", "kernel_size"]),
        (format!("{conv}, {{ kind = \"relu\", size = 2 }}"), &["layers[1] (relu)", "size"]),
        (
            "{ kind = \"conv2d\", out_channels = 4, kernel_size = [3] }".into(),
            &["layers[0] (conv2d)", "[height, width]"],
        ),
        ("{ kind = \"dropout\", p = 1.5 }".into(), &["layers[0] (dropout)", "p from 0 to 1", "1.5"]),
        ("{ kind = \"dropout\", p = nan }".into(), &["layers[0] (dropout)", "p from 0 to 1", "NaN"]),
        ("{ kind = \"leaky_relu\", negative_slope = nan }".into(), &["layers[0] (leaky_relu)", "finite", "NaN"]),
        ("{ kind = \"batch_norm2d\", eps = inf }".into(), &["layers[0] (batch_norm2d)", "finite eps", "inf"]),
        ("{ kind = \"batch_norm2d\", momentum = nan }".into(), &["layers[0] (batch_norm2d)", "momentum", "NaN"]),
        ("{ kind = \"conv2d\", out_channels = 0, kernel_size = 3 }".into(), &["layers[0] (conv2d)", "at least 1"]),
        ("{ kind = \"residual\" }".into(), &["layers[0] (residual)", "a list of layers"]),
        (
            format!("{{ kind = \"residual\", layers = [{conv}, {{ kind = \"linear\", out = 3 }}] }}"),
            &["layers[0].layers[1] (linear)", "out"],
        ),
        ("{ kind = \"relu\", name = \"a.b\" }".into(), &["layers[0] (relu)", "without dots"]),
        (
            "{ kind = \"relu\", name = \"1\" }, { kind = \"relu\" }".into(),
            &["layers[1] (relu)", "a name of its own", "layers[0]"],
        ),
        // What only the images tell.
        (format!("{conv}, {{ kind = \"flatten\" }}, {conv}"), &["layers[2] (conv2d)", "(N, C, H, W)", "(2, 144)"]),
        (
            format!("{{ kind = \"residual\", layers = [{conv}, {{ kind = \"max_pool2d\", kernel_size = 9 }}] }}"),
            &["layers[0].layers[1] (max_pool2d)", "(2, 4, 6, 6)"],
        ),
        (
            format!("{{ kind = \"residual\", layers = [{conv}] }}"),
            &["layers[0] (residual)", "(2, 3, 8, 8)", "(2, 4, 6, 6)"],
        ),
        (format!("{conv}, {{ kind = \"linear\" }}"), &["layers", "(2, 10)", "(2, 4, 6, 10)"]),
    ];
    for (layers, parts) in cases {
        let error = error(&layers);
        for part in parts {
            assert!(part.split('|').any(|part| error.contains(part)), "{part} in {error}");
        }
    }
    assert!(Network::open("nowhere.toml").unwrap_err().to_string().contains("nowhere.toml"));
}
