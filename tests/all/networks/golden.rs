//! `tests/golden/networks.json`: what PyTorch's modules of the same settings are called inside and compute.

use std::collections::BTreeMap;

use serde::Deserialize;
use wgrad::exec::StateDict;
use wgrad::nn::Network;
use wgrad::{Device, Program, Result, StepTable, Tensor};

use super::{classifier, compile, evaluation, fill, images, labels, output_gradients, training};

#[derive(Deserialize)]
struct Golden {
    network: Network,
    shape: [usize; 3],
    state: BTreeMap<String, Vec<usize>>,
    #[serde(flatten)]
    values: Option<Values>,
}

#[derive(Deserialize)]
struct Values {
    logits: Vec<f64>,
    loss: f64,
    /// The norm of each parameter's gradient.
    gradients: BTreeMap<String, f64>,
    /// The norm of each running statistic after a step.
    buffers: BTreeMap<String, f64>,
}

fn golden() -> Vec<Golden> {
    serde_json::from_str(include_str!("../../golden/networks.json")).unwrap()
}

/// The states that the golden values start from.
fn start(state: &BTreeMap<String, Vec<usize>>) -> StateDict {
    let tensor = |(place, (name, shape)): (usize, (&String, &Vec<usize>))| {
        let drawn = fill(place as u64 + 1, shape.iter().product());
        let is_vector = shape.len() == 1;
        let values = match name {
            name if name.ends_with("running_var") || (is_vector && name.ends_with("weight")) => {
                drawn.iter().map(|value| 1.0 + value).collect()
            }
            _ if is_vector => drawn,
            _ => {
                let scale = 3.0 / (shape[1..].iter().product::<usize>() as f64).sqrt();
                drawn.iter().map(|value| f64::from((value * scale) as f32)).collect()
            }
        };
        (name.clone(), Tensor::f64(&shape[..], values).unwrap())
    };
    state.iter().enumerate().map(tensor).collect()
}

fn norm(tensor: &Tensor) -> f64 {
    tensor.to_f64_vec().iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Both sides compute in f64, and sum a few hundred terms a layer in other orders.
fn assert_close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-11 + 1e-10 * want.abs(), "{what}: got {got}, want {want}");
}

#[test]
fn states_have_pytorchs_names_and_shapes() -> Result<()> {
    let golden = golden();
    for entry in Network::ENTRIES {
        assert!(golden.iter().any(|golden| golden.network.name() == entry.name), "{} has no golden names", entry.name);
    }
    for Golden { network, shape, state, .. } in golden {
        let mut program = compile(&Device::Cpu, &evaluation(&classifier(&network), shape)?)?;
        let found: BTreeMap<String, Vec<usize>> =
            program.model()?.into_iter().map(|(name, tensor)| (name, tensor.shape().dims().to_vec())).collect();
        assert_eq!(found, state, "{network:?}");
    }
    Ok(())
}

#[test]
fn logits_loss_and_gradients_are_pytorchs() -> Result<()> {
    let mut tried = Vec::new();
    for Golden { network, shape, state, values } in golden() {
        let Some(values) = values else { continue };
        let (name, model) = (network.title(), classifier(&network));
        let write = |program: &mut Program| -> Result<()> {
            program.write_all(start(&state).iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
            program.write("images", &images(shape))
        };
        let mut program = compile(&Device::CpuF64, &evaluation(&model, shape)?)?;
        write(&mut program)?;
        program.run_once("eval")?;
        let logits = program.output("eval", "logits")?.to_f64_vec();
        assert_eq!(logits.len(), values.logits.len(), "{name}");
        for (got, want) in logits.iter().zip(&values.logits) {
            assert_close(&format!("{name}: a logit"), *got, *want);
        }

        let (mut graph, loss) = training(&model, shape)?;
        let gradients = graph.backward(loss)?;
        let parameters = output_gradients(&mut graph, &gradients)?;
        assert_eq!(parameters.len(), values.gradients.len(), "{name}");
        let mut program = compile(&Device::CpuF64, &graph)?;
        write(&mut program)?;
        program.write("labels", &labels())?;
        program.run("train", &StepTable::new(1).constant("step", 0.0))?;
        assert_close(&format!("{name}: the loss"), program.output("train", "loss")?.item()?, values.loss);
        for (parameter, want) in &values.gradients {
            let got = norm(&program.output("train", &format!("grad.{parameter}"))?);
            assert_close(&format!("{name}: the gradient of {parameter}"), got, *want);
        }
        for (buffer, want) in &values.buffers {
            assert_close(&format!("{name}: {buffer}"), norm(&program.read(buffer)?), *want);
        }
        tried.push(network.name());
    }
    for entry in Network::ENTRIES {
        assert!(tried.contains(&entry.name), "{} has no golden values", entry.name);
    }
    Ok(())
}
