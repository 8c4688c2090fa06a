//! Batch normalisation on the CPU. Statistics are of fixed slices of whole images, merged in order, so threads never
//! change a result.

use std::ops::Range;

use super::{BatchNormBackward, BatchNormEval, BatchNormTrain, Planes, Statistics};
use crate::ops::cpu::{CpuContext, Float, parallel, scratch};

/// Values in a piece of work on the CPU, rounded to whole planes.
const CPU_CHUNK_ELEMS: usize = 8192;

pub fn train<F: Float>(op: &BatchNormTrain, ctx: &mut CpuContext<'_, F>) {
    let (x, weight, bias) = (ctx.float(0), ctx.float(1), ctx.float(2));
    let (y, mean, invstd) = (ctx.output(0), ctx.output(1), ctx.output(2));
    let running =
        Running { mean: ctx.updated(3), var: ctx.updated(4), count: op.counts_batches.then(|| &mut ctx.updated(5)[0]) };
    let planes = Planes::of(&ctx.inputs[0]);
    batch_statistics(op, planes, x, [mean, invstd], running);
    normalize(planes, x, y, [mean, invstd, weight, bias]);
}

/// The first part of training, from (x, running_mean, running_var, and num_batches_tracked where counted).
pub fn statistics<F: Float>(op: &BatchNormTrain, ctx: &mut CpuContext<'_, F>) {
    let running =
        Running { mean: ctx.updated(1), var: ctx.updated(2), count: op.counts_batches.then(|| &mut ctx.updated(3)[0]) };
    let outputs = [ctx.output(0), ctx.output(1)];
    batch_statistics(op, Planes::of(&ctx.inputs[0]), ctx.float(0), outputs, running);
}

/// The second part of training, from (x, mean, invstd, weight, bias).
pub fn normalize_part<F: Float>(ctx: &mut CpuContext<'_, F>) {
    let of_channels = [1, 2, 3, 4].map(|input| ctx.float(input));
    normalize(Planes::of(&ctx.inputs[0]), ctx.float(0), ctx.output(0), of_channels);
}

/// What a run moves towards the statistics of the batch.
struct Running<'a, F> {
    mean: &'a mut [F],
    var: &'a mut [F],
    count: Option<&'a mut F>,
}

fn batch_statistics<F: Float>(
    op: &BatchNormTrain,
    planes: Planes,
    x: &[F],
    [mean, invstd]: [&mut [F]; 2],
    running: Running<'_, F>,
) {
    let factor = match (op.attributes.momentum, &running.count) {
        (Some(momentum), _) => F::from_f64(momentum),
        (None, Some(count)) => F::ONE / (**count + F::ONE),
        (None, None) => panic!("infer asks for a count where there is no momentum"),
    };
    let n = F::from_f64(planes.num_values() as f64);
    planes.with_slices(
        #[inline(always)]
        |channel, images| Moments::of(planes, x, channel, images).pair(),
        |slices| {
            for channel in 0..planes.num_channels {
                let moments = Moments::merged(planes, slices, channel);
                mean[channel] = moments.mean;
                invstd[channel] = inverse_std(moments.squares / n, op.attributes.eps);
                let follow = |running: &mut F, of_batch: F| *running = (F::ONE - factor) * *running + factor * of_batch;
                follow(&mut running.mean[channel], moments.mean);
                follow(&mut running.var[channel], moments.squares / (n - F::ONE));
            }
        },
    );
    if let Some(count) = running.count {
        *count += F::ONE;
    }
}

pub fn eval<F: Float>(op: &BatchNormEval, ctx: &mut CpuContext<'_, F>) {
    let (x, weight, bias, mean) = (ctx.float(0), ctx.float(1), ctx.float(2), ctx.float(3));
    let (var, y) = (ctx.float(4), ctx.output(0));
    scratch::with(var.len(), |invstd: &mut [F]| {
        invstd.iter_mut().zip(var).for_each(|(invstd, &var)| *invstd = inverse_std(var, op.eps));
        normalize(Planes::of(&ctx.inputs[0]), x, y, [mean, invstd, weight, bias]);
    });
}

pub fn backward<F: Float>(op: &BatchNormBackward, ctx: &mut CpuContext<'_, F>) {
    let (grad, x, weight, mean, spread) = (ctx.float(0), ctx.float(1), ctx.float(2), ctx.float(3), ctx.float(4));
    let (grad_x, grad_weight, grad_bias) = (ctx.output(0), ctx.output(1), ctx.output(2));
    let planes = Planes::of(&ctx.inputs[1]);
    sums(op, planes, [grad, x, mean, spread], [grad_weight, grad_bias]);
    by_x(op, planes, [grad, x, weight, mean, spread, grad_weight, grad_bias], planes.num_values(), grad_x);
}

/// The first part of the backward, from (grad, x, mean, spread).
pub fn gradient_sums<F: Float>(op: &BatchNormBackward, ctx: &mut CpuContext<'_, F>) {
    let outputs = [ctx.output(0), ctx.output(1)];
    sums(op, Planes::of(&ctx.inputs[1]), [0, 1, 2, 3].map(|input| ctx.float(input)), outputs);
}

/// The second part of the backward, from its inputs and the gradients by weight and bias.
pub fn gradient_by_x<F: Float>(op: &BatchNormBackward, ctx: &mut CpuContext<'_, F>) {
    let planes = Planes::of(&ctx.inputs[1]);
    let num_values = ctx.batch_size(1) * planes.plane;
    by_x(op, planes, [0, 1, 2, 3, 4, 5, 6].map(|input| ctx.float(input)), num_values, ctx.output(0));
}

/// The gradients by weight and bias.
fn sums<F: Float>(
    op: &BatchNormBackward,
    planes: Planes,
    [grad, x, mean, spread]: [&[F]; 4],
    [grad_weight, grad_bias]: [&mut [F]; 2],
) {
    planes.with_slices(
        #[inline(always)]
        |channel, images| {
            let mut sums = [F::ZERO; 2];
            for image in images {
                let (grad, x) = (planes.plane(grad, image, channel), planes.plane(x, image, channel));
                let mean = mean[channel];
                sums[0] += parallel::sum(
                    [grad],
                    #[inline(always)]
                    |[grad]| grad,
                );
                sums[1] += parallel::sum(
                    [grad, x],
                    #[inline(always)]
                    |[grad, x]| grad * (x - mean),
                );
            }
            sums
        },
        |slices| {
            for channel in 0..planes.num_channels {
                let sums = slices.iter().skip(channel).step_by(planes.num_channels);
                let sums = sums.fold([F::ZERO; 2], |sum, term| [sum[0] + term[0], sum[1] + term[1]]);
                grad_bias[channel] = sums[0];
                grad_weight[channel] = op.inverse_std(spread[channel]) * sums[1];
            }
        },
    );
}

/// The gradient by x, given those by weight and bias, which are sums over `num_values` values of each channel.
fn by_x<F: Float>(
    op: &BatchNormBackward,
    planes: Planes,
    [grad, x, weight, mean, spread, grad_weight, grad_bias]: [&[F]; 7],
    num_values: usize,
    grad_x: &mut [F],
) {
    let share = match op.statistics {
        Statistics::Batch => F::ONE / F::from_f64(num_values as f64),
        Statistics::Running => F::ZERO,
    };
    planes.for_planes(
        grad_x,
        #[inline(always)]
        |channel, start, grad_x| {
            let (mean, invstd) = (mean[channel], op.inverse_std(spread[channel]));
            let (scale, of_bias) = (weight[channel] * invstd, share * grad_bias[channel]);
            let of_weight = share * invstd * grad_weight[channel];
            let range = start..start + planes.plane;
            for (grad_x, (&grad, &x)) in grad_x.iter_mut().zip(grad[range.clone()].iter().zip(&x[range])) {
                *grad_x = scale * (grad - of_bias - (x - mean) * of_weight);
            }
        },
    );
}

impl BatchNormBackward {
    /// 1/√(var + eps) of a channel, from what it is given of it.
    #[inline(always)]
    fn inverse_std<F: Float>(&self, spread: F) -> F {
        match self.statistics {
            Statistics::Batch => spread,
            Statistics::Running => inverse_std(spread, self.eps),
        }
    }
}

impl Planes {
    /// Images of a slice.
    fn slice_images(self) -> usize {
        (CPU_CHUNK_ELEMS / self.plane.max(1)).max(1)
    }

    /// The images of a slice.
    fn images(self, slice: usize) -> Range<usize> {
        let images = self.slice_images();
        slice * images..self.num_images.min((slice + 1) * images)
    }

    /// Computes two numbers for slices of whole images of every channel, in parallel, and calls `use_slices` with them,
    /// slice by slice, channel by channel within.
    fn with_slices<F: Float>(
        self,
        of_slice: impl Fn(usize, Range<usize>) -> [F; 2] + Send + Sync,
        use_slices: impl FnOnce(&[[F; 2]]),
    ) {
        let num_slices = self.num_images.div_ceil(self.slice_images());
        scratch::with(2 * num_slices * self.num_channels, |slices: &mut [F]| {
            let cost = self.plane * self.slice_images() / 2;
            parallel::for_chunks(
                slices,
                2,
                cost,
                #[inline(always)]
                |unit, slice| {
                    let pair = of_slice(unit % self.num_channels, self.images(unit / self.num_channels));
                    slice.copy_from_slice(&pair);
                },
            );
            use_slices(slices.as_chunks::<2>().0);
        });
    }

    /// Calls `body(channel, start, plane)` for every plane of `out`, which begins at element `start`.
    fn for_planes<F: Float>(self, out: &mut [F], body: impl Fn(usize, usize, &mut [F]) + Send + Sync) {
        let plane = self.plane.max(1);
        let planes_per_chunk = (CPU_CHUNK_ELEMS / plane).max(1);
        parallel::for_chunks(
            out,
            planes_per_chunk * plane,
            1,
            #[inline(always)]
            |chunk_index, chunk| {
                for (i, out) in chunk.chunks_exact_mut(plane).enumerate() {
                    let index = chunk_index * planes_per_chunk + i;
                    body(index % self.num_channels, index * plane, out);
                }
            },
        );
    }

    /// One plane of a channel.
    #[inline(always)]
    fn plane<F>(self, x: &[F], image: usize, channel: usize) -> &[F] {
        &x[(image * self.num_channels + channel) * self.plane..][..self.plane]
    }
}

/// Mean and sum of squared distances from it, of `count` values.
#[derive(Clone, Copy)]
struct Moments<F> {
    count: usize,
    mean: F,
    squares: F,
}

impl<F: Float> Moments<F> {
    /// Of one channel in some images, in two passes.
    #[inline(always)]
    fn of(planes: Planes, x: &[F], channel: usize, images: Range<usize>) -> Self {
        let count = images.len() * planes.plane;
        let mut sum = F::ZERO;
        for image in images.clone() {
            let plane = planes.plane(x, image, channel);
            sum += parallel::sum(
                [plane],
                #[inline(always)]
                |[x]| x,
            );
        }
        let mean = sum / F::from_f64(count as f64);
        let mut squares = F::ZERO;
        for image in images {
            let plane = planes.plane(x, image, channel);
            squares += parallel::sum(
                [plane],
                #[inline(always)]
                |[x]| (x - mean) * (x - mean),
            );
        }
        Moments { count, mean, squares }
    }

    /// Mean and squares, from which [`Moments::merged`] knows the rest.
    fn pair(self) -> [F; 2] {
        [self.mean, self.squares]
    }

    /// Of one channel in all images, from those of slices.
    fn merged(planes: Planes, slices: &[[F; 2]], channel: usize) -> Self {
        let of_channel = slices.iter().skip(channel).step_by(planes.num_channels).enumerate();
        let moments = of_channel.map(|(slice, &[mean, squares])| {
            let count = planes.images(slice).len() * planes.plane;
            Moments { count, mean, squares }
        });
        moments.reduce(Moments::merge).expect("infer asks for values")
    }

    /// Of both sets of values (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    /// sample variances", 1979).
    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let share = F::from_f64(other.count as f64 / count as f64);
        let delta = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + other.squares + delta * delta * share * F::from_f64(self.count as f64),
        }
    }
}

/// 1/√(var + eps).
#[inline(always)]
fn inverse_std<F: Float>(var: F, eps: f64) -> F {
    F::ONE / (var + F::from_f64(eps)).sqrt()
}

/// `y = (x − mean)·invstd·weight + bias`, with the last four by channel.
fn normalize<F: Float>(planes: Planes, x: &[F], y: &mut [F], [mean, invstd, weight, bias]: [&[F]; 4]) {
    planes.for_planes(
        y,
        #[inline(always)]
        |channel, start, y| {
            let (mean, scale, bias) = (mean[channel], invstd[channel] * weight[channel], bias[channel]);
            for (y, &x) in y.iter_mut().zip(&x[start..start + planes.plane]) {
                *y = (x - mean) * scale + bias;
            }
        },
    );
}
