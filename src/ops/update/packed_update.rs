//! The update of all parameters by a rule for one element: the op of every elementwise optimizer. It walks the flat
//! parameter buffers, hands the rule one element after the other on the CPU, one vec4 after the other on a GPU, and
//! knows nothing of the formula. The rules are in [`optim`](crate::optim), a file each.

use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::packed::{self, WORKGROUP_SIZE};
use crate::Result;
use crate::ops::cpu::parallel::{self, LANES};
use crate::ops::cpu::unroll::unroll;
use crate::ops::cpu::{CpuContext, Float};
use crate::ops::kernel::{Binding, Dispatch, DispatchContext, Dispatches, Shader, grid};
use crate::ops::{Operation, check};
use crate::tensor::TensorType;

/// The most states that a rule keeps for each element, as many as `shaders/lib/packed_update.wgsl` binds.
pub(crate) const MAX_STATES: usize = 3;

/// The most numbers that a rule is given for each step.
pub(crate) const MAX_SCALARS: usize = 6;

/// What a rule reads and writes of one element. The gradient is only read, and a state that the optimizer does not
/// keep has no meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<F> {
    pub param: F,
    pub grad: F,
    pub states: [F; MAX_STATES],
}

/// What the walk needs of one parameter.
pub(crate) struct Tensors<'a, F> {
    pub param: &'a mut [F],
    pub grad: &'a [F],
    /// `None` for a state that the optimizer does not keep.
    pub states: [Option<&'a mut [F]>; MAX_STATES],
}

/// Updates one parameter, given the numbers of the step.
pub(crate) type Walk<F> = Arc<dyn Fn([F; MAX_SCALARS], Tensors<'_, F>) + Send + Sync>;

/// A rule's WGSL: its own file, which declares `struct Params`, the scalars of a step from binding 6 on, and `update`;
/// and the walk over the packs.
macro_rules! packed_shader {
    ($name:literal, [$($param:literal),* $(,)?]) => {
        $crate::ops::kernel::Shader {
            name: $name,
            source: concat!(
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/index.wgsl")),
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/nan4.wgsl")),
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/packed_update.wgsl")),
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/optim/", $name, ".wgsl"))
            ),
            params: &[("num_vec4", "u32"), $(($param, "f32")),*],
            needs_subgroups: false,
        }
    };
}
pub(crate) use packed_shader;

/// What the op knows of a rule.
#[derive(Clone)]
pub(crate) struct PackedRule {
    /// The optimizer's name, which is the op's.
    pub name: &'static str,
    pub shader: &'static Shader,
    /// The `Params` of the shader after `num_vec4`.
    pub params: Vec<f32>,
    /// Its `override` constants.
    pub constants: Vec<(&'static str, u32)>,
    /// Scalars that the shader declares; the op has at most as many, and the rule reads no more.
    pub shader_scalars: usize,
    /// Scalars that the op has, in front of its tensors.
    pub num_scalars: usize,
    /// Which of the states there are.
    pub has_state: [bool; MAX_STATES],
    /// Floating-point operations for an element.
    pub flops: usize,
    /// As [`Operation::ulps`].
    pub ulps: f64,
    pub walk_f32: Walk<f32>,
    pub walk_f64: Walk<f64>,
}

/// Inputs: the scalars, then all parameters, gradients and, one role after the other, the states that there are. All
/// but the gradients are updated in place.
#[derive(Clone, Debug)]
pub(crate) struct PackedUpdate {
    pub rule: PackedRule,
    pub num_params: usize,
}

/// A walk that hands each element to `rule`. It is compiled for each set of states that rules keep: vectors of a state that
/// may or may not be there go through memory instead of registers.
pub(crate) fn walk<F: Float>(rule: impl Fn(&mut Element<F>), tensors: Tensors<'_, F>) {
    let walk = match tensors.states.each_ref().map(Option::is_some) {
        [false, false, false] => walk_keeping::<_, F, 0b000>,
        [true, false, false] => walk_keeping::<_, F, 0b001>,
        [true, true, false] => walk_keeping::<_, F, 0b011>,
        [true, false, true] => walk_keeping::<_, F, 0b101>,
        [true, true, true] => walk_keeping::<_, F, 0b111>,
        kept => panic!("no rule keeps these of its states alone: {kept:?}"),
    };
    walk(rule, tensors);
}

/// [`walk`] with the states whose bits are set in `KEPT`. Elements are loaded and stored by the vector: a loop over five
/// slices, four of which it writes to, is not vectorised by the compiler, which would have to see first that none overlap.
fn walk_keeping<R: Fn(&mut Element<F>), F: Float, const KEPT: usize>(rule: R, tensors: Tensors<'_, F>) {
    let Tensors { param, grad, states } = tensors;
    let mut states = states.map(Option::unwrap_or_default);
    parallel::simd(
        #[inline(always)]
        || {
            let whole = grad.len() / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                update::<R, F, KEPT, LANES>(&rule, at, (param, grad), &mut states);
            }
            for at in whole..grad.len() {
                update::<R, F, KEPT, 1>(&rule, at, (param, grad), &mut states);
            }
        },
    );
}

/// Hands N elements from `at` on to the rule.
#[inline(always)]
fn update<R: Fn(&mut Element<F>), F: Float, const KEPT: usize, const N: usize>(
    rule: &R,
    at: usize,
    (param, grad): (&mut [F], &[F]),
    states: &mut [&mut [F]; MAX_STATES],
) {
    let (mut params, grads) = (load::<F, N>(param, at), load::<F, N>(grad, at));
    let mut kept = [[F::ZERO; N]; MAX_STATES];
    unroll!(state in 0..MAX_STATES, up to 4 => {
        if KEPT >> state & 1 == 1 { kept[state] = load(states[state], at); }
    });
    for lane in 0..N {
        let states = [kept[0][lane], kept[1][lane], kept[2][lane]];
        let mut element = Element { param: params[lane], grad: grads[lane], states };
        rule(&mut element);
        params[lane] = element.param;
        [kept[0][lane], kept[1][lane], kept[2][lane]] = element.states;
    }
    param[at..at + N].copy_from_slice(&params);
    unroll!(state in 0..MAX_STATES, up to 4 => {
        if KEPT >> state & 1 == 1 { states[state][at..at + N].copy_from_slice(&kept[state]); }
    });
}

#[inline(always)]
fn load<F: Float, const N: usize>(from: &[F], at: usize) -> [F; N] {
    let mut lanes = [F::ZERO; N];
    lanes.copy_from_slice(&from[at..at + N]);
    lanes
}

impl fmt::Debug for PackedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.name, self.params, self.constants)
    }
}

impl PackedRule {
    /// The walk in this float.
    pub fn walk<F: Float>(&self) -> &Walk<F> {
        let walks: [&dyn Any; 2] = [&self.walk_f32, &self.walk_f64];
        walks.into_iter().find_map(|walk| walk.downcast_ref()).expect("CPU devices compute in f32 or f64")
    }
}

impl PackedUpdate {
    /// The indices of parameters, gradients and states among the inputs.
    fn ranges(&self) -> Vec<Range<usize>> {
        let num_states = self.rule.has_state.iter().filter(|has| **has).count();
        packed::ranges(self.rule.num_scalars, self.num_params, 2 + num_states)
    }

    /// The role of each state among the packs.
    fn state_roles(&self) -> [Option<usize>; MAX_STATES] {
        let mut roles = 2..;
        self.rule.has_state.map(|has| if has { roles.next() } else { None })
    }
}

impl Operation for PackedUpdate {
    fn name(&self) -> &'static str {
        self.rule.name
    }

    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        check::same_groups(self.name(), inputs, &self.ranges())?;
        Ok(Vec::new())
    }

    fn run<F: Float>(&self, ctx: &mut CpuContext<'_, F>) {
        let num_scalars = self.rule.num_scalars;
        let scalars = std::array::from_fn(|index| if index < num_scalars { ctx.float(index)[0] } else { F::ZERO });
        let (walk, roles) = (self.rule.walk::<F>(), self.state_roles());
        let first = |role: usize| num_scalars + role * self.num_params;
        let updated = [Some(0), roles[0], roles[1], roles[2]].map(|role| role.map(first));
        ctx.for_updated_pieces(self.num_params, updated, first(1), |_, pieces, grad| {
            let [Some(param), s0, s1, s2] = pieces else { return };
            walk(scalars, Tensors { param, grad, states: [s0, s1, s2] });
        });
    }

    fn dispatches(&self, ctx: &DispatchContext<'_>) -> Result<Dispatches> {
        let rule = &self.rule;
        let num_vec4 = packed::num_vec4(&ctx.inputs[self.ranges()[0].clone()]);
        let mut params = num_vec4.to_ne_bytes().to_vec();
        params.extend_from_slice(bytemuck::cast_slice(&rule.params));
        let mut bindings = vec![Binding::Pack(1), Binding::PackUpdated(0)];
        // A state that there is not is scratch memory of one element, which the kernel leaves alone.
        bindings.extend(self.state_roles().iter().enumerate().map(|(state, role)| match role {
            Some(role) => Binding::PackUpdated(*role),
            None => Binding::ScratchMut(state),
        }));
        // Likewise a scalar that the rule's settings do not need is the first one once more.
        let scalar = |index: usize| Binding::Scalar(if index < rule.num_scalars { index } else { 0 });
        bindings.extend((0..rule.shader_scalars).map(scalar));
        let has_state = |state: usize| u32::from(rule.has_state[state]);
        let mut dispatch =
            Dispatch::new(rule.shader, "step", &(), bindings, grid(num_vec4 as usize, WORKGROUP_SIZE).short_loops())
                .constant("WG", WORKGROUP_SIZE)
                .constant("HAS_STATE_0", has_state(0))
                .constant("HAS_STATE_1", has_state(1))
                .constant("HAS_STATE_2", has_state(2));
        dispatch.params = params;
        let dispatch = rule.constants.iter().fold(dispatch, |dispatch, &(name, value)| dispatch.constant(name, value));
        // Four elements: what a vec4 needs.
        Ok(Dispatches { list: vec![dispatch], scratch_elems: vec![4; MAX_STATES] })
    }

    fn flops(&self, inputs: &[TensorType], _outputs: &[TensorType]) -> u64 {
        (packed::num_elems(&inputs[self.ranges()[0].clone()]) * self.rule.flops) as u64
    }

    fn ulps(&self) -> f64 {
        self.rule.ulps
    }

    fn updates(&self) -> Vec<usize> {
        packed::all_but_gradients(self.ranges())
    }

    fn packs(&self, _num_inputs: usize) -> Vec<Range<usize>> {
        self.ranges()
    }

    fn describe(&self) -> String {
        let on = |(name, value): &(&'static str, u32)| (*value != 0).then(|| format!(", {}", name.to_lowercase()));
        format!("{} tensors{}", self.num_params, self.rule.constants.iter().filter_map(on).collect::<String>())
    }
}
