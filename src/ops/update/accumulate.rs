//! Sums of gradients over several batches, kept between runs: the steps of gradient accumulation. Which of them a batch
//! takes, and so the tree that sums are rounded in, is decided by [`optim::tree`](crate::optim::tree).

use std::ops::Range;

use super::packed::{self, WORKGROUP_SIZE};
use crate::Result;
use crate::ops::batch::{Part, PartInput};
use crate::ops::cpu::{CpuContext, Float, parallel};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid, params};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;

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

/// One step of a sum over batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SumStep {
    /// Multiplies gradients by the batch's weight. Inputs: the weight, the gradients, which are updated.
    Scale,
    /// Adds a sum to gradients. Inputs: the sums, the gradients, which are updated.
    Merge,
    /// Keeps gradients as a sum. Inputs: the sums, which are updated, the gradients.
    Keep,
}

/// A step for all parameters at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accumulate {
    pub num_params: usize,
    pub step: SumStep,
    /// The numbers of consecutive parameters whose gradients are complete one after the other; they add up to
    /// `num_params`. A device that runs an op in parts takes each as soon as its gradients are there.
    pub runs: Vec<usize>,
}

impl SumStep {
    /// The indices of its packs among the inputs, for so many parameters.
    fn ranges(self, num_params: usize) -> Vec<Range<usize>> {
        match self {
            SumStep::Scale => packed::ranges(1, num_params, 1),
            SumStep::Merge | SumStep::Keep => packed::ranges(0, num_params, 2),
        }
    }

    /// The role that is updated, and the one that is only read.
    fn roles(self) -> (usize, Option<usize>) {
        match self {
            SumStep::Scale => (0, None),
            SumStep::Merge => (1, Some(0)),
            SumStep::Keep => (0, Some(1)),
        }
    }

    /// Takes the step for the parameters whose tensors the context has.
    fn run<F: Float>(self, num_params: usize, ctx: &mut CpuContext<'_, F>) {
        let (ranges, (updated, read)) = (self.ranges(num_params), self.roles());
        for member in 0..num_params {
            let to = ctx.updated(ranges[updated].start + member);
            let from = read.map(|read| ctx.float(ranges[read].start + member));
            match (self, from) {
                (SumStep::Scale, _) => {
                    let weight = ctx.float(0)[0];
                    parallel::simd(|| to.iter_mut().for_each(|grad| *grad = weight * *grad));
                }
                (SumStep::Merge, Some(sum)) => {
                    parallel::simd(|| to.iter_mut().zip(sum).for_each(|(grad, &sum)| *grad = sum + *grad));
                }
                (_, Some(grad)) => to.copy_from_slice(grad),
                (_, None) => unreachable!("merging and keeping read another role"),
            }
        }
    }
}

impl Accumulate {
    fn ranges(&self) -> Vec<Range<usize>> {
        self.step.ranges(self.num_params)
    }
}

impl Operation for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        if self.step == SumStep::Scale {
            check::float(self.name(), &inputs[0])?;
        }
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        self.step.run(self.num_params, ctx);
    }

    /// Its runs of parameters.
    fn parts(&self, _inputs: &[TensorType], _outputs: &[TensorType]) -> Vec<Part> {
        if self.runs.len() < 2 {
            return Vec::new();
        }
        let (ranges, (updated, _)) = (self.ranges(), self.step.roles());
        let mut first = 0;
        let part = |&len: &usize| {
            let scalars = (0..ranges[0].start).map(PartInput::Input);
            let members = ranges.iter().flat_map(|range| (range.start + first..).take(len)).map(PartInput::Input);
            let inputs = scalars.chain(members).collect();
            first += len;
            Part { inputs, outputs: Vec::new(), updates: self.step.ranges(len)[updated].clone().collect(), form: None }
        };
        self.runs.iter().map(part).collect()
    }

    fn run_part<F: Float>(&self, part: usize, ctx: &mut CpuContext<'_, F>) {
        self.step.run(self.runs[part], ctx);
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let params = Params { num_vec4: packed::num_vec4(&ctx.inputs[self.ranges()[0].clone()]) };
        let (updated, read) = self.step.roles();
        let weight = if self.step == SumStep::Scale { Binding::Scalar(0) } else { Binding::Unused };
        let bindings = [weight, Binding::PackUpdated(updated), read.map_or(Binding::Unused, Binding::Pack)];
        let entry_point = match self.step {
            SumStep::Scale => "scale",
            SumStep::Merge => "merge",
            SumStep::Keep => "keep",
        };
        let groups = grid(params.num_vec4 as usize, WORKGROUP_SIZE);
        let dispatch = Dispatch::new(&SHADER, entry_point, &params, bindings, groups.short_loops());
        Ok(dispatch.constant("WG", WORKGROUP_SIZE).into())
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        let per_element = usize::from(self.step != SumStep::Keep);
        (packed::num_elems(&inputs[self.ranges()[0].clone()]) * per_element) as u64
    }

    fn updates(&self) -> Vec<usize> {
        self.ranges()[self.step.roles().0].clone().collect()
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        let step = match self.step {
            SumStep::Scale => "scale",
            SumStep::Merge => "merge",
            SumStep::Keep => "keep",
        };
        format!("{step} {} tensors", self.num_params)
    }
}
