//! Statistics of a tensor, written to a row of a table on the device: mean, standard deviation, extremes, norm, zeros,
//! elements that are not finite, and a histogram. Used for diagnostics of a network.

use crate::graph::Init;
use crate::graph::{Graph, StateKind, StateSpec, Value};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Grid, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

params! {
    struct Params {
        num_elems: u32,
        slice_elems: u32,
        num_slices: u32,
        row: u32,
        num_rows: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "tensor_stats",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/tensor_stats.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Elements that one workgroup, or one thread, reduces.
const SLICE_ELEMS: usize = 4096;

/// Numbers that a slice leaves.
const PARTIAL: usize = 8;

/// Columns of the table: mean, standard deviation, min, max, L2 norm, zeros, elements that are not finite, finite
/// elements.
pub const STATS_COLUMNS: usize = 8;

/// Bins of a histogram: 120 of either sign, four to a factor of two from 2⁻²⁰ to 2¹⁰, and one for what is smaller
/// than that. The outermost two also hold whatever lies beyond.
pub const HISTOGRAM_BINS: usize = 2 * SIDE_BINS + 1;

const SIDE_BINS: usize = 120;
const BINS_PER_OCTAVE: usize = 4;
const FIRST_EXPONENT: i32 = -20;

/// Bits of an f32 below those that choose a bin: 2 of the mantissa's 23 count.
const IGNORED_BITS: u32 = 21;
/// The exponent's bits and the two highest of the mantissa, at 2⁻²⁰.
const FIRST_BIN: u32 = (127 - 20) << 2;

/// Inputs: a float tensor, and the table (rows, 8), which is updated in row `row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorStats {
    pub row: usize,
}

/// Inputs: a float tensor, and the table (rows, bins), which is updated in row `row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorHistogram {
    pub row: usize,
}

const TABLE: usize = 1;

/// The edges of a histogram's bins, one more than there are bins, in rising order; the outermost are f32's range.
pub fn histogram_edges() -> Vec<f64> {
    let edge = |place: usize| {
        let octave = 2f64.powi(FIRST_EXPONENT) * (1u64 << (place / BINS_PER_OCTAVE)) as f64;
        octave * (1.0 + (place % BINS_PER_OCTAVE) as f64 / BINS_PER_OCTAVE as f64)
    };
    let mut positive: Vec<f64> = (0..SIDE_BINS).map(edge).collect();
    positive.push(f64::from(f32::MAX));
    positive.iter().rev().map(|edge| -edge).chain(positive.iter().copied()).collect()
}

/// Statistics of the finite elements of a slice or of several.
#[derive(Clone, Copy)]
struct Moments<F> {
    n: usize,
    mean: F,
    /// The sum of squared differences from the mean.
    m2: F,
    min: F,
    max: F,
    zeros: usize,
    non_finite: usize,
}

impl<F: Float> Moments<F> {
    /// Two passes: first for the mean, then for the squares of what differs from it.
    #[inline(always)]
    fn of(x: &[F]) -> Self {
        let non_finite = x.iter().filter(|x| !x.is_finite()).count();
        let zeros = x.iter().filter(|&&x| x == F::ZERO).count();
        let n = x.len() - non_finite;
        let finite = |x: F, other: F| if x.is_finite() { x } else { other };
        let min = x.iter().fold(F::LARGEST, |min, &x| min.min(finite(x, min)));
        let max = x.iter().fold(-F::LARGEST, |max, &x| max.max(finite(x, max)));
        let mean = parallel::sum([x], |[x]| finite(x, F::ZERO)) / F::from_f64(n.max(1) as f64);
        let m2 = parallel::sum([x], |[x]| {
            let difference = finite(x, mean) - mean;
            difference * difference
        });
        Moments { n, mean, m2, min, max, zeros, non_finite }
    }

    fn merge(self, other: Self) -> Self {
        let difference = other.mean - self.mean;
        let share = F::from_f64(other.n as f64 / (self.n + other.n).max(1) as f64);
        Moments {
            n: self.n + other.n,
            mean: self.mean + difference * share,
            m2: self.m2 + other.m2 + difference * difference * (F::from_f64(self.n as f64) * share),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            zeros: self.zeros + other.zeros,
            non_finite: self.non_finite + other.non_finite,
        }
    }

    fn row(self) -> [F; STATS_COLUMNS] {
        let count = |count: usize| F::from_f64(count as f64);
        let n = count(self.n);
        let extreme = |value: F| if self.n == 0 { F::ZERO } else { value };
        [
            self.mean,
            (self.m2 / count(self.n.max(1))).sqrt(),
            extreme(self.min),
            extreme(self.max),
            (self.m2 + n * self.mean * self.mean).sqrt(),
            count(self.zeros),
            count(self.non_finite),
            n,
        ]
    }
}

/// The bin of a value; `None` where it is not finite.
#[inline(always)]
fn bin_of<F: Float>(x: F) -> Option<usize> {
    // Bins are those of f32 on every device; the reference's values come from there.
    let bits = (x.to_f64() as f32).to_bits();
    let magnitude = (bits & 0x7fff_ffff) >> IGNORED_BITS;
    if !x.is_finite() {
        None
    } else if magnitude < FIRST_BIN {
        Some(SIDE_BINS)
    } else {
        let place = ((magnitude - FIRST_BIN) as usize).min(SIDE_BINS - 1) + 1;
        Some(if bits >> 31 == 1 { SIDE_BINS - place } else { SIDE_BINS + place })
    }
}

fn infer(op: &str, inputs: &[TensorType], row: usize, columns: usize) -> Result<Vec<TensorType>> {
    let [x, table] = check::arity(op, inputs)?;
    check::float(op, x)?;
    let [num_rows, width] = check::rank(op, table, "(rows, columns)")?;
    if width != columns || row >= num_rows {
        return Err(Error::operand(op, format!("a table of {columns} columns with a row {row}"), table.to_string()));
    }
    Ok(Vec::new())
}

fn kernel_params(ctx: &DispatchContext<'_>, row: usize) -> Params {
    let num_elems = ctx.inputs[0].shape.num_elems();
    Params {
        num_elems: to_u32(num_elems),
        slice_elems: to_u32(SLICE_ELEMS),
        num_slices: to_u32(num_elems.div_ceil(SLICE_ELEMS)),
        row: to_u32(row),
        num_rows: to_u32(ctx.inputs[TABLE].shape[0]),
    }
}

impl Operation for TensorStats {
    fn name(&self) -> &'static str {
        "tensor_stats"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        infer(self.name(), inputs, self.row, STATS_COLUMNS)
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, table) = (ctx.float(0), ctx.updated(TABLE));
        let slices = parallel::map(
            x.len().div_ceil(SLICE_ELEMS),
            #[inline(always)]
            |slice| {
                let start = slice * SLICE_ELEMS;
                Moments::of(&x[start..x.len().min(start + SLICE_ELEMS)])
            },
        );
        let moments = slices.into_iter().reduce(Moments::merge).unwrap_or_else(|| Moments::of(&[]));
        table[self.row * STATS_COLUMNS..][..STATS_COLUMNS].copy_from_slice(&moments.row());
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let params = kernel_params(ctx, self.row);
        let num_slices = params.num_slices as usize;
        let dispatch = |entry, bindings: Vec<Binding>, work| {
            Dispatch::new(&SHADER, entry, &params, bindings, work).constant("WG", WORKGROUP_SIZE)
        };
        // Two walks over a slice and two trees.
        let slice_iterations =
            2 * (params.slice_elems as usize).div_ceil(WORKGROUP_SIZE as usize) + 2 * WORKGROUP_SIZE as usize;
        let slices = vec![Binding::Input(0), Binding::ScratchMut(0)];
        let combined = vec![Binding::Unused, Binding::Unused, Binding::Scratch(0), Binding::Updated(TABLE)];
        let list = vec![
            dispatch("slice", slices, grid(num_slices, 1).iterations(slice_iterations)),
            dispatch("combine", combined, Grid::ONE.iterations(num_slices)),
        ];
        Ok(Dispatches { list, scratch_elems: vec![num_slices * PARTIAL] })
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        8 * inputs[0].shape.num_elems() as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        inputs[0].shape.num_elems()
    }

    fn ulps(&self) -> f64 {
        // Two divisions and a root after the sums.
        8.0
    }

    fn updates(&self) -> Vec<usize> {
        vec![TABLE]
    }

    fn describe(&self) -> String {
        format!("row {}", self.row)
    }
}

impl Operation for TensorHistogram {
    fn name(&self) -> &'static str {
        "tensor_histogram"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        infer(self.name(), inputs, self.row, HISTOGRAM_BINS)
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (x, table) = (ctx.float(0), ctx.updated(TABLE));
        let mut counts = [0u32; HISTOGRAM_BINS];
        for bin in x.iter().filter_map(|&x| bin_of(x)) {
            counts[bin] += 1;
        }
        for (cell, count) in table[self.row * HISTOGRAM_BINS..].iter_mut().zip(counts) {
            *cell = F::from_f64(f64::from(count));
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let params = kernel_params(ctx, self.row);
        let bindings = [Binding::Input(0), Binding::Unused, Binding::Unused, Binding::Unused, Binding::Updated(TABLE)];
        // A walk over the elements and two over the bins.
        let elems = params.num_elems as usize + 2 * HISTOGRAM_BINS;
        let work = Grid::ONE.iterations(elems.div_ceil(WORKGROUP_SIZE as usize) + 2);
        Ok(Dispatch::new(&SHADER, "histogram", &params, bindings, work).constant("WG", WORKGROUP_SIZE).into())
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        0
    }

    fn ulps(&self) -> f64 {
        1.0
    }

    fn updates(&self) -> Vec<usize> {
        vec![TABLE]
    }

    fn describe(&self) -> String {
        format!("row {}", self.row)
    }
}

impl Graph {
    /// Writes statistics of a float `x` of any shape to row `row` of the state `table`, (`num_rows`, 8): mean,
    /// standard deviation (divided by the count: `torch.std(correction=0)`), minimum, maximum, L2 norm, elements equal
    /// to 0, elements that are infinite or not a number, finite elements. All but the last three are of the finite
    /// elements, 0 where there are none; counts are exact up to 2²⁴, and squares beyond f32's range give infinity.
    ///
    /// # Errors
    /// [`Error::Operand`] where `x` is not a float or there is no such row; [`Error::NameClash`] where `table` means
    /// something else.
    pub fn tensor_stats(&mut self, table: &str, num_rows: usize, row: usize, x: Value) -> Result<()> {
        let table = self.stats_table(table, [num_rows, STATS_COLUMNS])?;
        self.push(TensorStats { row }, &[x, table])?;
        Ok(())
    }

    /// Writes a histogram of the finite elements of a float `x` to row `row` of the state `table`, (`num_rows`,
    /// [`HISTOGRAM_BINS`]): counts between [`histogram_edges`], lower edges included for positive elements, upper ones
    /// for negative. Counts are exact and the same on every device. Errors as [`Graph::tensor_stats`].
    pub fn tensor_histogram(&mut self, table: &str, num_rows: usize, row: usize, x: Value) -> Result<()> {
        let table = self.stats_table(table, [num_rows, HISTOGRAM_BINS])?;
        self.push(TensorHistogram { row }, &[x, table])?;
        Ok(())
    }

    fn stats_table(&mut self, name: &str, shape: [usize; 2]) -> Result<Value> {
        let ty = TensorType::f32(shape);
        self.state(StateSpec { name: name.to_owned(), ty, kind: StateKind::Input, init: Init::Zeros })
    }
}
