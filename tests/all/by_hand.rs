//! What training loops written by hand are made of: layer lists, data from tensors, evaluation at once.

use wgrad::data::{ChannelStats, DataLoader, Normalize, TensorDataset, bundled};
use wgrad::graph::StateKind;
use wgrad::nn::{Classifier, LeNet5, Mode, Model, Sequential};
use wgrad::ops::Reduction;
use wgrad::optim::Optimizer;
use wgrad::{DType, Device, Error, Graph, Program, Result, Tensor, TensorType, evaluate, value_and_grad};

use crate::harness::gpu;

fn cpu_program(model: &dyn Model, shape: &[usize], mode: Option<u64>) -> Result<Program> {
    let mut graph = Graph::new("model");
    let x = graph.input("x", TensorType::f32(shape))?;
    let mode = match mode {
        Some(seed) => Mode::Train { seed, step: graph.scalar("step", DType::U32)? },
        None => Mode::Eval,
    };
    let y = model.logits(&mut graph, x, mode)?;
    graph.output("y", y)?;
    Program::from_graphs(&Device::Cpu, [&graph], 3)
}

#[test]
fn sequential_names_its_layers_as_pytorch_does() -> Result<()> {
    let model = Sequential::new().flatten().linear(128).relu().linear(64).relu().linear(10).log_softmax();
    let mut program = cpu_program(&model, &[2, 1, 28, 28], None)?;
    let names: Vec<String> = program.model()?.into_keys().collect();
    assert_eq!(names, ["1.bias", "1.weight", "3.bias", "3.weight", "5.bias", "5.weight"]);
    assert_eq!(program.num_parameters(), 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10);
    program.run_once("model")?;
    let y = program.output("model", "y")?;
    assert_eq!(y.shape().dims(), [2, 10]);
    let total: f64 = y.to_f64_vec()[..10].iter().map(|log_prob| log_prob.exp()).sum();
    assert!((total - 1.0).abs() < 1e-5, "log-softmax gives logarithms of probabilities, which sum to {total}");
    Ok(())
}

#[test]
fn sequential_lenet_is_lenet() -> Result<()> {
    let layers = Sequential::new()
        .conv2d(6, 5)
        .named("conv1")
        .relu()
        .max_pool2d(2)
        .conv2d(16, 5)
        .named("conv2")
        .relu()
        .max_pool2d(2)
        .flatten()
        .linear(120)
        .named("fc1")
        .relu()
        .linear(84)
        .named("fc2")
        .relu()
        .linear(10)
        .named("fc3");
    let mut outputs = Vec::new();
    for model in [&layers as &dyn Model, &Classifier::new(LeNet5::default(), 10)] {
        let mut program = cpu_program(model, &[3, 1, 28, 28], None)?;
        program.write("x", &Tensor::f32([3, 1, 28, 28], (0..3 * 784).map(|i| (i % 13) as f32 / 13.0).collect())?)?;
        program.run_once("model")?;
        outputs.push(program.output("model", "y")?);
    }
    assert_eq!(outputs[0], outputs[1]);
    Ok(())
}

#[test]
fn sequential_normalises_and_drops_out_in_training_only() -> Result<()> {
    let model = Sequential::new().conv2d(4, 3).batch_norm2d().tanh().dropout(0.5).flatten().dropout(0.5).sigmoid();
    let x = Tensor::f32([2, 1, 5, 5], (0..50).map(|i| i as f32 / 10.0).collect())?;
    let mut program = cpu_program(&model, &[2, 1, 5, 5], Some(9))?;
    assert!(program.model()?.contains_key("1.running_var"));
    program.write("x", &x)?;
    let mut outputs = Vec::new();
    for step in [0, 0, 1] {
        program.run("model", &Optimizer::sgd(0.0).step(step, 0.1))?;
        outputs.push(program.output("model", "y")?.to_f32_vec());
    }
    assert_eq!(outputs[0], outputs[1], "the same step drops the same");
    assert_ne!(outputs[0], outputs[2], "another step drops others");
    let halves = outputs[0].iter().filter(|y| **y == 0.5).count();
    assert!(halves > outputs[0].len() / 2, "two dropouts of a half leave a quarter: {halves} were dropped");
    let mut program = cpu_program(&model, &[2, 1, 5, 5], None)?;
    program.write("x", &x)?;
    program.run_once("model")?;
    assert!(program.output("model", "y")?.to_f32_vec().iter().all(|y| *y != 0.5));
    Ok(())
}

#[test]
fn tensors_are_cut_into_batches_in_the_loaders_order() -> Result<()> {
    let x = Tensor::f32([5, 2], (0..10).map(|i| i as f32).collect())?;
    let label = Tensor::u32([5], vec![10, 11, 12, 13, 14])?;
    let data = TensorDataset::new([("x", x.clone()), ("label", label)])?;
    let loader = DataLoader::new(data.len(), 2)?.shuffled(4);
    let mut seen = Vec::new();
    for (batch, place) in data.batches(&loader, 1).zip(loader.batches()) {
        let rows: Vec<u32> = loader.order(1)[place.range()].to_vec();
        let want: Vec<f32> = rows.iter().flat_map(|&row| [2 * row, 2 * row + 1]).map(|i| i as f32).collect();
        assert_eq!(batch.get("x")?, &Tensor::f32([rows.len(), 2], want)?);
        assert_eq!(batch.get("label")?.to_f32_vec(), rows.iter().map(|&row| (10 + row) as f32).collect::<Vec<_>>());
        assert_eq!(batch.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "label"]);
        seen.extend(rows);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(data.all().get("x")?, &x);
    assert_eq!(data.rows(&[4])?.get("x")?.to_f32_vec(), [8.0, 9.0]);
    assert!(matches!(data.rows(&[5]), Err(Error::Operand { .. })));
    assert!(matches!(data.all().get("y"), Err(Error::UnknownName { kind: "column", .. })));
    let uneven = TensorDataset::new([("x", x), ("y", Tensor::f32([4], vec![0.0; 4])?)]);
    assert!(matches!(uneven, Err(Error::Operand { .. })));
    assert!(matches!(TensorDataset::new([("s", Tensor::scalar(1.0))]), Err(Error::Operand { .. })));
    assert!(TensorDataset::new(Vec::<(&str, Tensor)>::new()).is_err());
    Ok(())
}

#[test]
fn a_batch_of_images_is_what_the_device_gathers() -> Result<()> {
    let data = bundled::fashion_mnist()?.test;
    let normalize = Normalize::Dataset.stats(&data)?;
    let (images, labels) = data.batch(&[3, 0], &normalize)?;
    assert_eq!((images.shape().dims(), labels.shape().dims()), (&[2, 1, 28, 28][..], &[2][..]));
    assert_eq!(labels.to_f32_vec(), [f32::from(data.labels()[3]), f32::from(data.labels()[0])]);
    for (pixel, &byte) in images.to_f64_vec().iter().zip(data.image(3)) {
        let want = (f64::from(byte) / 255.0 - normalize.mean[0]) / normalize.std[0];
        assert!((pixel - want).abs() < 1e-6);
    }
    assert!(data.batch(&[data.len() as u32], &normalize).is_err());
    let of_three = ChannelStats { mean: vec![0.0; 3], std: vec![1.0; 3] };
    assert!(matches!(data.batch(&[0], &of_three), Err(Error::Operand { .. })));
    Ok(())
}

#[test]
fn evaluating_at_once_gives_values_and_gradients() -> Result<()> {
    let inputs = [Tensor::f32([2], vec![1.0, -3.0])?, Tensor::f32([2], vec![2.0, 5.0])?, Tensor::scalar(7.0)];
    for device in [gpu(), &Device::Cpu] {
        // The third input is read by nothing.
        let result = value_and_grad(device, &inputs, |graph, v| {
            let constant = graph.detach(v[1])?;
            let product = graph.mul(v[0], constant)?;
            graph.sum_all(product)
        })?;
        assert_eq!(result.value, 2.0 - 15.0);
        assert_eq!(result.grad(0)?.to_f32_vec(), [2.0, 5.0]);
        assert!(result.grads[1].is_none() && result.grads[2].is_none());
        assert!(matches!(result.grad(1), Err(Error::Operand { .. })));
        assert!(result.grad(3).is_err());
        let outputs = evaluate(device, &inputs, |graph, v| Ok(vec![graph.add(v[0], v[1])?, v[2]]))?;
        assert_eq!((outputs[0].to_f32_vec(), outputs[1].item()?), (vec![3.0, 2.0], 7.0));
    }
    let vector = value_and_grad(&Device::Cpu, &inputs, |_, v| Ok(v[0]));
    assert!(matches!(vector, Err(Error::Operand { .. })), "a loss has one element");
    Ok(())
}

#[test]
fn one_line_of_training_equals_its_parts() -> Result<()> {
    let step = |in_one: bool, optimizer: &Optimizer| -> Result<Vec<f32>> {
        let mut graph = Graph::new("step");
        let x = graph.constant(Tensor::f32([3, 2], vec![1.0, 2.0, -1.0, 0.5, 0.0, 3.0])?);
        let y = graph.constant(Tensor::f32([3, 1], vec![1.0, -1.0, 2.0])?);
        let predicted = Sequential::new().linear(1).forward(&mut graph, x, Mode::Eval)?;
        let loss = graph.mse_loss(predicted, y, Reduction::Mean)?;
        if in_one {
            optimizer.minimize(&mut graph, loss)?;
        } else {
            let grads = graph.backward(loss)?;
            optimizer.update(&mut graph, &grads)?;
        }
        let mut program = Program::from_graphs(&Device::Cpu, [&graph], 0)?;
        for count in 0..3 {
            program.run("step", &if in_one { optimizer.steps(1, 0.1) } else { optimizer.step(count, 0.1) })?;
        }
        Ok(program.read("0.weight")?.to_f32_vec())
    };
    for optimizer in [Optimizer::sgd(0.0), Optimizer::sgd(0.9), Optimizer::adam()] {
        assert_eq!(step(true, &optimizer)?, step(false, &optimizer)?);
    }
    Ok(())
}

/// The loss of a line on `num_rows` points; under the name "step" with its update.
fn line_step(name: &str, num_rows: usize) -> Result<Graph> {
    let mut graph = Graph::new(name);
    let x = graph.input("x", TensorType::f32([num_rows, 1]))?;
    let y = graph.input("y", TensorType::f32([num_rows, 1]))?;
    let w = graph.parameter("w", [1, 1], wgrad::nn::Init::Constant(0.5))?;
    let prediction = graph.linear(x, w, None)?;
    let loss = graph.mse_loss(prediction, y, Reduction::Mean)?;
    graph.output("loss", loss)?;
    if name == "step" {
        Optimizer::adam().minimize(&mut graph, loss)?;
    }
    Ok(graph)
}

fn points(num_rows: usize) -> Result<TensorDataset> {
    let x: Vec<f32> = (0..num_rows).map(|i| i as f32 / 4.0 - 1.0).collect();
    let y = Tensor::f32([num_rows, 1], x.iter().map(|x| 2.0 * x).collect())?;
    TensorDataset::new([("x", Tensor::f32([num_rows, 1], x)?), ("y", y)])
}

/// Steps on batches of 3, 3, 3 and 1 in one program give what a program for each batch gives that takes over the
/// parameters and moments.
#[test]
fn a_shorter_last_batch_trains_as_a_program_of_its_own() -> Result<()> {
    for device in [Device::Cpu, gpu().clone()] {
        let (data, optimizer) = (points(10)?, Optimizer::adam());
        let loader = DataLoader::new(data.len(), 3)?.shuffled(5);
        assert_eq!(loader.batch_sizes(), [3, 1]);
        let graphs =
            loader.batch_sizes().into_iter().map(|size| line_step("step", size)).collect::<Result<Vec<_>>>()?;
        let mut program = Program::from_graphs(&device, &graphs, 0)?;
        let kinds = [StateKind::Parameter, StateKind::Optimizer];
        let (mut states, mut step) = (program.state_dict(&kinds)?, 0);
        for batch in (0..3).flat_map(|epoch| data.batches(&loader, epoch)) {
            let mut alone = Program::from_graphs(&device, [line_step("step", batch.get("x")?.shape()[0])?], 0)?;
            alone.load_state_dict(&states, &kinds)?;
            for program in [&mut program, &mut alone] {
                program.write_all(batch.iter())?;
                program.run("step", &optimizer.step(step, 0.1))?;
            }
            states = alone.state_dict(&kinds)?;
            assert_eq!(program.state_dict(&kinds)?, states, "step {step} on {device}");
            assert_eq!(program.output("step", "loss")?, alone.output("step", "loss")?, "step {step} on {device}");
            assert_eq!(program.read("x")?, *batch.get("x")?, "what was written last");
            step += 1;
        }
        assert_eq!(step, 12);
        assert!(program.read("w")?.item()? > 1.0, "it has learned on {device}");
    }
    Ok(())
}

#[test]
fn inputs_of_a_size_that_no_graph_is_for_are_named() -> Result<()> {
    let small = points(3)?.all();
    let mut one = Program::from_graphs(&Device::Cpu, [line_step("loss", 4)?], 0)?;
    let error = one.write_all(small.iter()).unwrap_err().to_string();
    assert!(error.starts_with("tensor \"x\": expected f32 (4, 1) (for a batch of 3 beside those of 4, add"), "{error}");
    assert!(error.contains("Program::from_graphs") && error.contains("dropping_last"), "{error}");
    // Another shape is another mistake.
    let error = one.write("x", &Tensor::zeros([4])).unwrap_err().to_string();
    assert_eq!(error, "tensor \"x\": expected f32 (4, 1), got f32 (4)");

    let mut both = Program::from_graphs(&Device::Cpu, [line_step("loss", 4)?, line_step("loss", 3)?], 0)?;
    both.write_all(points(4)?.all().iter())?;
    both.write("x", small.get("x")?)?;
    let error = both.run_once("loss").unwrap_err().to_string();
    let want = "loss: expected x (4, 1) and y (4, 1), or x (3, 1) and y (3, 1), got x (3, 1) and y (4, 1), which were \
                written last";
    assert_eq!(error, want);
    both.write("y", small.get("y")?)?;
    both.run_once("loss")?;

    // Entries of different names may differ in size too; then each has inputs of its own, which have to be written.
    let mut two = Program::from_graphs(&Device::Cpu, [line_step("step", 4)?, line_step("loss", 3)?], 0)?;
    two.write_all(points(4)?.all().iter())?;
    two.run("step", &Optimizer::adam().steps(1, 0.1))?;
    let error = two.run_once("loss").unwrap_err().to_string();
    assert!(error.starts_with("loss: expected x (3, 1) and y (3, 1), got x (4, 1) and y (4, 1)"), "{error}");
    two.write_all(small.iter())?;
    two.run_once("loss")?;
    two.run("step", &Optimizer::adam().steps(1, 0.1))?;

    // Graphs of one name and the same inputs are still a mistake, and so is a parameter in two shapes.
    let twice = Program::from_graphs(&Device::Cpu, [line_step("loss", 4)?, line_step("loss", 4)?], 0);
    assert!(matches!(twice, Err(Error::NameClash { .. })));
    let mut wide = Graph::new("wide");
    let w = wide.parameter("w", [2, 1], wgrad::nn::Init::Zeros)?;
    wide.output("w", w)?;
    assert!(matches!(
        Program::from_graphs(&Device::Cpu, [line_step("loss", 4)?, wide], 0),
        Err(Error::NameClash { .. })
    ));
    Ok(())
}

#[test]
fn an_output_before_any_run_is_an_error() -> Result<()> {
    let mut program = Program::from_graphs(&Device::Cpu, [line_step("loss", 4)?], 0)?;
    let error = program.output("loss", "loss").unwrap_err().to_string();
    assert_eq!(error, "tensor \"loss\": expected \"loss\" to have been run, which computes it, got no run yet");
    assert!(program.output("loss", "los").unwrap_err().to_string().starts_with("no output is called"));
    program.run("loss", &wgrad::StepTable::new(0))?;
    program.output("loss", "loss").unwrap_err();
    program.run_once("loss")?;
    assert_eq!(program.output("loss", "loss")?.item()?, 0.0);
    Ok(())
}
