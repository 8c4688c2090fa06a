//! The update of all parameters by RMSprop (`torch.optim.RMSprop`; Hinton, "Neural networks for machine learning",
//! lecture 6e, 2012; centred as in Graves, "Generating sequences with recurrent neural networks", 2013).

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
        one_minus_alpha: f32,
        eps: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "rmsprop",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/rmsprop.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Inputs: lr, then under momentum the momentum, then all parameters, gradients, mean squares, where centred mean
/// gradients, and under momentum velocities. All but the gradients are updated in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RmsPropStep {
    pub num_params: usize,
    pub alpha: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub has_momentum: bool,
    pub centered: bool,
}

impl RmsPropStep {
    fn num_scalars(&self) -> usize {
        1 + usize::from(self.has_momentum)
    }

    /// The places of parameters, gradients and states among the inputs.
    fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        let num_roles = 3 + usize::from(self.centered) + usize::from(self.has_momentum);
        packed::ranges(self.num_scalars(), self.num_params, num_roles)
    }
}

impl Operation for RmsPropStep {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let lr = ctx.float(0)[0];
        let momentum = if self.has_momentum { ctx.float(1)[0] } else { F::ZERO };
        let [weight_decay, eps, keep] = [self.weight_decay, self.eps, 1.0 - self.alpha].map(F::from_f64);
        let n = self.num_params;
        for place in self.num_scalars()..self.num_scalars() + n {
            let (param, grad) = (ctx.updated(place), ctx.float(place + n));
            let square_avg = ctx.updated(place + 2 * n);
            let mut grad_avg = self.centered.then(|| ctx.updated(place + 3 * n));
            let velocity_role = 3 + usize::from(self.centered);
            let mut velocity = self.has_momentum.then(|| ctx.updated(place + velocity_role * n));
            for (i, ((p, &g), v)) in param.iter_mut().zip(grad).zip(square_avg).enumerate() {
                let g = g + weight_decay * *p;
                *v = *v + keep * (g * g - *v);
                let mut variance = *v;
                if let Some(grad_avg) = &mut grad_avg {
                    grad_avg[i] = grad_avg[i] + keep * (g - grad_avg[i]);
                    // Rounding can push the difference below 0.
                    variance = (*v - grad_avg[i] * grad_avg[i]).max(F::ZERO);
                }
                let mut update = g / (variance.sqrt() + eps);
                if let Some(velocity) = &mut velocity {
                    velocity[i] = momentum * velocity[i] + update;
                    update = velocity[i];
                }
                *p = *p - lr * update;
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_vec4 = packed::num_vec4(&ctx.inputs[self.ranges()[0].clone()]);
        // Parameters compute in f32; differences from 1 are taken before rounding.
        let params = Params {
            num_vec4,
            weight_decay: self.weight_decay as f32,
            one_minus_alpha: (1.0 - self.alpha) as f32,
            eps: self.eps as f32,
        };
        let momentum = if self.has_momentum { Binding::Scalar(1) } else { Binding::Unused };
        let mut bindings =
            vec![Binding::Scalar(0), momentum, Binding::Pack(1), Binding::PackUpdated(0), Binding::PackUpdated(2)];
        let mut states = (3..self.ranges().len()).map(Binding::PackUpdated);
        // Bindings are numbered as the shader declares them: those of states there are not stay unbound.
        let mut bind = |present: bool| {
            bindings.push(if present { states.next().unwrap_or(Binding::Unused) } else { Binding::Unused })
        };
        bind(self.centered);
        bind(self.has_momentum);
        let entry_point = match (self.centered, self.has_momentum) {
            (false, false) => "step",
            (false, true) => "step_momentum",
            (true, false) => "step_centered",
            (true, true) => "step_centered_momentum",
        };
        let groups = grid(num_vec4 as usize, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, entry_point, &params, bindings, groups.short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        let per_elem = 10 + 5 * usize::from(self.centered) + 2 * usize::from(self.has_momentum);
        (packed::num_elems(&inputs[self.ranges()[0].clone()]) * per_elem) as u64
    }

    fn ulps(&self) -> f64 {
        // A square root and a division, each allowed 2.5 ulps by WGSL, behind the mean square's own rounding. Where
        // centred, a difference of squares can lose a few bits more before the root.
        if self.centered { 64.0 } else { 16.0 }
    }

    fn updates(&self) -> Vec<usize> {
        packed::all_but_gradients(self.ranges())
    }

    fn packs(&self, _num_inputs: usize) -> Vec<std::ops::Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        let centered = if self.centered { ", centered" } else { "" };
        format!("{} tensors{centered}{}", self.num_params, if self.has_momentum { ", momentum" } else { "" })
    }
}
