//! Dropout: the same bits everywhere, the right rate, the same mask for the gradient.

use wgrad::ops::Dropout;
use wgrad::rng::philox4x32;
use wgrad::{DType, Device, Graph, Plan, Program, Result, StepTable, Tensor};

use crate::cases;
use crate::harness::{check, gpu};

#[test]
fn dropout() {
    check(cases::dropout::cases());
}

/// Dropout of ones, and the gradient of its sum by them, at a step.
fn masks(device: &Device, count: usize, dropout: Dropout, step: f64) -> Result<[Vec<f64>; 2]> {
    let mut graph = Graph::new("mask");
    let x = graph.input_with_grad("x", [count])?;
    let step_value = graph.scalar("step", DType::U32)?;
    let y = graph.dropout(x, dropout, step_value)?;
    let loss = graph.sum_all(y)?;
    let grad = graph.backward(loss)?.get(x).expect("the loss depends on x");
    graph.output("y", y)?;
    graph.output("grad", grad)?;
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
    program.write("x", &Tensor::f32([count], vec![1.0; count])?)?;
    program.run("mask", &StepTable::new(1).constant("step", step))?;
    Ok([program.output("mask", "y")?.to_f64_vec(), program.output("mask", "grad")?.to_f64_vec()])
}

#[test]
fn masks_are_philoxs_bits_on_every_device_and_in_the_gradient() -> Result<()> {
    for (p, threshold) in [(0.5, 1u32 << 31), (0.25, 3 << 30), (1.0, 0)] {
        let dropout = Dropout { p, seed: (7 << 32) | 9, layer: 2 };
        let scale = if p == 1.0 { 0.0 } else { 1.0 / (1.0 - p as f32) };
        let word = |i: u32| philox4x32([i / 4, 2, 11, 0], [9, 7])[i as usize % 4];
        let want: Vec<f64> = (0..10_001).map(|i| if word(i) < threshold { f64::from(scale) } else { 0.0 }).collect();
        for device in [&Device::Cpu, gpu()] {
            let [y, grad] = masks(device, want.len(), dropout, 11.0)?;
            assert_eq!(y, want, "{device}, p {p}");
            assert_eq!(grad, want, "{device}, p {p}: the gradient's mask");
        }
    }
    Ok(())
}

#[test]
fn the_rate_is_p_and_masks_of_steps_layers_and_seeds_are_independent() -> Result<()> {
    let count = 40_000;
    for p in [0.1, 0.5, 0.8] {
        let base = Dropout { p, seed: 1, layer: 0 };
        let dropped = |dropout, step| -> Result<Vec<bool>> {
            Ok(masks(&Device::Cpu, count, dropout, step)?[0].iter().map(|&y| y == 0.0).collect())
        };
        let first = dropped(base, 0.0)?;
        let rate = |mask: &[bool]| mask.iter().filter(|&&dropped| dropped).count() as f64 / count as f64;
        // Five standard deviations of a binomial share.
        let within = |p: f64| 5.0 * (p * (1.0 - p) / count as f64).sqrt();
        assert!((rate(&first) - p).abs() < within(p), "{} for {p}", rate(&first));
        let others = [(base, 1.0), (Dropout { layer: 1, ..base }, 0.0), (Dropout { seed: 2, ..base }, 0.0)];
        for (dropout, step) in others {
            let second = dropped(dropout, step)?;
            let both: Vec<bool> = first.iter().zip(&second).map(|(a, b)| a & b).collect();
            assert!((rate(&both) - p * p).abs() < within(p * p), "{} for {}", rate(&both), p * p);
        }
    }
    Ok(())
}

/// As in PyTorch, whose mask is multiplied with: what is not finite is not hidden by being dropped.
#[test]
fn nothing_is_left_at_p_1_but_what_is_not_finite_is_not_hidden() -> Result<()> {
    let mut graph = Graph::new("mask");
    let x = graph.constant(Tensor::f32([3], vec![f32::INFINITY, f32::NAN, 1.0])?);
    let step = graph.scalar("step", DType::U32)?;
    let y = graph.dropout(x, Dropout { p: 1.0, seed: 0, layer: 0 }, step)?;
    graph.output("y", y)?;
    for device in [&Device::Cpu, gpu()] {
        let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
        program.run("mask", &StepTable::new(1).constant("step", 0.0))?;
        let y = program.output("mask", "y")?.to_f64_vec();
        assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 0.0, "{device}: {y:?}");
    }
    Ok(())
}

#[test]
fn a_probability_beyond_1_is_refused_and_0_changes_nothing() -> Result<()> {
    let mut graph = Graph::new("mask");
    let x = graph.input_with_grad("x", [3])?;
    let step = graph.scalar("step", DType::U32)?;
    for p in [-0.1, 1.5, f64::NAN] {
        assert!(graph.dropout(x, Dropout { p, seed: 0, layer: 0 }, step).is_err());
    }
    assert_eq!(graph.dropout(x, Dropout { p: 0.0, seed: 0, layer: 0 }, step)?, x);
    Ok(())
}
