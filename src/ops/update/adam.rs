//! The update of all parameters by Adam or AdamW (`torch.optim.Adam`, `torch.optim.AdamW`; Kingma and Ba, "Adam: a
//! method for stochastic optimization", 2015; Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).

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
        one_minus_beta2: f32,
        eps: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "adam",
    source: concat!(include_str!("../../../shaders/lib/index.wgsl"), include_str!("../../../shaders/adam.wgsl")),
    params: Params::FIELDS,
    needs_subgroups: false,
};

const WORKGROUP_SIZE: u32 = 64;

/// Scalars in front of the tensors: lr, 1 − β1, lr/(1 − β1ᵗ), √(1 − β2ᵗ).
const NUM_SCALARS: usize = 4;

/// Inputs: the scalars, then all parameters, gradients, first moments, second moments and, under AMSGrad, largest
/// second moments. All but the gradients are updated in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdamStep {
    pub num_params: usize,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Whether weights shrink apart from the gradient (AdamW).
    pub decoupled: bool,
    pub amsgrad: bool,
}

impl AdamStep {
    /// The places of parameters, gradients and moments among the inputs.
    fn ranges(&self) -> Vec<std::ops::Range<usize>> {
        let range = |group: usize| {
            let start = NUM_SCALARS + group * self.num_params;
            start..start + self.num_params
        };
        (0..if self.amsgrad { 5 } else { 4 }).map(range).collect()
    }
}

impl Operation for AdamStep {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let [lr, one_minus_beta1, step_size, root2] = std::array::from_fn(|scalar| ctx.float(scalar)[0]);
        let (weight_decay, eps) = (F::from_f64(self.weight_decay), F::from_f64(self.eps));
        let one_minus_beta2 = F::from_f64(1.0 - self.beta2);
        let n = self.num_params;
        for place in NUM_SCALARS..NUM_SCALARS + n {
            let (param, grad) = (ctx.updated(place), ctx.float(place + n));
            let (exp_avg, exp_avg_sq) = (ctx.updated(place + 2 * n), ctx.updated(place + 3 * n));
            let mut largest = self.amsgrad.then(|| ctx.updated(place + 4 * n));
            for (i, p) in param.iter_mut().enumerate() {
                let g = if self.decoupled { grad[i] } else { grad[i] + weight_decay * *p };
                exp_avg[i] = exp_avg[i] + one_minus_beta1 * (g - exp_avg[i]);
                exp_avg_sq[i] = exp_avg_sq[i] + one_minus_beta2 * (g * g - exp_avg_sq[i]);
                let second = match &mut largest {
                    Some(largest) => {
                        largest[i] = largest[i].max(exp_avg_sq[i]);
                        largest[i]
                    }
                    None => exp_avg_sq[i],
                };
                let shrink = if self.decoupled { F::ONE - lr * weight_decay } else { F::ONE };
                *p = *p * shrink - step_size * exp_avg[i] / (second.sqrt() / root2 + eps);
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_vec4 = packed_elems(&ctx.inputs[self.ranges()[0].clone()]) / 4;
        // Parameters compute in f32; differences from 1 are taken before rounding.
        let params = Params {
            num_vec4: to_u32(num_vec4),
            weight_decay: self.weight_decay as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            eps: self.eps as f32,
        };
        let mut bindings: Vec<Binding> = (0..NUM_SCALARS).map(Binding::Scalar).collect();
        bindings.extend([Binding::Pack(1), Binding::PackUpdated(0), Binding::PackUpdated(2), Binding::PackUpdated(3)]);
        let mut entry_point = "step";
        if self.amsgrad {
            bindings.push(Binding::PackUpdated(4));
            entry_point = "step_amsgrad";
        }
        Ok(Dispatch::new(&SHADER, entry_point, &params, bindings, grid(num_vec4, WORKGROUP_SIZE).short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .constant("DECOUPLED", u32::from(self.decoupled))
            .into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        let elems: usize = inputs[self.ranges()[0].clone()].iter().map(|ty| ty.shape.num_elems()).sum();
        (elems * 14) as u64
    }

    fn ulps(&self) -> f64 {
        // A square root and two divisions, each allowed 2.5 ulps by WGSL, behind the moments' own rounding.
        16.0
    }

    fn updates(&self) -> Vec<usize> {
        self.ranges().into_iter().enumerate().filter(|(group, _)| *group != 1).flat_map(|(_, range)| range).collect()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<std::ops::Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        let variant = if self.decoupled { ", decoupled decay" } else { "" };
        format!("{} tensors{variant}{}", self.num_params, if self.amsgrad { ", amsgrad" } else { "" })
    }
}
