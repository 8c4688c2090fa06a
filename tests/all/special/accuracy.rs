//! How far functions of exp, log, tanh and erf are from their values in f64, over their whole range, in ulps of f32: the
//! bounds that the documentation states, for the CPU and for a GPU that rounds sums, products and quotients as IEEE has
//! it. Results below the least normal number are taken as they come, since devices may flush them.

use wgrad::ops::Reduction;
use wgrad::{Device, Graph, Result, Tensor, Value};

use super::run;
use crate::harness::gpu;

type Function = fn(&mut Graph, Value) -> Result<Value>;

/// A function, the largest error on the CPU and on a GPU, and those of the gradient where it is computed from the input:
/// in ulps of the result, but of a gradient, which has roots, at least those of 1/16.
struct Bound {
    name: &'static str,
    function: Function,
    range: [f32; 2],
    output: [f64; 2],
    gradient: Option<[f64; 2]>,
}

const BOUNDS: [Bound; 16] = [
    bound("exp", |g, x| g.exp(x), [-87.0, 88.7], [1.0, 2.0], None),
    bound("log", |g, x| g.log(x), [1.2e-38, 3.4e38], [1.0, 2.0], None),
    bound("sigmoid", |g, x| g.sigmoid(x), [-87.0, 1e4], [3.0, 4.0], None),
    bound("tanh", |g, x| g.tanh(x), [-1e4, 1e4], [2.0, 2.0], None),
    bound("softplus", |g, x| g.softplus(x), [-87.0, 1e4], [2.0, 3.0], Some([4.0, 4.0])),
    bound("silu", |g, x| g.silu(x), [-80.0, 1e4], [4.0, 5.0], Some([12.0, 12.0])),
    bound("gelu", |g, x| g.gelu(x), [-12.5, 1e4], [150.0, 6.0], Some([12.0, 12.0])),
    bound("gelu_tanh", |g, x| g.gelu_tanh(x), [-9.0, 1e4], [64.0, 64.0], Some([16.0, 16.0])),
    bound("pow 0.5", |g, x| g.pow_scalar(x, 0.5), [1.2e-38, 3.4e38], [1.0, 1.0], None),
    bound("pow -1.5", |g, x| g.pow_scalar(x, -1.5), [1e-20, 1e20], [1.0, 4.0], None),
    // Exponents of many digits, and a logarithm that is small beside its factor.
    bound("pow 30.75", |g, x| g.pow_scalar(x, 30.75), [0.06, 17.0], [1.0, 4.0], None),
    bound("pow 250.25", |g, x| g.pow_scalar(x, 250.25), [0.71, 1.42], [1.0, 8.0], None),
    bound("pow -1e5", |g, x| g.pow_scalar(x, -1e5), [0.9992, 1.0008], [1.0, 4.0], None),
    bound("bce_with_logits, 1", |g, x| bce(g, x, 1.0), [-1e4, 87.0], [2.0, 3.0], Some([4.0, 4.0])),
    bound("bce_with_logits, 0", |g, x| bce(g, x, 0.0), [-87.0, 1e4], [2.0, 3.0], Some([4.0, 4.0])),
    bound("bce_with_logits, 1/4", |g, x| bce(g, x, 0.25), [-1e4, 1e4], [3.0, 4.0], Some([6.0, 6.0])),
];

const fn bound(
    name: &'static str,
    function: Function,
    range: [f32; 2],
    output: [f64; 2],
    gradient: Option<[f64; 2]>,
) -> Bound {
    Bound { name, function, range, output, gradient }
}

fn bce(graph: &mut Graph, logits: Value, target: f32) -> Result<Value> {
    let shape = graph.shape(logits).clone();
    let targets = graph.constant(Tensor::f32(&shape, vec![target; shape.num_elems()])?);
    graph.bce_with_logits(logits, targets, Reduction::None)
}

/// Numbers over a range: evenly, and evenly in their logarithms on both sides of 0, so that every exponent is there.
fn points([least, most]: [f32; 2]) -> Vec<f32> {
    const COUNT: usize = 20_000;
    let even = (0..=COUNT).map(|i| least + (most - least) * (i as f32 / COUNT as f32));
    let by_bits = (0..COUNT as u32).map(|i| f32::from_bits(f32::MIN_POSITIVE.to_bits() + i * 106_000));
    let both = by_bits.flat_map(|x| [x, -x]);
    even.chain(both).filter(|x| (least..=most).contains(x)).collect()
}

/// A unit in the last place of f32 at a number.
fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(x.to_bits() + 1)) - f64::from(x)
}

/// The largest error in ulps, and where it is.
fn worst(x: &[f32], got: &[f64], want: &[f64], least_size: f64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    for ((&x, &got), &want) in x.iter().zip(got).zip(want) {
        let difference = (got - want).abs();
        let is_finite = want.abs() <= f64::from(f32::MAX);
        let is_subnormal = difference <= f64::from(f32::MIN_POSITIVE);
        if is_finite && !is_subnormal {
            let error = difference / ulp(want.abs().max(least_size));
            // A NaN counts as worst of all, and stays it.
            if error.is_nan() || error > worst.0 {
                worst = (error, x);
            }
        }
    }
    worst
}

#[test]
fn functions_are_as_accurate_as_their_documentation_says() {
    let mut failures = Vec::new();
    for Bound { name, function, range, output, gradient } in BOUNDS {
        let x = points(range);
        let tensors = [Tensor::f32([x.len()], x.clone()).unwrap()];
        let above = gradient.map(|_| Tensor::f32([x.len()], vec![1.0; x.len()]).unwrap());
        let at = |device: &Device| run(device, &tensors, above.as_ref(), |graph, values| function(graph, values[0]));
        let want = at(&Device::CpuF64);
        for (place, device) in [&Device::Cpu, gpu()].into_iter().enumerate() {
            let got = at(device);
            let mut check = |what: &str, (error, x): (f64, f32), bound: f64| {
                eprintln!("{name}{what} on {device}: {error:.2} ulps at {x:e}, stated {bound}");
                if error.is_nan() || error > bound {
                    failures.push(format!("{name}{what} on {device} is {error:.2} ulps off at {x:e}, stated {bound}"));
                }
            };
            check("", worst(&x, &got.outputs, &want.outputs, 0.0), output[place]);
            if let Some(bounds) = gradient {
                let error = worst(&x, &got.gradients[0], &want.gradients[0], 1.0 / 16.0);
                check("'s gradient", error, bounds[place]);
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Where the sum of exponentials rounds to 1 a logarithm of a probability is 0, as in PyTorch: its error is absolute.
#[test]
fn log_softmax_and_cross_entropy_are_accurate_to_a_few_ulps_of_1_or_of_the_result() {
    let differences = points([-87.0, 87.0]);
    let rows: Vec<f32> = differences.iter().flat_map(|&x| [x, 0.0]).collect();
    let x = Tensor::f32([differences.len(), 2], rows).unwrap();
    let labels = Tensor::u32([differences.len()], vec![0; differences.len()]).unwrap();
    let at = |device: &Device| {
        let reduction = Reduction::None;
        let softmax = run(device, std::slice::from_ref(&x), None, |graph, values| graph.log_softmax(values[0], 1));
        let loss = run(device, &[x.clone(), labels.clone()], None, |graph, values| {
            let attributes = wgrad::ops::CrossEntropy { reduction, ..Default::default() };
            graph.cross_entropy(values[0], values[1], None, attributes)
        });
        (softmax.outputs.into_iter().step_by(2).collect::<Vec<f64>>(), loss.outputs)
    };
    let want = at(&Device::CpuF64);
    for device in [&Device::Cpu, gpu()] {
        let got = at(device);
        for (what, got, want) in [("log_softmax", got.0, &want.0), ("cross_entropy", got.1, &want.1)] {
            let (error, x) = worst(&differences, &got, want, 1.0);
            eprintln!("{what} on {device}: {error:.2} ulps at {x:e}");
            assert!(error <= 3.0, "{what} on {device} is {error:.2} ulps off at {x:e}");
        }
    }
}

/// Both were 0 on llvmpipe, whose compiler makes x of (1 + x) − 1, and by cancellation.
#[test]
fn small_losses_are_not_0() {
    let x = [Tensor::f32([2], vec![-20.0, 20.0]).unwrap()];
    for device in [&Device::Cpu, &Device::CpuF64, gpu()] {
        let softplus = run(device, &x, None, |graph, values| graph.softplus(values[0])).outputs[0];
        let loss = run(device, &x, None, |graph, values| bce(graph, values[0], 1.0)).outputs[1];
        for got in [softplus, loss] {
            assert!((got / 2.061_153_620_314_381e-9 - 1.0).abs() < 1e-6, "{device}: {got:e}");
        }
    }
}
