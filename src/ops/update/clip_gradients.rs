//! Limits on gradients, in place and over all parameters together (`torch.nn.utils.clip_grad_norm_`,
//! `torch.nn.utils.clip_grad_value_`; Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
//! networks", 2013).

use std::ops::Range;

use super::packed::{self, SLICE_VEC4, Slices, WORKGROUP_SIZE};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Grid, Shader, grid, params, to_u32};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;
use crate::{Error, Result};

params! {
    struct Params {
        num_vec4: u32,
        slice_vec4: u32,
        first_partial: u32,
        num_partials: u32,
        limit: f32,
        eps: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "clip_gradients",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/add_lanes.wgsl"),
        include_str!("../../../shaders/lib/nan4.wgsl"),
        include_str!("../../../shaders/clip_gradients.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// Added to the norm before dividing by it, as PyTorch does.
const NORM_EPS: f64 = 1e-6;

/// Scales all gradients so that their joint norm is at most `max_norm`. Inputs: the norm before clipping, shape (1),
/// then the gradients, in one or more packs of these lengths; all are updated in place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClipGradNorm {
    pub max_norm: f64,
    pub pack_lens: Vec<usize>,
}

impl ClipGradNorm {
    fn ranges(&self) -> Vec<Range<usize>> {
        packed::ranges_of(1, &self.pack_lens)
    }
}

impl Operation for ClipGradNorm {
    fn name(&self) -> &'static str {
        "clip_grad_norm"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let expected = 1 + self.pack_lens.iter().sum::<usize>();
        if inputs.len() != expected || expected == 1 || inputs[0].shape.dims() != [1] {
            let got = format!("{} operands, the first {}", inputs.len(), inputs[0]);
            return Err(Error::operand(self.name(), format!("a norm (1) and {} gradients", expected - 1), got));
        }
        inputs.iter().try_for_each(|ty| check::float(self.name(), ty))?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let norm_out = ctx.updated(0);
        let mut grads: Vec<&mut [F]> = (1..ctx.inputs.len()).map(|place| ctx.updated(place)).collect();
        let squares = |grad: &&mut [F]| {
            parallel::simd(
                #[inline(always)]
                || {
                    parallel::sum(
                        [&**grad],
                        #[inline(always)]
                        |[grad]| grad * grad,
                    )
                },
            )
        };
        let norm = grads.iter().map(squares).sum::<F>().sqrt();
        norm_out[0] = norm;
        let factor = F::from_f64(self.max_norm) / (norm + F::from_f64(NORM_EPS));
        // Written so that a norm that is not a number reaches the gradients.
        if factor >= F::ONE {
            return;
        }
        for grad in grads.iter_mut().flat_map(|grad| grad.iter_mut()) {
            *grad = if *grad == F::ZERO { F::ZERO } else { factor * *grad };
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        // Parameters compute in f32.
        let zero = Params {
            num_vec4: 0,
            slice_vec4: to_u32(SLICE_VEC4),
            first_partial: 0,
            num_partials: 0,
            limit: self.max_norm as f32,
            eps: NORM_EPS as f32,
        };
        let (packs, num_partials) = packed::slices(ctx.inputs, self.ranges());
        let mut list = Vec::new();
        for (pack, &Slices { num_vec4, first_partial, num_slices }) in packs.iter().enumerate() {
            let params = Params { num_vec4, first_partial, ..zero };
            let bindings = [Binding::PackUpdated(pack), Binding::ScratchMut(0)];
            list.push(Dispatch::new(
                &SHADER,
                "squares",
                &params,
                bindings,
                grid(num_slices, 1).iterations(packed::reduction_iterations(SLICE_VEC4)),
            ));
        }
        let params = Params { num_partials: to_u32(num_partials), ..zero };
        let bindings = [Binding::Unused, Binding::ScratchMut(0), Binding::Updated(0)];
        list.push(Dispatch::new(
            &SHADER,
            "norm",
            &params,
            bindings,
            Grid::ONE.iterations(packed::reduction_iterations(num_partials)),
        ));
        for (pack, &Slices { num_vec4, .. }) in packs.iter().enumerate() {
            let params = Params { num_vec4, ..zero };
            let bindings = [Binding::PackUpdated(pack), Binding::Unused, Binding::Updated(0)];
            let work = grid(num_vec4 as usize, WORKGROUP_SIZE).short_loops();
            list.push(Dispatch::new(&SHADER, "scale", &params, bindings, work));
        }
        let list = list.into_iter().map(|dispatch| dispatch.constant("WG", WORKGROUP_SIZE)).collect();
        Ok(Dispatches { list, scratch_elems: vec![num_partials] })
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(&inputs[1..]) * 3) as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        packed::num_elems(&inputs[1..])
    }

    fn updates(&self) -> Vec<usize> {
        (0..1 + self.pack_lens.iter().sum::<usize>()).collect()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        format!("to {}", self.max_norm)
    }
}

/// Clamps every element of the gradients, a pack, to [−`max_value`, `max_value`], in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ClipGradValue {
    pub num_params: usize,
    pub max_value: f64,
}

impl Operation for ClipGradValue {
    fn name(&self) -> &'static str {
        "clip_grad_value"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &packed::ranges(0, self.num_params, 1))?;
        inputs.iter().try_for_each(|ty| check::float(self.name(), ty))?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let limit = F::from_f64(self.max_value);
        for place in 0..self.num_params {
            for grad in ctx.updated(place) {
                // Comparisons leave what is not a number as it is.
                if *grad > limit {
                    *grad = limit;
                } else if *grad < -limit {
                    *grad = -limit;
                }
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_vec4 = packed::num_vec4(ctx.inputs);
        let params = Params {
            num_vec4,
            slice_vec4: 0,
            first_partial: 0,
            num_partials: 0,
            // Parameters compute in f32.
            limit: self.max_value as f32,
            eps: 0.0,
        };
        let groups = grid(num_vec4 as usize, WORKGROUP_SIZE);
        let dispatch = Dispatch::new(&SHADER, "limit_values", &params, [Binding::PackUpdated(0)], groups.short_loops());
        Ok(dispatch.constant("WG", WORKGROUP_SIZE).into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(inputs) * 2) as u64
    }

    fn updates(&self) -> Vec<usize> {
        (0..self.num_params).collect()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        packed::ranges(0, self.num_params, 1)
    }

    fn describe(&self) -> String {
        format!("{} tensors to {}", self.num_params, self.max_value)
    }
}
