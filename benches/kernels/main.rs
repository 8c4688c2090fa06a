//! How fast each op is, on the CPU and on a GPU: `cargo bench --bench kernels [-- FILTER]`, ids `op.case/cpu` and
//! `op.case/gpu`. `WGRAD_DEVICE` picks the adapter.
//!
//! Each bench is a program of one op. Its result is held against the f64 reference before anything is timed; what is
//! timed is runs of many steps, the wait for the device included. Throughput comes from the plan's cost: floating-point
//! operations a second where arithmetic is the limit, bytes a second where memory is.

#[path = "../../tests/all/cases/mod.rs"]
mod cases;

mod batch_norm2d;
mod conv2d;
mod copy;
mod cross_entropy;
mod elementwise;
mod matmul;
mod optimizer;
mod pool2d;
mod reduce;
mod softmax;

use std::time::{Duration, Instant};

use cases::Case;
use criterion::{Criterion, Throughput};
use wgrad::exec::verify::verify;
use wgrad::nn::Init;
use wgrad::{DType, Device, Graph, Plan, Program, Result, StateDict, StepTable, Value};

/// What limits an op, and so what its throughput counts.
#[derive(Clone, Copy)]
pub enum Limit {
    /// Arithmetic: floating-point operations, shown as elements.
    Flops,
    /// Memory: bytes that have to be read and written at least.
    Bytes,
}

/// An op over given inputs. The case's name is the bench's id.
pub struct Bench {
    case: Case,
    limit: Limit,
    /// What the op reads from the step table.
    scalars: Vec<(&'static str, f64)>,
}

/// A bench of an op without scalars.
pub fn bench(limit: Limit, case: Case) -> Bench {
    Bench { case, limit, scalars: Vec::new() }
}

/// The gradients of the sum of `output` by all floats among `inputs`. The forward is part of the program only as far
/// as the gradients read it.
pub fn gradients(graph: &mut Graph, inputs: &[Value], output: Value) -> Result<Vec<Value>> {
    let loss = graph.sum_all(output)?;
    let gradients = graph.backward(loss)?;
    Ok(inputs.iter().filter_map(|&input| gradients.get(input)).collect())
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let devices = devices();
    let benches = [
        batch_norm2d::benches(),
        conv2d::benches(),
        copy::benches(),
        cross_entropy::benches(),
        elementwise::benches(),
        matmul::benches(),
        optimizer::benches(),
        pool2d::benches(),
        reduce::benches(),
        softmax::benches(),
    ];
    for bench in benches.iter().flatten() {
        run(&mut criterion, &devices, bench);
    }
    criterion.final_summary();
}

/// The processor and, where there is one, an adapter; says what it found.
fn devices() -> Vec<(&'static str, Device)> {
    println!("cpu: {}", Device::Cpu);
    let mut devices = vec![("cpu", Device::Cpu)];
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    match Device::select_with_reason(&wanted) {
        Ok((device @ Device::Gpu(_), reason)) => {
            println!("gpu: {device}, {}: {reason}", device.info().backend);
            if device.info().is_software {
                println!("gpu: a software adapter, whose numbers say nothing about a real GPU");
            }
            devices.push(("gpu", device));
        }
        Ok(_) => println!("gpu: left out, WGRAD_DEVICE asks for \"{wanted}\""),
        Err(error) => println!("gpu: only the CPU runs, since {error}"),
    }
    devices
}

fn run(criterion: &mut Criterion, devices: &[(&'static str, Device)], bench: &Bench) {
    let name = &bench.case.name;
    let plan = plan(&bench.case).unwrap_or_else(|error| panic!("{name}: {error}"));
    let cost = plan.cost();
    let mut group = criterion.benchmark_group(name);
    group.throughput(match bench.limit {
        Limit::Flops => Throughput::Elements(cost.flops),
        Limit::Bytes => Throughput::Bytes(cost.bytes),
    });
    for (id, device) in devices {
        let mut prepared = None;
        group.bench_function(*id, |bencher| {
            // Criterion comes here for every sample, and not at all for a bench that the filter leaves out.
            let program = prepared.get_or_insert_with(|| {
                prepare(device, &plan, bench).unwrap_or_else(|error| panic!("{name}/{id}: {error}"))
            });
            bencher.iter_custom(|num_steps| {
                let num_steps = usize::try_from(num_steps).expect("as many steps fit into memory");
                let table = table(bench, num_steps);
                let start = Instant::now();
                program.run(plan.name(), &table).unwrap_or_else(|error| panic!("{name}/{id}: {error}"));
                start.elapsed()
            });
        });
    }
    group.finish();
}

/// A program with its inputs in place, once its results have been found right.
fn prepare(device: &Device, plan: &Plan, bench: &Bench) -> Result<Program> {
    let inputs: StateDict = bench
        .case
        .tensors()
        .into_iter()
        .enumerate()
        .map(|(index, tensor)| (format!("input {index}"), tensor))
        // Inputs that nothing reads are not in the plan.
        .filter(|(name, _)| plan.states().iter().any(|state| state.name == *name))
        .collect();
    let report = verify(device, plan, &inputs, &table(bench, 1), 0)?;
    if let Some(difference) = report.difference {
        panic!("{}: {device} differs from the reference: {difference}", bench.case.name);
    }
    let mut program = Program::compile(device, vec![plan.clone()], 0)?;
    for (name, tensor) in &inputs {
        program.write(name, tensor)?;
    }
    Ok(program)
}

fn table(bench: &Bench, num_steps: usize) -> StepTable {
    bench.scalars.iter().fold(StepTable::new(num_steps), |table, &(name, value)| table.constant(name, value))
}

fn plan(case: &Case) -> Result<Plan> {
    let mut graph = Graph::new("bench");
    let declare = |(index, tensor): (usize, wgrad::Tensor)| {
        let name = format!("input {index}");
        match tensor.dtype() {
            // A parameter, so that optimizers find it.
            DType::F32 => graph.parameter(&name, tensor.shape(), Init::Zeros),
            _ => graph.input(&name, tensor.ty()),
        }
    };
    let values = case.tensors().into_iter().enumerate().map(declare).collect::<Result<Vec<Value>>>()?;
    for (index, value) in (case.build)(&mut graph, &values)?.into_iter().enumerate() {
        graph.output(&format!("output {index}"), value)?;
    }
    Plan::new(&graph)
}
