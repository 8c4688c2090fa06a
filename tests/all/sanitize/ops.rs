//! Every kernel of every op, in every variant, over the cases: no findings, the values of the f64 reference, and loops
//! no longer than the op says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use wgrad::nn::Init;
use wgrad::ops::kernel::{GpuTraits, Shader};
use wgrad::optim::{GradientOptions, Optimizer, ParamGroup, Update, UpdateOptions};
use wgrad::sanitize::{Interpreter, Kind, Options, Order, PlanReport};
use wgrad::{Graph, Plan, StateDict, StepTable, TensorType};

use crate::cases::{self, Fill, input};
use crate::fused;
use crate::harness::{SPECIAL, inputs_of, plan_with_gradients, scalars, takes_special_values};
use crate::ops::{conv2d_depthwise, conv2d_gemm};

/// Loops that take no more than this are short, whatever an op says of them.
const SHORT_LOOP: u64 = 256;

/// Findings that are meant, as (kernel, kind, part of the line, why).
const MEANT: [(&str, Kind, &str, &str); 2] = [
    ("elementwise.unary", Kind::NanFromFinite, "log(x)", POWERS),
    ("elementwise.unary_backward", Kind::NanFromFinite, "log(x)", POWERS),
];

const POWERS: &str = "a negative number to the power of a fraction is NaN, and WGSL evaluates both sides of select()";

/// A name, and an interpreter with the kernels of a kind of adapter.
fn interpreters() -> Vec<(&'static str, Interpreter)> {
    let traits = |is_software, has_shuffles| GpuTraits { is_software, has_shuffles, max_loop_iterations: usize::MAX };
    let options = |subgroup_size, order| Options { subgroup_size, order, ..Options::default() };
    vec![
        ("GPU", Interpreter::new(traits(false, false), options(32, Order::Forward))),
        ("software", Interpreter::new(traits(true, false), options(32, Order::Reverse))),
        ("shuffles of 8", Interpreter::new(traits(true, true), options(8, Order::Forward))),
        ("shuffles of 64", Interpreter::new(traits(true, true), options(64, Order::Reverse))),
    ]
}

/// Something to run: a name, a plan, its states and scalars.
struct Work {
    name: String,
    /// Whether operands are not finite, so that only kinds of number can be compared.
    is_special: bool,
    plan: Plan,
    states: StateDict,
    table: StepTable,
}

/// What runs told, all together.
#[derive(Default)]
struct Tally {
    failures: BTreeMap<String, String>,
    kernels: BTreeSet<String>,
    variants: BTreeSet<String>,
    dispatches: usize,
    operations: u64,
}

impl Tally {
    fn add(&mut self, work: &Work, adapter: &str, result: wgrad::Result<PlanReport>) {
        let mut fail = |key: String, text: String| {
            self.failures.entry(key).or_insert_with(|| format!("{} ({adapter}): {text}", work.name));
        };
        let report = match result {
            Ok(report) => report,
            Err(error) => return fail(error.to_string(), error.to_string()),
        };
        if let Some(difference) = &report.verified.difference {
            fail(format!("{} differs", difference.label), difference.to_string());
        }
        for used in &report.kernels {
            for finding in &used.report.findings {
                let is_meant = MEANT.iter().any(|(kernel, kind, part, _)| {
                    finding.kernel == *kernel && finding.kind == *kind && finding.site.text.contains(part)
                });
                // 0 / 0 and what else zeros give among special values is NaN in the reference too.
                let is_expected = work.is_special && finding.kind == Kind::NanFromFinite;
                if !is_meant && !is_expected {
                    let key = format!("{} {:?} {}", finding.kernel, finding.kind, finding.site.text);
                    fail(key, finding.to_string());
                }
            }
            let (took, stated) = (used.report.max_iterations, used.stated_iterations.unwrap_or(0) as u64);
            if took > stated.max(SHORT_LOOP) {
                let text = format!("{} took {took} iterations and states {stated}", used.kernel);
                fail(format!("{} iterations", used.kernel), text);
            }
            self.dispatches += 1;
            self.operations += used.report.operations;
            self.variants.insert(format!("{} {:?} {:?}", used.kernel, used.constants, used.workgroup_size));
            self.kernels.insert(used.kernel.clone());
        }
    }
}

fn run_all(work: &[Work], interpreters: &[(&'static str, Interpreter)]) -> Tally {
    let (tally, next, started) = (Mutex::new(Tally::default()), AtomicUsize::new(0), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(work) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for (adapter, interpreter) in interpreters {
                        let check = if work.is_special { Interpreter::check_kinds } else { Interpreter::check };
                        let result = check(interpreter, &work.plan, &work.states, &work.table, 0);
                        tally.lock().unwrap().add(work, adapter, result);
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    eprintln!(
        "{} plans, {} dispatches, {} kernels in {} variants, {:.1} G operations, {:.1} s on {threads} threads",
        work.len(),
        tally.dispatches,
        tally.kernels.len(),
        tally.variants.len(),
        tally.operations as f64 / 1e9,
        started.elapsed().as_secs_f64(),
    );
    tally
}

fn assert_clean(tally: &Tally) {
    let failures: Vec<&str> = tally.failures.values().map(String::as_str).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The cases of the ops, each with its gradients.
fn case_work() -> Vec<Work> {
    let work = |case: cases::Case| {
        let plan = plan_with_gradients(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let states = inputs_of(case.tensors(), &plan);
        Work { states, name: case.name, is_special: false, plan, table: scalars() }
    };
    cases::all().into_iter().map(work).collect()
}

/// The small cases with NaN, an infinity and −0 among their operands; the harness has those with one of a kind.
fn special_work() -> Vec<Work> {
    let mut all = Vec::new();
    for case in cases::all().into_iter().filter(takes_special_values) {
        let plan = plan_with_gradients(&case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let special = SPECIAL[2];
        let states = inputs_of(case.special_tensors(special), &plan);
        let name = format!("{}, with {special:?}", case.name);
        all.push(Work { name, is_special: true, plan, states, table: scalars() });
    }
    all
}

/// The update of parameters of awkward sizes under each optimizer, plain and with all that may come before it.
fn update_work() -> Vec<Work> {
    let everything = UpdateOptions {
        gradients: GradientOptions {
            accumulate: 2,
            l1: 0.1,
            l2: 0.2,
            regularize_biases: true,
            clip_value: Some(0.2),
            clip_norm: Some(0.5),
        },
        groups: vec![ParamGroup { weight_decay: Some(0.0), ..ParamGroup::new(["p1"]) }],
    };
    let mut work = Vec::new();
    for entry in Optimizer::ENTRIES {
        let optimizer = Optimizer::named(entry.name).unwrap();
        for options in [UpdateOptions::default(), everything.clone()] {
            let name = format!("{} {options:?}", entry.name);
            let update = Update::new(optimizer.clone(), options).unwrap();
            work.push(one_update(name, &update).unwrap());
        }
    }
    work
}

fn one_update(name: String, update: &Update) -> wgrad::Result<Work> {
    let shapes: [&[usize]; 6] = [&[1], &[63], &[65], &[3, 5], &[], &[2, 1, 7, 53]];
    let mut graph = Graph::new("update");
    let mut states = StateDict::new();
    let mut loss = None;
    for (index, shape) in shapes.into_iter().enumerate() {
        let start = input(shape, Fill::AwayFromZero).tensor(index as u64);
        let param = graph.parameter(&format!("p{index}"), start.shape(), Init::Values(start.clone()))?;
        let factor = graph.input(&format!("factor {index}"), TensorType::f32(shape))?;
        states.insert(format!("factor {index}"), input(shape, Fill::Uniform).tensor(50 + index as u64));
        let product = graph.mul(param, factor)?;
        let sum = graph.sum_all(product)?;
        loss = Some(match loss {
            None => sum,
            Some(loss) => graph.add(loss, sum)?,
        });
    }
    let total = update.minimize(&mut graph, loss.expect("there are parameters"))?;
    graph.output("loss", total)?;
    let plan = Plan::new(&graph)?;
    for spec in plan.states().iter().filter(|spec| spec.name.contains('.')) {
        // Moments in the middle of training: second ones are not negative.
        states.insert(spec.name.clone(), input(spec.ty.shape.clone(), Fill::Positive).tensor(7));
    }
    // The fifth step, and of two batches in a step the second.
    let table = update.steps(1, 0.05).starting_at(9);
    Ok(Work { name, is_special: false, plan, states, table })
}

/// Whole training steps, which have the fused ops.
fn step_work() -> Vec<Work> {
    let work = |step: fused::Step| {
        let plan = Plan::new(&step.graph).unwrap();
        Work { name: step.name.to_owned(), is_special: false, plan, table: step.table(1), states: step.states }
    };
    fused::steps().into_iter().chain(fused::optimizer_steps()).map(work).collect()
}

#[test]
fn every_kernel_is_clean_and_right() {
    let work: Vec<Work> = case_work().into_iter().chain(update_work()).chain(step_work()).collect();
    let tally = run_all(&work, &interpreters());
    let is_run = |label: &str| tally.kernels.contains(label) || LARGE.contains(&label);
    let not_run: Vec<String> = entry_points().into_iter().filter(|label| !is_run(label)).collect();
    assert_clean(&tally);
    assert!(not_run.is_empty(), "no case runs {not_run:?}");
}

/// Kernels that only large convolutions take: all of their workgroups would take minutes.
const LARGE: [&str; 5] = [
    "conv2d_gemm.turn",
    "conv2d_gemm.gemm",
    "conv2d_gemm.gemm_moments",
    "conv2d_gemm.gemm_sums",
    "conv2d_grad_weight_gemm.gemm",
];

/// A few workgroups of them; `ops::conv2d_gemm` compares what they compute with the reference.
#[test]
fn kernels_of_large_convolutions_are_clean() {
    let options = Options { count: true, max_workgroups: Some(2), ..Options::default() };
    let interpreter = Interpreter::new(GpuTraits::GPU, options);
    // Strides, dilations and padding beyond the kernel, and all that can be ragged.
    let products = conv2d_gemm::cases().into_iter().skip(1).step_by(2);
    let mut run = BTreeSet::new();
    let products = products.chain(conv2d_gemm::moment_cases()).chain(conv2d_gemm::sum_cases());
    let products = products.chain(conv2d_gemm::weight_cases().into_iter().take(2));
    for case in products.chain(conv2d_depthwise::cases()) {
        let plan = plan_with_gradients(&case).unwrap();
        let states = inputs_of(case.tensors(), &plan);
        for used in interpreter.count(&plan, &states, &scalars(), 0).unwrap() {
            assert!(used.report.findings.is_empty(), "{}: {}", case.name, used.report.findings[0]);
            run.insert(used.kernel);
        }
    }
    assert!(LARGE.iter().all(|kernel| run.contains(*kernel)), "{run:?}");
}

#[test]
fn special_values_come_out_as_they_should() {
    assert_clean(&run_all(&special_work(), &interpreters()[..2]));
}

/// The labels of all entry points of all shaders.
fn entry_points() -> BTreeSet<String> {
    let shaders = wgrad::ops::shaders().into_iter().chain(wgrad::optim::shaders());
    let labels = |shader: &Shader| {
        let module = naga::front::wgsl::parse_str(shader.source).expect("a test of its own says why not");
        module.entry_points.iter().map(|entry| format!("{}.{}", shader.name, entry.name)).collect::<Vec<_>>()
    };
    shaders.flat_map(labels).collect()
}

/// `cases::all` has every list of every file, so that a new op is checked without a word here.
#[test]
fn every_list_of_cases_is_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/cases");
    let listed = std::fs::read_to_string(format!("{folder}/mod.rs")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.starts_with("pub fn ") && line.contains("() -> Vec<Case>")) {
            let function = line["pub fn ".len()..].split('(').next().unwrap();
            if file != "mod" {
                assert!(listed.contains(&format!("{file}::{function}(),")), "cases::all lacks {file}::{function}");
                count += 1;
            }
        }
    }
    assert!(count > 20, "only {count} lists were found");
}
