use super::CpuExecutor;
use crate::exec::exchange::{Final, StateGroup, Watch, append};
use crate::exec::{Device, Program, StateLayout, StepTable, Threads};
use crate::graph::{Graph, Init, Value};
use crate::nn::{Classifier, Mode, Model, Network};
use crate::ops::CrossEntropy;
use crate::ops::cpu::Float;
use crate::ops::update::accumulate::{Accumulate, SumStep};
use crate::optim::buckets::buckets;
use crate::optim::{GradientOptions, Optimizer, Update, UpdateOptions, gradient_sum};
use crate::tensor::{DType, Tensor, TensorType};
use crate::{Plan, Result};

const BATCH: usize = 11;

/// The logits of a network in training on a batch of images (C, H, W), and their labels.
fn logits(graph: &mut Graph, network: &str, [channels, height, width]: [usize; 3]) -> Result<(Value, Value)> {
    let images = graph.input("images", TensorType::f32([BATCH, channels, height, width]))?;
    let labels = graph.input("labels", TensorType::u32([BATCH]))?;
    let step = graph.scalar("step", DType::U32)?;
    let model = Classifier::new(Network::open(network)?, 10);
    Ok((model.logits(graph, images, Mode::Train { seed: 5, step })?, labels))
}

/// The logits, the loss and the gradients of a network in training on a batch.
fn plan(network: &str, image: [usize; 3]) -> Result<Plan> {
    let mut graph = Graph::new("train");
    let (logits, labels) = logits(&mut graph, network, image)?;
    // Before the mean, so that a segment has rows to give as an output.
    graph.output("logits", logits)?;
    let loss = graph.cross_entropy(logits, labels, None, CrossEntropy::default())?;
    let grads = graph.backward(loss)?;
    for (name, value) in graph.parameters() {
        if let Some(grad) = grads.get(value) {
            graph.output(&format!("grad.{name}"), grad)?;
        }
    }
    graph.output("loss", loss)?;
    Plan::new(&graph)
}

fn program<F: Float>(plan: &Plan, most_images: Option<usize>) -> Result<Program> {
    let plans = vec![plan.clone()];
    let layout = StateLayout::new(&plans)?;
    let executor = Box::new(CpuExecutor::<F>::with_most_images(&plans, &layout, most_images).expect("memory for it"));
    let mut program = Program::with_executor(plans, layout, executor, 7)?;
    let images = plan.states().iter().find(|spec| spec.name == "images").expect("the network has an input");
    let uniform = Init::Uniform { bound: 1.0 };
    program.write("images", &uniform.tensor("images", &images.ty, 3)?.expect("drawn"))?;
    program.write("labels", &Tensor::u32([BATCH], (0..BATCH as u32).map(|i| i * 7 % 10).collect())?)?;
    Ok(program)
}

fn table() -> StepTable {
    StepTable::new(2).constant("step", 4.0)
}

/// All outputs after two runs, one value after the other.
fn outputs(program: &mut Program) -> Result<Vec<(String, Tensor)>> {
    program.run("train", &table())?;
    let names: Vec<String> = program.plans()[0].outputs.keys().cloned().collect();
    names.into_iter().map(|name| Ok((name.clone(), program.output("train", &name)?))).collect()
}

fn networks() -> [(&'static str, [usize; 3]); 4] {
    [("lenet5", [1, 28, 28]), ("mlp", [1, 9, 9]), ("vgg", [3, 32, 32]), ("resnet", [3, 16, 16])]
}

#[test]
fn segments_give_what_the_reference_gives_for_any_number_of_images_at_a_time() -> Result<()> {
    for (network, shape) in networks() {
        let plan = plan(network, shape)?;
        let want = outputs(&mut program::<f64>(&plan, None)?)?;
        for most_images in [None, Some(1), Some(4), Some(16)] {
            let (mut program, mut num_large) = (program::<f32>(&plan, most_images)?, 0);
            for ((name, want), (_, got)) in want.iter().zip(outputs(&mut program)?) {
                let (want, got) = (want.to_f64_vec(), got.to_f64_vec());
                let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
                num_large += usize::from(largest > 1e-4);
                // Rounding errors of f32 through up to twenty layers; a ReLU or a maximum that falls the other way
                // changes single gradients by more, so the mean counts. A row at the wrong place is off by as much as
                // there is. Biases before a batch normalization have a gradient of 0, up to rounding.
                let mean = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).sum::<f64>() / want.len() as f64;
                assert!(mean <= 1e-2 * largest + 2e-6, "{network}, {most_images:?}: {name} {mean:e} of {largest:e}");
            }
            assert!(num_large >= 4, "{network} has gradients");
        }
    }
    Ok(())
}

#[test]
fn the_number_of_threads_changes_no_bit() -> Result<()> {
    let bits = |outputs: Vec<(String, Tensor)>| -> Vec<Vec<u32>> {
        outputs.iter().map(|(_, tensor)| tensor.to_f32_vec().iter().map(|x| x.to_bits()).collect()).collect()
    };
    for (network, shape) in networks() {
        let plan = plan(network, shape)?;
        for most_images in [None, Some(2)] {
            let run = |threads| {
                Threads::new(threads).install(|| Ok(bits(outputs(&mut program::<f32>(&plan, most_images)?)?)))
            };
            let one: Vec<Vec<u32>> = run(1)?;
            for threads in [2, 3] {
                let other: Result<_> = run(threads);
                assert!(one == other?, "{network} on {threads} threads, {most_images:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn single_ops_and_whole_runs_have_memory_of_their_own() -> Result<()> {
    let plan = plan("lenet5", [1, 28, 28])?;
    let mut program = program::<f32>(&plan, Some(4))?;
    let whole = outputs(&mut program)?;
    program.profile("train", &StepTable::new(1).constant("step", 4.0), 1)?;
    let loss = |program: &mut Program| -> Result<f64> { program.output("train", "loss")?.item() };
    let by_op = loss(&mut program)?;
    let (_, of_whole) = whole.iter().find(|(name, _)| name == "loss").expect("an output");
    assert!((by_op - of_whole.item()?).abs() <= 1e-5 * by_op.abs());
    assert_eq!(outputs(&mut program)?, whole);
    Ok(())
}

/// What a watched run tells: which part is final after how many stages, with its bytes.
#[derive(Default)]
struct Told {
    finals: Vec<(usize, usize, Vec<u8>)>,
    num_stages: usize,
}

impl Watch for Told {
    fn is_final(&mut self, part: usize, states: Final<'_>) -> Result<()> {
        let Final::Lent(lent) = states else { panic!("the states of a bucket lie together") };
        self.finals.push((part, self.num_stages, lent.to_vec()));
        Ok(())
    }

    fn stage_done(&mut self) -> Result<()> {
        self.num_stages += 1;
        Ok(())
    }
}

/// Runs one of two accumulated batches of a network, watching the sums of its gradients in buckets. Gives what was told,
/// and what the sums are afterwards.
fn watched<F: Float>(network: &str, image: [usize; 3]) -> Result<(Told, Vec<u8>)> {
    let mut graph = Graph::new("train");
    let (logits, labels) = logits(&mut graph, network, image)?;
    let loss = graph.cross_entropy(logits, labels, None, CrossEntropy::default())?;
    let gradients = GradientOptions { accumulate: 2, ..GradientOptions::default() };
    let update = Update::new(Optimizer::sgd(0.9), UpdateOptions::from(gradients))?;
    update.minimize(&mut graph, loss)?;
    let plan = Plan::new(&graph)?;
    let names = plan.updated_by.clone().expect("the graph has an optimizer").parameters;
    let size =
        |name: &String| plan.states().iter().find(|spec| spec.name == *name).map(|spec| spec.ty.shape.num_elems());
    let of_bucket = buckets(&names.iter().filter_map(size).collect::<Vec<_>>());
    let mut parts = vec![Vec::new(); of_bucket[of_bucket.len() - 1] + 1];
    names.iter().zip(of_bucket).for_each(|(name, bucket)| parts[bucket].push(gradient_sum(name, 0)));
    let mut program = program::<F>(&plan, None)?;
    let sums = program.group_in_parts(parts)?;
    let (mut told, mut after) = (Told::default(), Vec::new());
    program.run_watched("train", &update.steps(1, 0.1), &sums, &mut told)?;
    program.read_group(&sums, &mut after)?;
    Ok((told, after))
}

#[test]
fn a_watch_hears_of_gradients_while_the_rest_of_a_step_runs() -> Result<()> {
    for (network, shape) in networks() {
        let (mut told, after) = watched::<f32>(network, shape)?;
        let order: Vec<usize> = told.finals.iter().map(|(part, ..)| *part).collect();
        let stages: Vec<usize> = told.finals.iter().map(|(_, stage, _)| *stage).collect();
        println!("{network}: buckets {order:?} after {stages:?} of {} stages", told.num_stages);
        told.finals.sort_unstable_by_key(|(part, ..)| *part);
        let mut bytes = Vec::new();
        told.finals.iter().for_each(|(.., part)| append(&mut bytes, 0, part));
        assert!(bytes == after && after.iter().any(|&byte| byte != 0), "{network}: what was told is what remains");
        if network == "lenet5" {
            assert_eq!(order, [0]);
        }
        if network == "resnet" {
            // The backward pass comes to the last layers first.
            assert!(order.len() > 3 && order.is_sorted_by(|one, next| one > next), "{order:?}");
            assert!(
                stages.is_sorted_by(|one, next| one < next) && 2 * stages[0] < 3 * told.num_stages / 2,
                "{stages:?}"
            );
        }
    }
    // The reference runs a step in one piece.
    let (told, after) = watched::<f64>("mlp", [1, 9, 9])?;
    assert!(told.num_stages == 0 && told.finals.into_iter().flat_map(|(_, _, bytes)| bytes).eq(after));
    Ok(())
}

/// A program of one entry that adds two states of one pack to another, and the group of each.
fn packed() -> Result<(Program, [StateGroup; 2])> {
    let mut graph = Graph::new("add");
    let (one, two) = (TensorType::f32([3]), TensorType::f32([2, 5]));
    let names = [["a", "b"], ["x", "y"]];
    let mut operands = Vec::new();
    for [first, second] in names {
        operands.extend([graph.input(first, one.clone())?, graph.input(second, two.clone())?]);
    }
    graph.push(Accumulate { num_params: 2, step: SumStep::Merge, runs: vec![2] }, &operands)?;
    let mut program = Program::from_graphs(&Device::Cpu, [&graph], 0)?;
    let groups = names.map(|names| program.group(names.map(str::to_owned)));
    let [read, updated] = groups;
    Ok((program, [read?, updated?]))
}

#[test]
fn states_of_a_pack_are_lent_as_one_and_computed_with_where_they_lie() -> Result<()> {
    let (mut program, [read, updated]) = packed()?;
    let expected = |scale: f32| (1..=13).map(|value| scale * value as f32).collect::<Vec<_>>();
    for (group, scale) in [(&read, 1.0), (&updated, 10.0)] {
        let mut lent = group.lend(0).expect("members of a pack lie together");
        // The second state begins at a line of its own.
        assert_eq!(lent.len(), 64 + 40);
        lent[..12].copy_from_slice(bytemuck::cast_slice(&expected(scale)[..3]));
        lent[64..].copy_from_slice(bytemuck::cast_slice(&expected(scale)[3..]));
    }
    program.run_once("add")?;
    let sums = [program.read("x")?.to_f32_vec(), program.read("y")?.to_f32_vec()].concat();
    assert_eq!(sums, expected(11.0));
    Ok(())
}

#[test]
#[should_panic(expected = "states that are lent are left alone")]
fn a_program_does_not_run_with_states_that_are_lent() {
    let (mut program, [read, _]) = packed().expect("two packs can be added");
    let _lent = read.lend(0);
    drop(program.run_once("add"));
}

#[test]
#[should_panic(expected = "states that are lent are left alone")]
fn states_that_are_lent_are_not_read() {
    let (mut program, [read, _]) = packed().expect("two packs can be added");
    let _lent = read.lend(0);
    drop(program.read("b"));
}
