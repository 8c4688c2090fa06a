//! The update of all parameters by Adagrad (`torch.optim.Adagrad`; Duchi, Hazan and Singer, "Adaptive subgradient
//! methods for online learning and stochastic optimization", 2011).

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
        eps: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "adagrad",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/adagrad.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Inputs: the decayed learning rate, then all parameters, gradients and sums of squares. All but the gradients are
/// updated in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdagradStep {
    pub num_params: usize,
    pub eps: f64,
    pub weight_decay: f64,
}

impl AdagradStep {
    fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        packed::ranges(1, self.num_params, 3)
    }
}

impl Operation for AdagradStep {
    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let step_size = ctx.float(0)[0];
        let [weight_decay, eps] = [self.weight_decay, self.eps].map(F::from_f64);
        let n = self.num_params;
        for place in 1..1 + n {
            let (param, grad, sum) = (ctx.updated(place), ctx.float(place + n), ctx.updated(place + 2 * n));
            for ((p, &g), sum) in param.iter_mut().zip(grad).zip(sum) {
                let g = g + weight_decay * *p;
                *sum += g * g;
                *p = *p - step_size * g / (sum.sqrt() + eps);
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_vec4 = packed::num_vec4(&ctx.inputs[self.ranges()[0].clone()]);
        // Parameters compute in f32.
        let params = Params { num_vec4, weight_decay: self.weight_decay as f32, eps: self.eps as f32 };
        let bindings = [Binding::Scalar(0), Binding::Pack(1), Binding::PackUpdated(0), Binding::PackUpdated(2)];
        let groups = grid(num_vec4 as usize, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, "step", &params, bindings, groups.short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(&inputs[self.ranges()[0].clone()]) * 9) as u64
    }

    fn ulps(&self) -> f64 {
        // A square root and a division, each allowed 2.5 ulps by WGSL, behind the sum's own rounding.
        16.0
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
