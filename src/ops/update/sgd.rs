//! The update of all parameters by stochastic gradient descent with momentum (`torch.optim.SGD`).

use crate::Result;
use crate::graph::plan::packed_elems;
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;

params! {
    struct Params {
        num_vec4: u32,
        weight_decay: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "sgd",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/sgd.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Inputs: lr, then under momentum the momentum and the weight of the gradient in the velocity, then all parameters,
/// all gradients and under momentum all velocities. Parameters and velocities are updated in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SgdStep {
    pub num_params: usize,
    pub has_momentum: bool,
    pub nesterov: bool,
    pub weight_decay: f64,
}

impl SgdStep {
    fn num_scalars(&self) -> usize {
        if self.has_momentum { 3 } else { 1 }
    }

    /// The places of parameters, gradients and velocities among the inputs.
    fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        let range = |group: usize| {
            let start = self.num_scalars() + group * self.num_params;
            start..start + self.num_params
        };
        (0..if self.has_momentum { 3 } else { 2 }).map(range).collect()
    }
}

impl Operation for SgdStep {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let lr = ctx.float(0)[0];
        let weight_decay = F::from_f64(self.weight_decay);
        let n = self.num_params;
        for place in self.num_scalars()..self.num_scalars() + n {
            let (param, grad) = (ctx.updated(place), ctx.float(place + n));
            if !self.has_momentum {
                for (p, &g) in param.iter_mut().zip(grad) {
                    *p = *p - lr * (g + weight_decay * *p);
                }
                continue;
            }
            let (momentum, grad_weight) = (ctx.float(1)[0], ctx.float(2)[0]);
            let velocity = ctx.updated(place + 2 * n);
            for ((p, &g), v) in param.iter_mut().zip(grad).zip(velocity) {
                let g = g + weight_decay * *p;
                *v = momentum * *v + grad_weight * g;
                let u = if self.nesterov { g + momentum * *v } else { *v };
                *p = *p - lr * u;
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_vec4 = packed_elems(&ctx.inputs[self.ranges()[0].clone()]) / 4;
        // Parameters compute in f32.
        let params = Params { num_vec4: to_u32(num_vec4), weight_decay: self.weight_decay as f32 };
        let groups = grid(num_vec4, WORKGROUP_SIZE);
        let dispatch = if self.has_momentum {
            let bindings = [
                Binding::Scalar(0),
                Binding::Scalar(1),
                Binding::Scalar(2),
                Binding::Pack(1),
                Binding::PackUpdated(0),
                Binding::PackUpdated(2),
            ];
            Dispatch::new(&SHADER, "momentum_step", &params, bindings, groups.short_loops())
                .constant("NESTEROV", u32::from(self.nesterov))
        } else {
            // Bindings are numbered as the shader declares them: those of the momentum are left out.
            let bindings =
                [Binding::Scalar(0), Binding::Unused, Binding::Unused, Binding::Pack(1), Binding::PackUpdated(0)];
            Dispatch::new(&SHADER, "plain", &params, bindings, groups.short_loops())
        };
        Ok(dispatch.constant("WG", WORKGROUP_SIZE).into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        let elems: usize = inputs[self.ranges()[0].clone()].iter().map(|ty| ty.shape.num_elems()).sum();
        (elems * if self.has_momentum { 7 } else { 4 }) as u64
    }

    fn updates(&self) -> Vec<usize> {
        let ranges = self.ranges();
        ranges[0].clone().chain(ranges.get(2).cloned().unwrap_or(0..0)).collect()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<std::ops::Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        let momentum = match (self.has_momentum, self.nesterov) {
            (true, true) => ", nesterov",
            (true, false) => ", momentum",
            (false, _) => "",
        };
        format!("{} tensors{momentum}", self.num_params)
    }
}
