//! The update of all parameters by Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023,
//! algorithm 2): every weight moves by the learning rate, and only the sign comes from the gradients.

use super::packed::{self, WORKGROUP_SIZE};
use crate::Result;
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;

params! {
    struct Params {
        num_vec4: u32,
        weight_decay: f32,
        one_minus_beta2: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "lion",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/lion.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Scalars in front of the tensors: lr, 1 − β1.
const NUM_SCALARS: usize = 2;

/// Inputs: the scalars, then all parameters, gradients and mean gradients. All but the gradients are updated in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LionStep {
    pub num_params: usize,
    pub beta2: f64,
    pub weight_decay: f64,
}

impl LionStep {
    fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        packed::ranges(NUM_SCALARS, self.num_params, 3)
    }
}

impl Operation for LionStep {
    fn name(&self) -> &'static str {
        "lion"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let [lr, one_minus_beta1] = std::array::from_fn(|scalar| ctx.float(scalar)[0]);
        let [weight_decay, one_minus_beta2] = [self.weight_decay, 1.0 - self.beta2].map(F::from_f64);
        let shrink = F::ONE - lr * weight_decay;
        let n = self.num_params;
        for place in NUM_SCALARS..NUM_SCALARS + n {
            let (param, grad, exp_avg) = (ctx.updated(place), ctx.float(place + n), ctx.updated(place + 2 * n));
            for ((p, &g), m) in param.iter_mut().zip(grad).zip(exp_avg) {
                let direction = packed::sign(*m + one_minus_beta1 * (g - *m));
                *p = *p * shrink - lr * direction;
                *m = *m + one_minus_beta2 * (g - *m);
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_vec4 = packed::num_vec4(&ctx.inputs[self.ranges()[0].clone()]);
        // Parameters compute in f32; differences from 1 are taken before rounding.
        let params =
            Params { num_vec4, weight_decay: self.weight_decay as f32, one_minus_beta2: (1.0 - self.beta2) as f32 };
        let bindings = [
            Binding::Scalar(0),
            Binding::Scalar(1),
            Binding::Pack(1),
            Binding::PackUpdated(0),
            Binding::PackUpdated(2),
        ];
        let groups = grid(num_vec4 as usize, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, "step", &params, bindings, groups.short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(&inputs[self.ranges()[0].clone()]) * 10) as u64
    }

    fn updates(&self) -> Vec<usize> {
        packed::all_but_gradients(self.ranges())
    }

    fn packs(&self, _num_inputs: usize) -> Vec<std::ops::Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        format!("{} tensors", self.num_params)
    }
}
