//! L1 and L2 regularisation of weights: what it adds to the loss and to its gradient.

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
        l1: f32,
        l2: f32,
    }
}

pub(crate) static SHADER: Shader = Shader {
    name: "regularization",
    source: concat!(
        include_str!("../../../shaders/lib/index.wgsl"),
        include_str!("../../../shaders/lib/add_lanes.wgsl"),
        include_str!("../../../shaders/lib/nan4.wgsl"),
        include_str!("../../../shaders/regularization.wgsl")
    ),
    params: Params::FIELDS,
    needs_subgroups: false,
};

/// The loss with l1·Σ|w| + l2·Σw² added. Inputs: the loss, of one element, then the weights, in one or more packs of
/// these lengths. The gradient is added by [`RegularizationGradient`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Regularization {
    pub l1: f64,
    pub l2: f64,
    pub pack_lens: Vec<usize>,
}

impl Regularization {
    fn ranges(&self) -> Vec<Range<usize>> {
        packed::ranges_of(1, &self.pack_lens)
    }
}

impl Operation for Regularization {
    fn name(&self) -> &'static str {
        "regularization"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let expected = 1 + self.pack_lens.iter().sum::<usize>();
        if inputs.len() != expected || expected == 1 || inputs[0].shape.num_elems() != 1 {
            let got = format!("{} operands, the first {}", inputs.len(), inputs[0]);
            return Err(Error::operand(self.name(), format!("a loss and {} weights", expected - 1), got));
        }
        inputs.iter().try_for_each(|ty| check::float(self.name(), ty))?;
        Ok(vec![inputs[0].clone()])
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let [l1, l2] = [self.l1, self.l2].map(F::from_f64);
        let mut total = F::ZERO;
        for place in 1..ctx.inputs.len() {
            let weight = ctx.float(place);
            total += parallel::simd(
                #[inline(always)]
                || {
                    parallel::sum(
                        [weight],
                        #[inline(always)]
                        |[weight]| l1 * weight.abs() + l2 * (weight * weight),
                    )
                },
            );
        }
        ctx.output(0)[0] = ctx.float(0)[0] + total;
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        // Parameters compute in f32.
        let zero = Params {
            num_vec4: 0,
            slice_vec4: to_u32(SLICE_VEC4),
            first_partial: 0,
            num_partials: 0,
            l1: self.l1 as f32,
            l2: self.l2 as f32,
        };
        let (packs, num_partials) = packed::slices(ctx.inputs, self.ranges());
        let mut list = Vec::new();
        for (pack, &Slices { num_vec4, first_partial, num_slices }) in packs.iter().enumerate() {
            let params = Params { num_vec4, first_partial, ..zero };
            // Bindings are numbered as the shader declares them.
            let bindings = [Binding::Unused, Binding::Pack(pack), Binding::ScratchMut(0)];
            list.push(Dispatch::new(
                &SHADER,
                "slice",
                &params,
                bindings,
                grid(num_slices, 1).iterations(packed::reduction_iterations(SLICE_VEC4)),
            ));
        }
        let params = Params { num_partials: to_u32(num_partials), ..zero };
        let bindings = [Binding::Input(0), Binding::Unused, Binding::ScratchMut(0), Binding::Output(0)];
        list.push(Dispatch::new(
            &SHADER,
            "add",
            &params,
            bindings,
            Grid::ONE.iterations(packed::reduction_iterations(num_partials)),
        ));
        let list = list.into_iter().map(|dispatch| dispatch.constant("WG", WORKGROUP_SIZE)).collect();
        Ok(Dispatches { list, scratch_elems: vec![num_partials] })
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(&inputs[1..]) * 5) as u64
    }

    fn num_terms(&self, inputs: &[TensorType]) -> usize {
        packed::num_elems(&inputs[1..])
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        format!("l1 {}, l2 {}", self.l1, self.l2)
    }
}

/// Adds the regularization gradient l1·sign(w) + 2·l2·w to gradients. Inputs: a pack of weights, then one of their
/// gradients, which is updated in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RegularizationGradient {
    pub num_params: usize,
    pub l1: f64,
    pub l2: f64,
}

impl RegularizationGradient {
    fn ranges(&self) -> Vec<Range<usize>> {
        packed::ranges(0, self.num_params, 2)
    }
}

impl Operation for RegularizationGradient {
    fn name(&self) -> &'static str {
        "regularization_gradient"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let [l1, two_l2] = [self.l1, 2.0 * self.l2].map(F::from_f64);
        for place in 0..self.num_params {
            let (weight, grad) = (ctx.float(place), ctx.updated(place + self.num_params));
            for (grad, &w) in grad.iter_mut().zip(weight) {
                *grad += l1 * packed::sign(w) + two_l2 * w;
            }
        }
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let num_vec4 = packed::num_vec4(&ctx.inputs[self.ranges()[0].clone()]);
        let params = Params {
            num_vec4,
            slice_vec4: 0,
            first_partial: 0,
            num_partials: 0,
            // Parameters compute in f32.
            l1: self.l1 as f32,
            l2: self.l2 as f32,
        };
        let bindings = [Binding::Unused, Binding::Pack(0), Binding::Unused, Binding::Unused, Binding::PackUpdated(1)];
        let groups = grid(num_vec4 as usize, WORKGROUP_SIZE);
        Ok(Dispatch::new(&SHADER, "gradient", &params, bindings, groups.short_loops())
            .constant("WG", WORKGROUP_SIZE)
            .into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(&inputs[self.ranges()[0].clone()]) * 5) as u64
    }

    fn updates(&self) -> Vec<usize> {
        self.ranges()[1].clone().collect()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        format!("{} tensors, l1 {}, l2 {}", self.num_params, self.l1, self.l2)
    }
}
