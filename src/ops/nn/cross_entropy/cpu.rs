//! The losses on the CPU, row by row. Sums are over fixed pieces, added in order, so threads never change a result.

use super::{ClassLoss, Reduction, Scores};
use crate::ops::cpu::exp::{RowScale, exp_row, exp_sum};
use crate::ops::cpu::{CpuContext, Float, parallel};

/// Logits that a task on the CPU reads, rounded up to whole rows.
const CPU_CHUNK_ELEMS: usize = 4096;

/// Roughly what an exponential costs in simple operations.
const EXP_COST: usize = 16;

pub fn forward<F: Float>(op: &ClassLoss, ctx: &mut CpuContext<'_, F>) {
    let (x, labels, weights, loss) = (ctx.float(0), ctx.u32(1), ctx.float(2), ctx.output(0));
    let [num_rows, num_classes] = ctx.dims(0);
    let row_loss = |row: usize| op.row_loss(&x[row * num_classes..][..num_classes], labels[row], weights);
    let rows = rows_per_chunk(num_classes);
    if op.attributes.reduction == Reduction::None {
        parallel::for_chunks(
            loss,
            rows,
            num_classes * EXP_COST,
            #[inline(always)]
            |index, chunk| {
                chunk.iter_mut().enumerate().for_each(|(i, loss)| *loss = row_loss(index * rows + i)[0]);
            },
        );
        return;
    }
    let mut sums = [F::ZERO; 2];
    parallel::sum_partials(
        &mut sums,
        num_rows.div_ceil(rows),
        #[inline(always)]
        |chunk, sums| {
            for row in chunk * rows..num_rows.min((chunk + 1) * rows) {
                sums.iter_mut().zip(row_loss(row)).for_each(|(sum, term)| *sum += term);
            }
        },
    );
    let [sum, total_weight] = sums;
    loss[0] = if op.is_mean() { sum / total_weight } else { sum };
    ctx.output(1)[0] = total_weight;
}

/// The sum of the weights of the labels' classes, from (labels, weights).
pub fn total_weight<F: Float>(op: &ClassLoss, ctx: &mut CpuContext<'_, F>) {
    let (labels, weights) = (ctx.u32(0), ctx.float(1));
    let classes = labels.iter().filter_map(|&label| op.class(label, weights.len()));
    ctx.output(0)[0] = classes.fold(F::ZERO, |sum, class| sum + weights[class]);
}

/// What the rows have in the mean, from (input, labels, weights, total weight).
pub fn mean_of_rows<F: Float>(op: &ClassLoss, ctx: &mut CpuContext<'_, F>) {
    let (x, labels, weights, total_weight) = (ctx.float(0), ctx.u32(1), ctx.float(2), ctx.float(3)[0]);
    let [_, num_classes] = ctx.dims(0);
    let sum = parallel::simd(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(num_classes).zip(labels);
            rows.fold(F::ZERO, |sum, (row, &label)| sum + op.row_loss(row, label, weights)[0])
        },
    );
    ctx.output(0)[0] = sum / total_weight;
}

pub fn backward<F: Float>(op: &ClassLoss, ctx: &mut CpuContext<'_, F>) {
    let (x, labels, weights, grad) = (ctx.float(0), ctx.u32(1), ctx.float(2), ctx.float(3));
    let [_, num_classes] = ctx.dims(0);
    let scale = if op.is_mean() { F::ONE / ctx.float(4)[0] } else { F::ONE };
    let is_per_row = op.attributes.reduction == Reduction::None;
    let rows = rows_per_chunk(num_classes);
    parallel::for_chunks(
        ctx.output(0),
        rows * num_classes,
        EXP_COST,
        #[inline(always)]
        |index, chunk| {
            for (i, out) in chunk.chunks_exact_mut(num_classes).enumerate() {
                let row = index * rows + i;
                let grad = grad[if is_per_row { row } else { 0 }] * scale;
                op.row_grad(&x[row * num_classes..][..num_classes], labels[row], weights, grad, out);
            }
        },
    );
}

/// Rows in a piece of work on the CPU.
fn rows_per_chunk(num_classes: usize) -> usize {
    CPU_CHUNK_ELEMS.div_ceil(num_classes.max(1))
}

impl ClassLoss {
    /// The label as an index; `None` where the row does not count.
    #[inline(always)]
    fn class(&self, label: u32, num_classes: usize) -> Option<usize> {
        let class = label as usize;
        (class < num_classes && Some(label) != self.attributes.ignore_index).then_some(class)
    }

    /// What the target gives to its own class and, times the class's weight, to every class.
    fn shares<F: Float>(&self, num_classes: usize) -> (F, F) {
        let smoothing = self.attributes.label_smoothing;
        (F::from_f64(1.0 - smoothing), F::from_f64(smoothing / num_classes as f64))
    }

    /// A row's logits s give log-probabilities `s − max − ln(sum)`.
    #[inline(always)]
    fn row_scale<F: Float>(&self, row: &[F]) -> RowScale<F> {
        match self.scores {
            Scores::LogProbs => RowScale { max: F::ZERO, sum: F::ONE },
            Scores::Logits => exp_sum(row),
        }
    }

    /// Loss and weight of a row.
    #[inline(always)]
    fn row_loss<F: Float>(&self, row: &[F], label: u32, weights: &[F]) -> [F; 2] {
        let Some(class) = self.class(label, row.len()) else { return [F::ZERO; 2] };
        let scale = self.row_scale(row);
        let log_sum = scale.sum.ln();
        let nll = -(weights[class] * (row[class] - scale.max - log_sum));
        // Without smoothing the sum is left out: a class of probability 0 must not make the loss infinite.
        if self.attributes.label_smoothing == 0.0 {
            return [nll, weights[class]];
        }
        let (own, each) = self.shares::<F>(row.len());
        let smooth = parallel::sum([weights, row], |[weight, x]| weight * (x - scale.max - log_sum));
        [own * nll - each * smooth, weights[class]]
    }

    #[inline(always)]
    fn row_grad<F: Float>(&self, row: &[F], label: u32, weights: &[F], grad: F, out: &mut [F]) {
        let Some(class) = self.class(label, row.len()) else { return out.fill(F::ZERO) };
        let (own, each) = self.shares::<F>(row.len());
        let of_label = own * weights[class];
        match self.scores {
            // The other classes have no part in the loss; there is no smoothing here.
            Scores::LogProbs => {
                out.fill(F::ZERO);
                out[class] = -(grad * of_label);
                return;
            }
            Scores::Logits => {
                let sum = exp_row(row, out).sum;
                let of_all = of_label + parallel::sum([weights], |[weight]| each * weight);
                for (out, &weight) in out.iter_mut().zip(weights) {
                    *out = grad * (*out / sum * of_all - each * weight);
                }
            }
        }
        out[class] += -(grad * of_label);
    }
}
