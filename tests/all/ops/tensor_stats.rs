//! Statistics against the textbook, and elements that are not finite.

use wgrad::ops::{HISTOGRAM_BINS, STATS_COLUMNS, histogram_edges};
use wgrad::{Device, Graph, Plan, Program, Result, Tensor};

use crate::cases::{self, Fill, input};
use crate::harness::{check, gpu};

#[test]
fn tensor_stats() {
    check(cases::tensor_stats::cases());
}

/// Row 1 of a table of 3 and the histogram.
fn run(device: &Device, x: &Tensor) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut graph = Graph::new("stats");
    let value = graph.input("x", x.ty())?;
    graph.tensor_stats("table", 3, 1, value)?;
    graph.tensor_histogram("histograms", 1, 0, value)?;
    let mut program = Program::compile(device, vec![Plan::new(&graph)?], 0)?;
    program.write("x", x)?;
    program.run_once("stats")?;
    let table = program.read("table")?.to_f64_vec();
    assert!(table[..STATS_COLUMNS].iter().chain(&table[2 * STATS_COLUMNS..]).all(|&cell| cell == 0.0));
    Ok((table[STATS_COLUMNS..2 * STATS_COLUMNS].to_vec(), program.read("histograms")?.to_f64_vec()))
}

fn textbook(x: &[f64]) -> Vec<f64> {
    let finite: Vec<f64> = x.iter().copied().filter(|x| x.is_finite()).collect();
    let n = finite.len() as f64;
    if finite.is_empty() {
        return vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, x.len() as f64, 0.0];
    }
    let mean = finite.iter().sum::<f64>() / n;
    let variance = finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let min = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let max = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let norm = finite.iter().map(|x| x * x).sum::<f64>().sqrt();
    let zeros = finite.iter().filter(|&&x| x == 0.0).count() as f64;
    vec![mean, variance.sqrt(), min, max, norm, zeros, x.len() as f64 - n, n]
}

fn tensors() -> Result<Vec<Tensor>> {
    let mut all: Vec<Tensor> =
        [1, 2, 100, 4096, 10_000].into_iter().map(|count| input([count], Fill::Ties).tensor(3)).collect();
    // A deviation that is small beside the mean: one pass over squares would lose it.
    let far: Vec<f32> = (0..9000).map(|i| 10_000.0 + (i % 7) as f32 * 0.125).collect();
    all.push(Tensor::f32([9000], far)?);
    let mut broken = input([9001], Fill::Uniform).tensor(4).to_f32_vec();
    broken[0] = f32::NAN;
    broken[4096] = f32::INFINITY;
    broken[9000] = f32::NEG_INFINITY;
    broken[17] = 0.0;
    broken[18] = -0.0;
    all.push(Tensor::f32([9001], broken)?);
    all.push(Tensor::f32([3], vec![f32::NAN, f32::INFINITY, f32::NAN])?);
    Ok(all)
}

#[test]
fn every_column_is_the_textbooks_on_every_device() -> Result<()> {
    for x in tensors()? {
        let want = textbook(&x.to_f64_vec());
        for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
            let (got, _) = run(device, &x)?;
            // Counts and extremes are exact; a mean errs by some epsilons of the largest element, a deviation too.
            let scale = want[2].abs().max(want[3].abs());
            let tolerances = [1e-6 * scale, 1e-6 * scale, 0.0, 0.0, 1e-6 * want[4], 0.0, 0.0, 0.0];
            for (column, tolerance) in tolerances.into_iter().enumerate() {
                let (got, want) = (got[column], want[column]);
                assert!((got - want).abs() <= tolerance, "{device}, {}, column {column}: {got} for {want}", x.ty());
            }
        }
    }
    Ok(())
}

#[test]
fn histograms_count_what_lies_between_their_edges() -> Result<()> {
    let edges = histogram_edges();
    assert_eq!(edges.len(), HISTOGRAM_BINS + 1);
    assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
    let mut special: Vec<f32> = edges.iter().map(|&edge| edge as f32).collect();
    special.extend([0.0, -0.0, 1e-30, 1e30, -1e30, 3.0, f32::NAN, f32::INFINITY]);
    let mut all = tensors()?;
    all.push(Tensor::f32([special.len()], special)?);
    for x in all {
        let mut want = vec![0.0; HISTOGRAM_BINS];
        for x in x.to_f64_vec().into_iter().filter(|x| x.is_finite()) {
            let bin = edges
                .windows(2)
                .position(|edge| if x > 0.0 { edge[0] <= x && x < edge[1] } else { edge[0] < x && x <= edge[1] });
            // f32's largest number is the last edge itself.
            want[bin.unwrap_or(if x > 0.0 { HISTOGRAM_BINS - 1 } else { 0 })] += 1.0;
        }
        assert!(want.iter().sum::<f64>() > 0.0 || x.shape().num_elems() == 3);
        for device in [&Device::CpuF64, &Device::Cpu, gpu()] {
            assert_eq!(run(device, &x)?.1, want, "{device}, {}", x.ty());
        }
    }
    Ok(())
}

#[test]
fn a_row_that_is_not_there_and_a_state_that_is_none_are_refused() -> Result<()> {
    let mut graph = Graph::new("stats");
    let x = graph.input("x", wgrad::TensorType::f32([3]))?;
    assert!(graph.tensor_stats("table", 2, 2, x).is_err());
    let y = graph.neg(x)?;
    assert!(graph.assign(y, x).is_err());
    let other = graph.input("other", wgrad::TensorType::f32([4]))?;
    assert!(graph.assign(other, x).is_err());
    Ok(())
}
