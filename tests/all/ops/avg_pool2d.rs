//! Average pooling beyond its cases: PyTorch's divisors by hand, and what is refused.

use wgrad::ops::AvgPool2d;
use wgrad::{Device, Graph, Plan, Program, Result, Tensor};

use crate::cases;
use crate::harness::{check, gpu};

#[test]
fn avg_pool2d() {
    check(cases::avg_pool2d::cases());
}

#[test]
fn divisors_of_windows_at_the_edge_are_pytorchs() -> Result<()> {
    // One row of ones with a zero on either side; windows of three at a stride of two. The last of them has only two
    // cells of the padded row in it.
    let base = AvgPool2d { stride: [1, 2], padding: [0, 1], ceil_mode: true, ..AvgPool2d::new([1, 3]) };
    let table = [
        (base, [2. / 3., 1., 0.5], "cells of the padding count, those beyond it never"),
        (AvgPool2d { count_include_pad: false, ..base }, [1., 1., 1.], "only cells of the input count"),
        (AvgPool2d { divisor_override: Some(4), ..base }, [0.5, 0.75, 0.25], "the divisor is given"),
    ];
    for (pool, want, why) in table {
        for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
            let mut graph = Graph::new("pool");
            let x = graph.constant(Tensor::f32([1, 1, 1, 4], vec![1.0; 4])?);
            let y = graph.avg_pool2d(x, pool)?;
            graph.output("y", y)?;
            let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
            program.run_once("pool")?;
            // The last window starts at the input's last cell but one, plus padding: cells 3 and the zero behind.
            let got = program.output("pool", "y")?.to_f64_vec();
            assert_eq!(got.len(), 3, "{why}");
            for (got, want) in got.into_iter().zip(want) {
                assert!((got - want).abs() < 1e-6, "{device}, {why}: {got} for {want}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_averaged_is_refused() -> Result<()> {
    let mut graph = Graph::new("pool");
    let x = graph.input_with_grad("x", [1, 1, 4, 4])?;
    let base = AvgPool2d::new([2, 2]);
    assert!(graph.avg_pool2d(x, AvgPool2d { divisor_override: Some(0), ..base }).is_err());
    assert!(graph.avg_pool2d(x, AvgPool2d { padding: [2, 0], ..base }).is_err());
    assert!(graph.adaptive_avg_pool2d(x, [0, 1]).is_err());
    Ok(())
}
