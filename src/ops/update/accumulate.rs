//! The sum of gradients over several batches, kept between runs: what gradient accumulation adds to.

use super::packed::{self, WORKGROUP_SIZE};
use crate::Result;
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params};
use crate::ops::{Operation, check};
use crate::tensor::{DType, TensorType};

params! {
    struct Params {
        num_vec4: u32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "accumulate",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/accumulate.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Scalars in front of the tensors: whether this is the first batch of a step (u32), the batch's weight.
const NUM_SCALARS: usize = 2;

/// Inputs: the scalars, then all sums and gradients. The sums are updated in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accumulate {
    pub num_params: usize,
}

impl Accumulate {
    fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        packed::ranges(NUM_SCALARS, self.num_params, 2)
    }
}

impl Operation for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        check::dtype(self.name(), &inputs[0], DType::U32)?;
        check::float(self.name(), &inputs[1])?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let (is_first, weight) = (ctx.u32(0)[0] != 0, ctx.float(1)[0]);
        for place in NUM_SCALARS..NUM_SCALARS + self.num_params {
            let (sum, grad) = (ctx.updated(place), ctx.float(place + self.num_params));
            if is_first {
                // What was there before does not count, not even where it is not a number.
                sum.iter_mut().zip(grad).for_each(|(sum, &g)| *sum = weight * g);
            } else {
                sum.iter_mut().zip(grad).for_each(|(sum, &g)| *sum += weight * g);
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let params = Params { num_vec4: packed::num_vec4(&ctx.inputs[self.ranges()[0].clone()]) };
        let bindings = [Binding::Scalar(0), Binding::Scalar(1), Binding::PackUpdated(0), Binding::Pack(1)];
        let groups = grid(params.num_vec4 as usize, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, "add", &params, bindings, groups.short_loops()).constant("WG", WORKGROUP_SIZE).into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(&inputs[self.ranges()[0].clone()]) * 2) as u64
    }

    fn updates(&self) -> Vec<usize> {
        self.ranges()[0].clone().collect()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<std::ops::Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        format!("{} tensors", self.num_params)
    }
}
