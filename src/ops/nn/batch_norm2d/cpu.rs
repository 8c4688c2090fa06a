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
    let (running_mean, running_var) = (ctx.updated(3), ctx.updated(4));
    let planes = Planes::of(&ctx.inputs[0]);
    let counter = op.counts_batches.then(|| &mut ctx.updated(5)[0]);
    let factor = match (op.attributes.momentum, &counter) {
        (Some(momentum), _) => F::from_f64(momentum),
        (None, Some(counter)) => F::ONE / (**counter + F::ONE),
        (None, None) => panic!("infer asks for a count where there is no momentum"),
    };
    let n = F::from_f64(planes.num_values() as f64);
    planes.with_slices(
        |channel, images| Moments::of(planes, x, channel, images).pair(),
        |slices| {
            for channel in 0..planes.num_channels {
                let moments = Moments::merged(planes, slices, channel);
                mean[channel] = moments.mean;
                invstd[channel] = inverse_std(moments.squares / n, op.attributes.eps);
                let follow = |running: &mut F, of_batch: F| *running = (F::ONE - factor) * *running + factor * of_batch;
                follow(&mut running_mean[channel], moments.mean);
                follow(&mut running_var[channel], moments.squares / (n - F::ONE));
            }
        },
    );
    if let Some(counter) = counter {
        *counter += F::ONE;
    }
    normalize(planes, x, y, [mean, invstd, weight, bias]);
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
    let n = F::from_f64(planes.num_values() as f64);
    let sums_of = |channel: usize, images: Range<usize>| {
        let mut sums = [F::ZERO; 2];
        for image in images {
            let (grad, x) = (planes.plane(grad, image, channel), planes.plane(x, image, channel));
            let mean = mean[channel];
            sums[0] += parallel::sum(grad.len(), |i| grad[i]);
            sums[1] += parallel::sum(grad.len(), |i| grad[i] * (x[i] - mean));
        }
        sums
    };
    // Of each channel: weight·invstd, grad_bias/n, invstd·grad_weight/n.
    scratch::with(3 * planes.num_channels, |coefficients: &mut [F]| {
        planes.with_slices(sums_of, |slices| {
            for (channel, of_channel) in coefficients.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let sums = slices.iter().skip(channel).step_by(planes.num_channels);
                let sums = sums.fold([F::ZERO; 2], |sum, term| [sum[0] + term[0], sum[1] + term[1]]);
                let (invstd, share) = match op.statistics {
                    Statistics::Batch => (spread[channel], F::ONE / n),
                    Statistics::Running => (inverse_std(spread[channel], op.eps), F::ZERO),
                };
                grad_bias[channel] = sums[0];
                grad_weight[channel] = invstd * sums[1];
                *of_channel = [weight[channel] * invstd, share * sums[0], share * invstd * invstd * sums[1]];
            }
        });
        let coefficients = coefficients.as_chunks::<3>().0;
        planes.for_planes(grad_x, |channel, start, grad_x| {
            let ([scale, of_bias, of_weight], mean) = (coefficients[channel], mean[channel]);
            let range = start..start + planes.plane;
            for (grad_x, (&grad, &x)) in grad_x.iter_mut().zip(grad[range.clone()].iter().zip(&x[range])) {
                *grad_x = scale * (grad - of_bias - (x - mean) * of_weight);
            }
        });
    });
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
            parallel::for_chunks(slices, 2, cost, |unit, slice| {
                let pair = of_slice(unit % self.num_channels, self.images(unit / self.num_channels));
                slice.copy_from_slice(&pair);
            });
            use_slices(slices.as_chunks::<2>().0);
        });
    }

    /// Calls `body(channel, start, plane)` for every plane of `out`, which begins at element `start`.
    fn for_planes<F: Float>(self, out: &mut [F], body: impl Fn(usize, usize, &mut [F]) + Send + Sync) {
        let plane = self.plane.max(1);
        let planes_per_chunk = (CPU_CHUNK_ELEMS / plane).max(1);
        parallel::for_chunks(out, planes_per_chunk * plane, 1, |chunk_index, chunk| {
            for (i, out) in chunk.chunks_exact_mut(plane).enumerate() {
                let index = chunk_index * planes_per_chunk + i;
                body(index % self.num_channels, index * plane, out);
            }
        });
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
            sum += parallel::sum(plane.len(), |i| plane[i]);
        }
        let mean = sum / F::from_f64(count as f64);
        let mut squares = F::ZERO;
        for image in images {
            let plane = planes.plane(x, image, channel);
            squares += parallel::sum(plane.len(), |i| (plane[i] - mean) * (plane[i] - mean));
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
fn inverse_std<F: Float>(var: F, eps: f64) -> F {
    F::ONE / (var + F::from_f64(eps)).sqrt()
}

/// `y = (x − mean)·invstd·weight + bias`, with the last four by channel.
fn normalize<F: Float>(planes: Planes, x: &[F], y: &mut [F], [mean, invstd, weight, bias]: [&[F]; 4]) {
    planes.for_planes(y, |channel, start, y| {
        let (mean, scale, bias) = (mean[channel], invstd[channel] * weight[channel], bias[channel]);
        for (y, &x) in y.iter_mut().zip(&x[start..start + planes.plane]) {
            *y = (x - mean) * scale + bias;
        }
    });
}
