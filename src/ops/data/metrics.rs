//! What training reports of one batch: loss, correct and non-finite counts, written to a row of a table on the device
//! that is read once an epoch.

use crate::graph::Init;
use crate::graph::{Graph, StateKind, StateSpec, Value};
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Grid, Shader, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::{DType, TensorType};
use crate::{Error, Result};

params! {
    struct Params {
        batch: u32,
        num_classes: u32,
        num_rows: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "metrics",
    source: concat!(
        include_str!("../../../shaders/lib/nan.wgsl"),
        include_str!("../../../shaders/lib/ahead.wgsl"),
        include_str!("../../../shaders/lib/row_counts.wgsl"),
        include_str!("../../../shaders/metrics.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Columns of the table: loss · N, correct, non-finite logits, N.
pub const COLUMNS: usize = 4;

/// Inputs: the row, the loss, logits (N, C), labels (N) and the table (rows, 4), which is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metrics;

const TABLE: usize = 4;

impl Operation for Metrics {
    fn name(&self) -> &'static str {
        "metrics"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [row, loss, logits, labels, table] = check::arity(self.name(), inputs)?;
        check::dtype(self.name(), row, DType::U32)?;
        check::dtype(self.name(), labels, DType::U32)?;
        let [batch, _] = check::rank(self.name(), logits, "(N, C)")?;
        let [_, columns] = check::rank(self.name(), table, "(rows, 4)")?;
        if loss.shape.num_elems() != 1 || labels.shape.dims() != [batch] || columns != COLUMNS {
            let expected = format!("a loss (), labels ({batch}) and a table (rows, {COLUMNS})");
            let got = format!("{}, {} and {}", loss.shape, labels.shape, table.shape);
            return Err(Error::operand(self.name(), expected, got));
        }
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (row, loss) = (ctx.u32(0)[0] as usize, ctx.float(1)[0]);
        let (logits, labels) = (ctx.float(2), ctx.u32(3));
        let [batch, num_classes] = ctx.dims(2);
        let table = ctx.updated(TABLE);
        let (mut correct, mut non_finite) = (0u32, 0u32);
        for (row, &label) in logits.chunks_exact(num_classes).zip(labels) {
            let (mut best, mut has_nan) = (0, false);
            for (class, &logit) in row.iter().enumerate() {
                has_nan |= logit.is_nan();
                non_finite += u32::from(!logit.is_finite());
                if logit > row[best] {
                    best = class;
                }
            }
            correct += u32::from(best == label as usize && !has_nan);
        }
        if let Some(row) = table.chunks_exact_mut(COLUMNS).nth(row) {
            let count = |count: u32| F::from_f64(f64::from(count));
            row[0] = loss * F::from_f64(batch as f64);
            row[1] = count(correct);
            row[2] = count(non_finite);
            row[3] = F::from_f64(batch as f64);
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let [batch, num_classes]: [usize; 2] = check::rank(self.name(), &ctx.inputs[2], "(N, C)")?;
        let num_rows = ctx.inputs[TABLE].shape[0];
        let params = Params { batch: to_u32(batch), num_classes: to_u32(num_classes), num_rows: to_u32(num_rows) };
        let bindings =
            [Binding::Scalar(0), Binding::Input(1), Binding::Input(2), Binding::Input(3), Binding::Updated(TABLE)];
        let rows = batch.div_ceil(WORKGROUP_SIZE as usize);
        let work = Grid::ONE.iterations(rows * (2 + num_classes) + WORKGROUP_SIZE as usize);
        Ok(Dispatch::new(&SHADER, "update", &params, bindings, work)
            .constant("WG", WORKGROUP_SIZE)
            .constant("AHEAD", u32::from(!ctx.gpu.is_software))
            .into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        inputs[2].shape.num_elems() as u64
    }

    fn updates(&self) -> Vec<usize> {
        vec![TABLE]
    }
}

impl Graph {
    /// Writes what training reports of a batch to row `row` (a scalar of the step table, u32) of the state `table`,
    /// shape (`num_rows`, 4): loss · N, correct predictions, non-finite logits, N. The loss is the batch's mean,
    /// logits are (N, C), labels (N). A row of logits with a NaN in it predicts nothing, so it is never correct.
    ///
    /// # Errors
    /// [`Error::Operand`] where the shapes do not fit; [`Error::NameClash`] where `table` means something else.
    pub fn metrics(
        &mut self,
        table: &str,
        num_rows: usize,
        row: Value,
        loss: Value,
        logits: Value,
        labels: Value,
    ) -> Result<()> {
        let ty = TensorType::f32([num_rows, COLUMNS]);
        let spec = StateSpec { name: table.to_owned(), ty, kind: StateKind::Input, init: Init::Zeros };
        let table = self.state(spec)?;
        self.push(Metrics, &[row, loss, logits, labels, table])?;
        Ok(())
    }
}
