//! Each network against finite differences, on every device, in every graph that is built of it, and in files.

use wgrad::data::{Normalize, bundled};
use wgrad::exec::verify::verify;
use wgrad::nn::weights::{self, Metadata};
use wgrad::nn::{Classifier, Init, LeNet5, Network};
use wgrad::optim::Optimizer;
use wgrad::train::predict::{Predictor, PredictorOptions};
use wgrad::train::{EvalOptions, evaluate};
use wgrad::{Device, Error, Plan, Program, Result, StateDict, StepTable, Tensor};

use super::{classifier, compile, evaluation, images, labels, output_gradients, small, training};
use crate::harness::{gpu, portable};

/// Half the distance of the two points of a central difference, as in `gradcheck`.
const STEP: f64 = 1e-6;
/// Elements of each parameter that are moved.
const SAMPLES: usize = 3;

#[test]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    let table = StepTable::new(1).constant("step", 4.0);
    for (network, shape) in small() {
        let (mut graph, loss) = training(&classifier(&network), shape)?;
        let gradients = graph.backward(loss)?;
        let parameters = output_gradients(&mut graph, &gradients)?;
        let mut program = compile(&Device::CpuF64, &graph)?;
        program.write("images", &images(shape))?;
        program.write("labels", &labels())?;
        program.run("train", &table)?;
        let gradient = |program: &mut Program, name: &str| program.output("train", &format!("grad.{name}"));
        let analytic: Vec<(String, Vec<f64>)> = parameters
            .into_iter()
            .map(|name| Ok((name.clone(), gradient(&mut program, &name)?.to_f64_vec())))
            .collect::<Result<_>>()?;
        assert!(analytic.iter().any(|(_, values)| values.iter().any(|value| value.abs() > 1e-3)), "{network:?}");
        for (name, analytic) in analytic {
            let center = program.read(&name)?;
            let mut loss_at = |index: usize, offset: f64| -> Result<f64> {
                let mut moved = center.to_f64_vec();
                moved[index] += offset;
                program.write(&name, &Tensor::f64(center.shape(), moved)?)?;
                program.run("train", &table)?;
                program.output("train", "loss")?.item()
            };
            for sample in 0..SAMPLES {
                let index = sample * (analytic.len() - 1) / (SAMPLES - 1);
                let numeric = (loss_at(index, STEP)? - loss_at(index, -STEP)?) / (2.0 * STEP);
                // The tolerance of torch.autograd.gradcheck.
                let close = (analytic[index] - numeric).abs() <= 1e-5 + 1e-3 * numeric.abs();
                assert!(close, "{}, {name}[{index}]: {} and {numeric}", network.title(), analytic[index]);
            }
            program.write(&name, &center)?;
        }
    }
    Ok(())
}

#[test]
fn a_training_step_is_the_references_on_every_device() -> Result<()> {
    for (network, shape) in small() {
        let (mut graph, loss) = training(&classifier(&network), shape)?;
        let optimizer = Optimizer::sgd(0.9);
        optimizer.minimize(&mut graph, loss)?;
        let plan = Plan::new(&graph)?;
        let narrow = images(shape);
        let narrow = Tensor::f32(narrow.shape(), narrow.to_f32_vec())?;
        let states = StateDict::from([("images".to_owned(), narrow), ("labels".to_owned(), labels())]);
        for device in [gpu(), portable()[0], &Device::Cpu] {
            let report = verify(device, &plan, &states, &optimizer.step(3, 0.1), 7)?;
            assert!(report.difference.is_none(), "{} on {device}: {}", network.title(), report.difference.unwrap());
            let program = Program::compile(device, vec![plan.clone()], 7)?;
            assert_eq!(report.ops.len(), program.plans()[0].to_string().lines().count() - 3, "all ops of its plan");
        }
    }
    Ok(())
}

/// On a real GPU optimizers add up gradients that come in slices. Those of a bias before a batch normalization cancel to
/// nothing but rounding.
#[test]
fn every_optimizer_adds_up_gradients_in_slices() -> Result<()> {
    let (network, shape) = small().swap_remove(2);
    assert_eq!(network.name(), "vgg");
    let images = Tensor::f32(images(shape).shape(), images(shape).to_f32_vec())?;
    let states = StateDict::from([("images".to_owned(), images), ("labels".to_owned(), labels())]);
    for entry in Optimizer::ENTRIES {
        let (mut graph, loss) = training(&classifier(&network), shape)?;
        let optimizer = Optimizer::named(entry.name)?;
        optimizer.minimize(&mut graph, loss)?;
        let plan = Plan::new(&graph)?;
        for device in [gpu(), portable()[0]] {
            let report = verify(device, &plan, &states, &optimizer.step(3, 0.1), 7)?;
            assert!(report.difference.is_none(), "{} on {device}: {}", entry.name, report.difference.unwrap());
        }
        let program = Program::compile(portable()[0], vec![plan], 7)?;
        let plan = program.plans()[0].to_string();
        assert!(plan.contains("gradients in slices"), "{plan}");
    }
    Ok(())
}

/// A session's evaluation and a predictor build graphs of their own; an ONNX file is written from a third, which is the
/// plain one here.
#[test]
fn all_builders_of_the_graph_agree() -> Result<()> {
    let mut data = bundled::fashion_mnist()?.test;
    data.limit(super::BATCH);
    let normalize = Normalize::Dataset.stats(&data)?;
    for (network, _) in small() {
        let model = Classifier::new(network.clone(), data.num_classes());
        let shape = data.shape();
        let mut plain = compile(&Device::Cpu, &evaluation(&model, shape)?)?;
        let weights = plain.model()?;
        let (images, labels) = data.batch(&[0, 1, 2], &normalize)?;
        plain.write("images", &images)?;
        plain.run_once("eval")?;
        let logits = plain.output("eval", "logits")?.to_f64_vec();
        let losses = logits.chunks(data.num_classes()).zip(labels.to_f64_vec()).map(|(logits, label)| {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            // Labels are small whole numbers.
            sum.ln() - logits[label as usize]
        });
        let loss = losses.sum::<f64>() / super::BATCH as f64;

        let options =
            PredictorOptions { model: &model, weights: &weights, normalize: &normalize, shape, batch_size: 2 };
        let mut predictor = Predictor::new(&Device::Cpu, &options)?;
        let predictions = predictor.predict(&data)?;
        for (index, prediction) in predictions.iter().enumerate() {
            let exps: Vec<f64> = predictor.logits(data.image(index))?.iter().map(|x| f64::from(*x).exp()).collect();
            let sum: f64 = exps.iter().sum();
            // f32 against f32, in other groups of images.
            let is_close = |(exp, want): (&f64, &f64)| (exp / sum - want).abs() < 1e-5;
            assert!(exps.iter().zip(&prediction.probabilities).all(is_close), "{} alone", network.title());
        }
        assert!(predictor.logits(&data.image(0)[1..]).is_err(), "a pixel is missing");
        let predicted = -predictions.iter().map(|image| image.probabilities[image.label].ln()).sum::<f64>() / 3.0;
        let options =
            EvalOptions { model: &model, weights: &weights, data: &data, batch_size: 3, normalize: normalize.clone() };
        let evaluated = evaluate(&Device::Cpu, &options)?;
        // f32 against f32, in other batches.
        for (what, other) in [("the predictor", predicted), ("the evaluation", evaluated.metrics.loss)] {
            assert!((other - loss).abs() < 1e-5 * loss, "{}: {what} has {other}, not {loss}", network.title());
        }
    }
    Ok(())
}

#[test]
fn a_model_file_is_complete() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for (network, shape) in small() {
        let mut program = compile(&Device::Cpu, &evaluation(&classifier(&network), shape)?)?;
        let written = program.model()?;
        let path = folder.path().join(network.name());
        let metadata = Metadata {
            network: Some(network),
            image_shape: Some(shape),
            dataset: Some("some".to_owned()),
            classes: vec!["a, b".to_owned(), "\"c\"".to_owned()],
            ..Metadata::default()
        };
        weights::save(&path, &written, &metadata.clone().entry("epoch", 3).entry("a", 1.5))?;
        let bytes = std::fs::read(&path).unwrap();
        let file = weights::read(&path)?;
        assert_eq!((&file.tensors, file.notes.len()), (&written, 0));
        assert_eq!(file.metadata, weights::read_metadata(&path)?);
        assert_eq!(file.metadata.entries["epoch"], "3");
        // The file alone is enough to build the network, and equal content is equal bytes.
        let again = classifier(file.metadata.network.as_ref().unwrap());
        let mut other = Program::compile(&Device::Cpu, vec![Plan::new(&evaluation(&again, shape)?)?], 99)?;
        other.load_model(&file.tensors)?;
        weights::save(&path, &other.model()?, &file.metadata)?;
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
    Ok(())
}

#[test]
fn prefixes_of_wrappers_come_off_and_other_files_are_read() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrapped");
    let write = |names: &[&str], metadata: Option<&str>| {
        let data = 1.5_f32.to_le_bytes();
        let view = |name: &&str| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &data).unwrap();
            ((*name).to_owned(), view)
        };
        let metadata = metadata.map(|text| [("about".to_owned(), text.to_owned())].into());
        std::fs::write(&path, safetensors::serialize(names.iter().map(view), metadata).unwrap()).unwrap();
        weights::read(&path)
    };
    let names = |file: &weights::ModelFile| file.tensors.keys().cloned().collect::<Vec<_>>();
    let file = write(&["_orig_mod.module.fc.weight", "_orig_mod.module.fc.bias"], None)?;
    assert_eq!(names(&file), ["fc.bias", "fc.weight"]);
    assert!(file.notes.len() == 2 && file.notes[0].contains("_orig_mod."), "{:?}", file.notes);
    let file = write(&["module.fc.weight", "other.fc.bias"], None)?;
    assert_eq!((names(&file), file.notes), (vec!["module.fc.weight".to_owned(), "other.fc.bias".to_owned()], vec![]));
    let ours = write(&["module.fc.weight"], Some("{}"))?;
    assert_eq!(names(&ours), ["module.fc.weight"], "a file of our own has the names that it should");
    assert_eq!(write(&["x"], Some("an old file"))?.metadata.entries["about"], "an old file");
    let unknown = write(&["x"], Some("{\"network\": {\"kind\": \"alexnet\"}}")).unwrap_err().to_string();
    assert!(unknown.contains("alexnet") && unknown.contains("lenet5"), "{unknown}");

    let mut tensors = file_of(&[1.0, 2.0]);
    weights::require_finite(&tensors)?;
    for value in [f32::NAN, f32::NEG_INFINITY] {
        tensors.extend(file_of(&[1.0, value]));
        let error = weights::require_finite(&tensors).unwrap_err();
        assert!(matches!(&error, Error::State { name, .. } if name == "fc.weight"), "{error}");
    }
    Ok(())
}

fn file_of(values: &[f32]) -> StateDict {
    StateDict::from([("fc.weight".to_owned(), Tensor::f32([values.len()], values.to_vec()).unwrap())])
}

#[test]
fn logits_of_another_shape_are_refused() {
    let model = Classifier::new(Network::from(LeNet5::default()), 10);
    let mut graph = wgrad::Graph::new("g");
    let images = graph.parameter("images", [2, 1, 28, 28], Init::Zeros).unwrap();
    assert!(wgrad::nn::Model::logits(&model, &mut graph, images, wgrad::nn::Mode::Eval).is_ok());
    let layers: wgrad::nn::Layers =
        toml::from_str("layers = [{ kind = \"flatten\" }, { kind = \"linear\", out_features = 7 }]").unwrap();
    let model = Classifier::new(layers, 10);
    let error = wgrad::nn::Model::logits(&model, &mut graph, images, wgrad::nn::Mode::Eval).unwrap_err().to_string();
    assert_eq!(error, "layers: expected logits (2, 10) for 10 classes, got (2, 7) from images (2, 1, 28, 28)");
}
