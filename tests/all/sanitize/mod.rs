//! The checker of kernels: that it finds planted faults, computes what WGSL says, and what it finds in our own kernels.

mod chains;
mod counters;
mod faults;
mod language;
mod ops;
mod races;

use wgrad::sanitize::{Bound, BufferId, Kernel, Memory, Options, Report};

/// Elements of the buffers that small kernels run on.
const LEN: usize = 64;

/// A memory with the buffers that small kernels run on: x at binding 0, which the host wrote (0, 1, 2, … as floats),
/// y at 1, which nobody did, and whole numbers at 2 (0, 1, 2, …).
fn small_memory() -> (Memory, [BufferId; 3]) {
    let mut memory = Memory::new();
    let values: Vec<f32> = (0..LEN as u32).map(|value| value as f32).collect();
    let x = memory.floats(&values);
    let y = memory.uninitialized(LEN);
    let n = memory.buffer((0..LEN as u32).collect());
    (memory, [x, y, n])
}

/// Runs `main` of a source over [`small_memory`]; gives what was found and y.
fn run(source: &str, workgroups: u32, options: &Options) -> (Report, Vec<u32>) {
    let kernel = Kernel::compile("planted", source, "main", &[]).unwrap_or_else(|error| panic!("{error}"));
    let (mut memory, buffers) = small_memory();
    let bound: Vec<Bound> = (0u32..).zip(buffers).map(|(binding, buffer)| Bound::whole(binding, buffer)).collect();
    let report = kernel.run(&mut memory, &bound, [workgroups, 1, 1], options).expect("everything is bound");
    (report, memory.words(buffers[1]).to_vec())
}

/// The module that every small kernel begins with.
const HEADER: &str = "
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> n: array<u32>;
";
