//! Maximum pooling beyond its cases: ties, NaN, an identity, and what is refused.

use wgrad::ops::MaxPool2d;
use wgrad::{Device, Graph, Plan, Program, Result, Tensor};

use crate::cases;
use crate::cases::{Fill, input};
use crate::harness::{check, gpu};

#[test]
fn max_pool2d() {
    check(cases::max_pool2d::cases());
}

/// Values and indices of a pooling of `x`.
fn pool(device: &Device, x: &Tensor, pool: MaxPool2d) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut graph = Graph::new("pool");
    let value = graph.input("x", x.ty())?;
    let (y, indices) = graph.max_pool2d_with_indices(value, pool)?;
    graph.output("y", y)?;
    graph.output("indices", indices)?;
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
    program.write("x", x)?;
    program.run_once("pool")?;
    Ok((program.output("pool", "y")?.to_f64_vec(), program.output("pool", "indices")?.to_f64_vec()))
}

#[test]
fn the_first_of_equal_values_wins() -> Result<()> {
    let x = Tensor::f32([1, 2, 4, 4], vec![0.0; 32])?;
    for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
        assert_eq!(pool(device, &x, MaxPool2d::new([2, 2]))?.1, [0., 2., 8., 10., 0., 2., 8., 10.]);
        let padded = MaxPool2d { padding: [1, 1], ..MaxPool2d::new([2, 2]) };
        assert_eq!(pool(device, &x, padded)?.1[..9], [0., 1., 3., 4., 5., 7., 12., 13., 15.]);
    }
    Ok(())
}

#[test]
fn the_last_nan_wins_and_infinities_are_values() -> Result<()> {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let x = Tensor::f32([1, 1, 2, 6], vec![1., nan, -inf, -inf, 5., inf, nan, 7., -inf, -inf, nan, 9.])?;
    for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
        // The 2x2 kernel of its own, and the one for any window.
        for ceil_mode in [false, true] {
            let general = MaxPool2d { padding: [0, usize::from(ceil_mode)], ceil_mode, ..MaxPool2d::new([2, 2]) };
            let (y, indices) = pool(device, &x, general)?;
            if ceil_mode {
                assert_eq!(indices, [6., 1., 10., 5.], "{device}");
                continue;
            }
            assert!(y[0].is_nan() && y[2].is_nan(), "{device}: {y:?}");
            assert_eq!(y[1], f64::NEG_INFINITY, "{device}");
            assert_eq!(indices, [6., 2., 10.], "{device}");
        }
    }
    Ok(())
}

#[test]
fn pooling_by_rows_and_then_by_columns_is_pooling_by_squares() -> Result<()> {
    let x = input([3, 5, 8, 14], Fill::Distinct).tensor(1);
    for device in [&Device::Cpu, gpu()] {
        let (rows, _) = pool(device, &x, MaxPool2d::new([1, 2]))?;
        let rows = Tensor::f32([3, 5, 8, 7], rows.into_iter().map(|x| x as f32).collect())?;
        let (columns, _) = pool(device, &rows, MaxPool2d::new([2, 1]))?;
        assert_eq!(pool(device, &x, MaxPool2d::new([2, 2]))?.0, columns);
    }
    Ok(())
}

#[test]
fn windows_that_cannot_be_are_refused() -> Result<()> {
    let mut graph = Graph::new("pool");
    let x = graph.input_with_grad("x", [1, 1, 4, 4])?;
    let base = MaxPool2d::new([2, 2]);
    for (pool, why) in [
        (MaxPool2d { stride: [0, 1], ..base }, "at least 1"),
        (MaxPool2d { padding: [0, 2], ..base }, "at most half"),
        (MaxPool2d::new([5, 1]), "fits"),
        (MaxPool2d::new([0, 1]), "at least 1"),
    ] {
        let error = graph.max_pool2d(x, pool).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    let flat = graph.input("flat", wgrad::TensorType::f32([4, 4]))?;
    assert!(graph.max_pool2d(flat, base).is_err());
    Ok(())
}
