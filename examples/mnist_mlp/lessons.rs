//! Before training: what the loss is, which axis a softmax goes over, which gradients a backward pass leaves, and one step.

use wgrad::nn::{Mode, Model};
use wgrad::ops::{CrossEntropy, NllLoss};
use wgrad::{Device, Graph, Plan, Program, Result, StateDict, Tensor, TensorType, Value, evaluate};

use crate::network;

/// The optimizer's rate in the course's first step.
const LR: f64 = 0.01;

pub const NUM_IMAGES: usize = 64;

/// A batch of images (64, 1, 28, 28) and labels (64).
#[derive(Clone)]
pub struct Batch {
    pub images: Tensor,
    pub labels: Tensor,
}

/// Cross-entropy takes logits: it is the log-softmax and the negative log-likelihood in one.
pub fn two_losses(device: &Device, batch: &Batch) -> Result<()> {
    println!("\n1. The loss of a batch, before any training");
    let mut graph = Graph::new("losses");
    let images = graph.input("images", batch.images.ty())?;
    let labels = graph.input("labels", batch.labels.ty())?;
    let logits = network().logits(&mut graph, images, Mode::Eval)?;
    let cross_entropy = graph.cross_entropy(logits, labels, None, CrossEntropy::default())?;
    let log_probs = graph.log_softmax(logits, 1)?;
    let nll = graph.nll_loss(log_probs, labels, None, NllLoss::default())?;
    graph.output("cross-entropy", cross_entropy)?;
    graph.output("nll", nll)?;
    let mut program = Program::from_graphs(device, [&graph], 0)?;
    program.write_all([("images", &batch.images), ("labels", &batch.labels)])?;
    program.run_once("losses")?;
    let mut loss = |name: &str| program.output("losses", name)?.item();
    println!("cross-entropy of the logits:                {:.6}", loss("cross-entropy")?);
    println!("negative log-likelihood of the log-softmax: {:.6}", loss("nll")?);
    println!("ln 10 = {:.6}: what guessing among ten classes costs", 10f64.ln());
    // Why not softmax, then logarithm? A probability near 0 is 0 in f32.
    let large = Tensor::f32([1, 2], vec![200.0, 0.0])?;
    let results = evaluate(device, &[large], |graph, values| {
        let probabilities = graph.softmax(values[0], 1)?;
        Ok(vec![graph.log(probabilities)?, graph.log_softmax(values[0], 1)?])
    })?;
    println!("logits 200 and 0: logarithm of the softmax {}, log-softmax {}", results[0], results[1]);
    Ok(())
}

/// The softmax of a batch (N, C) is meant over classes, axis 1, so that each row sums to 1.
pub fn softmax_axis(device: &Device, batch: &Batch) -> Result<()> {
    println!("\n2. Which axis? Log-softmax of the logits (64, 10), exponentiated and summed");
    for axis in [0, 1] {
        let mut graph = Graph::new("axes");
        let images = graph.input("images", batch.images.ty())?;
        let logits = network().logits(&mut graph, images, Mode::Eval)?;
        let log_probs = graph.log_softmax(logits, axis)?;
        let probs = graph.exp(log_probs)?;
        let (of_rows, of_columns) = (graph.sum(probs, &[1], false)?, graph.sum(probs, &[0], false)?);
        graph.output("rows", of_rows)?;
        graph.output("columns", of_columns)?;
        let mut program = Program::from_graphs(device, [&graph], 0)?;
        program.write("images", &batch.images)?;
        program.run_once("axes")?;
        let mut first = |name: &str| -> Result<f64> { Ok(program.output("axes", name)?.to_f64_vec()[0]) };
        let (row, column) = (first("rows")?, first("columns")?);
        println!("axis {axis}: an image's ten classes sum to {row:.4}, a class's {NUM_IMAGES} images to {column:.4}");
    }
    println!("Each image is of one class, so its classes have to sum to 1: axis 1.");
    Ok(())
}

/// Gradients are there once a backward pass is part of the graph.
pub fn before_and_after_backward(device: &Device, batch: &Batch) -> Result<()> {
    println!("\n3. The gradient of the first layer's weight");
    let (graph, _) = loss_graph("forward", batch)?;
    let forward = Plan::new(&graph)?;
    let mut program = Program::from_graphs(device, [&graph], 0)?;
    match program.output("forward", "grad 1.weight") {
        Ok(_) => println!("unexpected: a gradient without a backward pass"),
        Err(error) => println!("before backward: {error}"),
    }
    let mut program = gradient_program(device, batch)?;
    program.write_all([("images", &batch.images), ("labels", &batch.labels)])?;
    program.run_once("gradients")?;
    println!("after backward:\n{}", program.output("gradients", "grad 1.weight")?);
    // What torch.no_grad() saves is not there to be switched off: a graph without `backward` computes no gradients.
    let backward = &program.plans()[0];
    let flops = [&forward, backward].map(|plan| plan.cost().flops);
    println!("operations of a batch: {} forward alone, {} with gradients", flops[0], flops[1]);
    Ok(())
}

/// One step of gradient descent, by hand: w − lr · gradient.
pub fn one_step(device: &Device, batch: &Batch) -> Result<()> {
    println!("\n4. One step at {LR}");
    let mut program = gradient_program(device, batch)?;
    let before = program.model()?;
    println!("weights before:\n{}", before["1.weight"]);
    let (loss, gradients) = gradients_of(&mut program, batch)?;
    let after = stepped(&before, &gradients)?;
    program.load_model(&after)?;
    println!("weights after:\n{}", after["1.weight"]);
    let (loss_after, _) = gradients_of(&mut program, batch)?;
    println!("loss of the batch {loss:.6} before, {loss_after:.6} after");
    Ok(())
}

/// What PyTorch does without `zero_grad`: each backward pass adds to the gradients of all before it.
pub fn without_zero_grad(device: &Device, batches: &[Batch]) -> Result<()> {
    println!("\n5. Gradients that are never reset, at {LR}: the loss of each batch");
    let mut curves = Vec::new();
    for is_reset in [true, false] {
        let mut program = gradient_program(device, &batches[0])?;
        let mut sum: Option<StateDict> = None;
        let mut losses = Vec::new();
        for batch in batches {
            let (loss, mut gradients) = gradients_of(&mut program, batch)?;
            losses.push(loss);
            if let (Some(before), false) = (&sum, is_reset) {
                gradients = added(&gradients, before, 1.0)?;
            }
            let model = program.model()?;
            program.load_model(&stepped(&model, &gradients)?)?;
            sum = Some(gradients);
        }
        curves.push(losses);
    }
    println!("{:>6} {:>10} {:>14}", "batch", "reset", "never reset");
    let every = batches.len().div_ceil(10);
    for batch in (0..batches.len()).filter(|batch| *batch == 0 || (batch + 1).is_multiple_of(every)) {
        println!("{:>6} {:>10.4} {:>14.4}", batch + 1, curves[0][batch], curves[1][batch]);
    }
    println!(
        "A sum of all gradients so far is momentum 1: it never forgets, so it is fast at first, then passes every minimum it \
         meets. Here a gradient is a value that every run computes anew; nothing has to be reset."
    );
    Ok(())
}

/// The network and its loss on a batch.
fn loss_graph(name: &str, batch: &Batch) -> Result<(Graph, Value)> {
    let mut graph = Graph::new(name);
    let images = graph.input("images", batch.images.ty())?;
    let labels = graph.input("labels", TensorType::u32([batch.labels.shape()[0]]))?;
    let logits = network().logits(&mut graph, images, Mode::Eval)?;
    let log_probs = graph.log_softmax(logits, 1)?;
    let loss = graph.nll_loss(log_probs, labels, None, NllLoss::default())?;
    graph.output("loss", loss)?;
    Ok((graph, loss))
}

/// The same with the gradient of every parameter as an output, "grad 1.weight".
fn gradient_program(device: &Device, batch: &Batch) -> Result<Program> {
    let (mut graph, loss) = loss_graph("gradients", batch)?;
    let gradients = graph.backward(loss)?;
    for (name, parameter) in graph.parameters() {
        if let Some(gradient) = gradients.get(parameter) {
            graph.output(&format!("grad {name}"), gradient)?;
        }
    }
    Program::from_graphs(device, [&graph], 0)
}

fn gradients_of(program: &mut Program, batch: &Batch) -> Result<(f64, StateDict)> {
    program.write_all([("images", &batch.images), ("labels", &batch.labels)])?;
    program.run_once("gradients")?;
    let mut gradients = program.model()?;
    for (name, gradient) in &mut gradients {
        *gradient = program.output("gradients", &format!("grad {name}"))?;
    }
    Ok((program.output("gradients", "loss")?.item()?, gradients))
}

fn stepped(model: &StateDict, gradients: &StateDict) -> Result<StateDict> {
    added(model, gradients, -LR as f32)
}

/// a + factor · b, tensor by tensor.
fn added(a: &StateDict, b: &StateDict, factor: f32) -> Result<StateDict> {
    let sum = |(name, a): (&String, &Tensor)| {
        let pairs = a.to_f32_vec().into_iter().zip(b[name].to_f32_vec());
        Ok((name.clone(), Tensor::f32(a.shape(), pairs.map(|(a, b)| a + factor * b).collect())?))
    };
    a.iter().map(sum).collect()
}
