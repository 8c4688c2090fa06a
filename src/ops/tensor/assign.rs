//! Overwriting a state (`torch.Tensor.copy_`): how a program puts values aside on the device and brings them back.

use crate::graph::{Graph, NodeKind, Value};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

params! {
    struct Params {
        num_elems: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "assign",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/assign.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Inputs: what is assigned, and the state, which is updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assign;

const STATE: usize = 1;

impl Operation for Assign {
    fn name(&self) -> &'static str {
        "assign"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let [x, state] = check::arity(self.name(), inputs)?;
        check::float(self.name(), x)?;
        if x != state {
            return Err(Error::operand(self.name(), format!("a state like {x}"), state.to_string()));
        }
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let x = ctx.float(0);
        parallel::for_pieces(ctx.updated(STATE), |start, state| state.copy_from_slice(&x[start..start + state.len()]));
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_elems = ctx.inputs[0].shape.num_elems();
        let params = Params { num_elems: to_u32(num_elems) };
        let bindings = [Binding::Input(0), Binding::Updated(STATE)];
        let groups = grid(num_elems, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, "forward", &params, bindings, groups.short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn flops(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        0
    }

    fn ulps(&self) -> f64 {
        1.0
    }

    fn updates(&self) -> Vec<usize> {
        vec![STATE]
    }
}

impl Graph {
    /// Overwrites `state` by `x`. Nodes appended before see the old value, those after it the new one.
    ///
    /// # Errors
    /// [`Error::Operand`] where `state` is none, or has another shape than the float `x`.
    pub fn assign(&mut self, state: Value, x: Value) -> Result<()> {
        self.check(state)?;
        if !matches!(self.node(state).kind, NodeKind::State(_)) {
            return Err(Error::operand("assign", "a state to overwrite", self.ty(state).to_string()));
        }
        self.push(Assign, &[x, state])?;
        Ok(())
    }
}
