//! llvmpipe counts the iterations of all loops of an invocation and, after 65,535 of them, silently ends every loop.
//! Kernels whose loops grow with a shape cut their work into slices, or are refused; none gives a wrong result.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use crate::harness::{gpu, portable};
use wgrad::ops::{AvgPool2d, CrossEntropy, MaxPool2d};
use wgrad::{Device, Graph, Plan, Program, Result, Tensor, Value};

/// The output of a graph without inputs, or why the device refuses it.
fn run(device: &Device, build: impl FnOnce(&mut Graph) -> Result<Value>) -> Result<Vec<f64>> {
    let mut graph = Graph::new("long");
    let output = build(&mut graph)?;
    graph.output("y", output)?;
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
    program.run_once("long")?;
    Ok(program.output("long", "y")?.to_f64_vec())
}

/// A tensor of one number, stretched on the device so that the host need not hold it.
fn filled(graph: &mut Graph, value: f32, shape: &[usize]) -> Result<Value> {
    let x = graph.constant(Tensor::f32(vec![1; shape.len()], vec![value])?);
    graph.broadcast_to(x, shape)
}

/// As many outputs as reduce in one launch where they are short, and as many elements as a binding of 128 MiB holds.
#[test]
fn sums_of_many_long_rows() {
    for [outputs, elems] in [[4096, 8191], [4096, 4097], [5000, 4096]] {
        let sums = run(gpu(), |graph| {
            let x = filled(graph, 1.0, &[outputs, elems])?;
            graph.sum(x, &[1], false)
        });
        assert_eq!(sums.unwrap(), vec![elems as f64; outputs]);
    }
}

/// 64 rows a workgroup instead of 1024: 16 rows an invocation, each with several walks over its classes, were too many.
#[test]
fn losses_over_many_classes() {
    for (rows, classes) in [(2048, 3000), (65, 5000), (3, 15_000)] {
        let loss = run(gpu(), |graph| {
            let x = filled(graph, 0.5, &[rows, classes])?;
            let labels = graph.constant(Tensor::u32([rows], (0..rows as u32).collect())?);
            graph.cross_entropy(x, labels, None, CrossEntropy::default())
        });
        let (loss, want) = (loss.unwrap()[0], (classes as f64).ln());
        assert!((loss - want).abs() < 1e-4 * want, "{rows} rows, {classes} classes: {loss} for {want}");
    }
}

#[test]
fn softmax_of_a_long_row() {
    let y = run(gpu(), |graph| {
        let x = filled(graph, 3.0, &[1, 1 << 20])?;
        graph.softmax(x, 1)
    });
    let y = y.unwrap();
    assert!(y.iter().all(|&y| (y * f64::from(1 << 20) - 1.0).abs() < 1e-3), "{}", y[0]);
}

/// The evaluation that ends a loop counts as an iteration: 255 rows of 255 are beyond the limit of 65,535, though they
/// are 65,025 elements. Whatever the window, a mean is right or refused.
#[test]
fn windows_near_the_limit_are_right_or_refused() {
    for (height, width) in
        [(127, 127), (180, 181), (181, 181), (1, 32_767), (21_000, 1), (32_766, 1), (255, 255), (254, 256)]
    {
        let mean = run(gpu(), |graph| {
            let x = filled(graph, 1.0, &[1, 1, height, width])?;
            graph.avg_pool2d(x, AvgPool2d::new([height, width]))
        });
        match mean {
            Ok(mean) => assert!((mean[0] - 1.0).abs() < 1e-3, "{height}x{width}: {}", mean[0]),
            Err(error) => {
                let is_large = height * width > 16_000;
                assert!(gpu().info().is_software && is_large, "{height}x{width}: {error}");
            }
        }
    }
}

/// The largest of 70,000 elements is the last: no slice of them is forgotten.
#[test]
fn argmax_of_a_long_row() {
    let mut graph = Graph::new("long");
    let mut values = vec![0.0; 70_000];
    values[69_999] = 1.0;
    let x = graph.constant(Tensor::f32([1, 70_000], values).unwrap());
    let y = graph.argmax(x, 1).unwrap();
    graph.output("y", y).unwrap();
    let [like_gpu, like_software] = portable();
    for device in [gpu(), like_gpu, like_software, &Device::Cpu] {
        let mut program = Program::compile(device, vec![Plan::new(&graph).unwrap()], 0).unwrap();
        program.run_once("long").unwrap();
        assert_eq!(program.output("long", "y").unwrap().to_f64_vec(), [69_999.0], "{device}");
    }
}

/// What cannot be right on this adapter is refused, and named, on whichever of its kernels; the CPU does it.
#[test]
fn loops_beyond_the_limit_are_refused() {
    type Build = fn(&mut Graph) -> Result<Value>;
    let pooled: Build = |graph| {
        let x = filled(graph, 1.0, &[1, 1, 300, 300])?;
        graph.avg_pool2d(x, AvgPool2d::new([300, 300]))
    };
    let largest: Build = |graph| {
        let x = filled(graph, 1.0, &[1, 1, 300, 300])?;
        graph.max_pool2d(x, MaxPool2d::new([300, 300]))
    };
    let product: Build = |graph| {
        let (a, b) = (filled(graph, 1.0, &[1, 3_000_000])?, filled(graph, 1.0, &[3_000_000, 1])?);
        graph.matmul(a, b)
    };
    let [like_gpu, like_software] = portable();
    for (build, kernel, want) in [(pooled, "avg_pool2d", 1.0), (largest, "max_pool2d", 1.0), (product, "matmul", 3e6)] {
        for device in [gpu(), like_gpu, like_software] {
            match run(device, build) {
                // A real GPU has no such limit.
                Ok(y) => assert!(!device.info().is_software && (y[0] - want).abs() < 1e-3 * want, "{device}: {y:?}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains(kernel) && error.contains("65000") && error.contains("cpu"), "{error}");
                }
            }
        }
        let y = run(&Device::Cpu, build).unwrap();
        assert!((y[0] - want).abs() < 1e-3 * want, "{kernel}: {y:?}");
    }
}
