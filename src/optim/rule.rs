//! What an optimizer is: the numbers of a step, the states it keeps, and its update of parameters. Most are
//! elementwise: they say what becomes of one element, in Rust and in WGSL, and one op walks over all parameters with
//! it. Others append whatever nodes they need, such as matrix products.

use std::fmt::Debug;
use std::sync::Arc;

use crate::graph::{Graph, Init, StateKind, StateSpec, Value};
use crate::ops::cpu::Float;
use crate::ops::kernel::Shader;
use crate::ops::update::packed_update::{self, PackedRule, PackedUpdate, Walk, walk};
pub(crate) use crate::ops::update::packed_update::{Element, MAX_STATES, packed_shader};
use crate::registry::Described;
use crate::{Error, Result};

/// The most numbers that a step of an optimizer may need.
pub const MAX_SCALARS: usize = packed_update::MAX_SCALARS;

/// A learned parameter on its way through an update.
#[derive(Clone, Debug)]
pub struct Learned {
    /// The parameter's name, such as "conv1.weight".
    pub name: String,
    /// The parameter.
    pub param: Value,
    /// Its gradient, accumulated, regularized and clipped, of the same shape.
    pub grad: Value,
}

/// Where training is: what the numbers of a step follow from.
#[derive(Clone, Copy, Debug)]
pub struct StepRates {
    /// Steps that the optimizer has done before.
    pub step: u64,
    /// The learning rate.
    pub lr: f64,
    /// What a schedule that cycles the momentum substitutes for that of SGD and RMSprop (unless it is 0), or for β1.
    pub momentum: Option<f64>,
}

/// An optimizer's rule. An elementwise one implements `Elementwise` as well and hands `append` on to it; any other
/// builds its update from ordinary nodes, with [`Graph::assign`] for the parameter and for each state, which it
/// declares by [`Learned::state`]. Such nodes run on every device, and nothing else has to know of them.
pub trait Rule: Debug + Send + Sync {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that lies outside what it may be.
    fn validate(&self) -> Result<()>;

    /// The learning rate for those who name none.
    fn default_lr(&self) -> f64;

    /// Whether a schedule that cycles the momentum has one to cycle: a momentum above 0, or a β1.
    fn has_momentum(&self) -> bool {
        false
    }

    /// The names of the numbers that a step needs, at most [`MAX_SCALARS`]: columns of the step table.
    fn scalars(&self) -> &'static [&'static str];

    /// Their values in a step, in the order of [`Rule::scalars`]; what is beyond them does not matter.
    fn scalar_values(&self, at: &StepRates) -> [f64; MAX_SCALARS];

    /// Appends the update of parameters. `scalars` are the numbers of the step, in the order of [`Rule::scalars`].
    ///
    /// # Errors
    /// Those of the ops that it appends.
    fn append(&self, graph: &mut Graph, parameters: &[Learned], scalars: &[Value]) -> Result<()>;

    /// The shader of an elementwise rule, for the tests that check every shader.
    fn shader(&self) -> Option<&'static Shader> {
        None
    }
}

/// The WGSL side of an elementwise rule under its settings.
pub(crate) struct Kernel {
    /// The shader, made by [`packed_shader`].
    pub shader: &'static Shader,
    /// Its `Params` after `num_vec4`; computed in f64, differences from 1 before rounding.
    pub params: Vec<f64>,
    /// Its `override` constants.
    pub constants: Vec<(&'static str, bool)>,
    /// Scalars that it declares, of which the settings may need the first ones only.
    pub num_scalars: usize,
    /// Floating-point operations for an element.
    pub flops: usize,
    /// Rounding errors of an element in units of f32's epsilon. WGSL allows a square root and a division 2.5 each.
    pub ulps: f64,
}

/// A state that is kept for each parameter: its name after the parameter's, and what it starts as.
pub(crate) type KeptState = (&'static str, Init);

/// An optimizer that treats each element by itself.
pub(crate) trait Elementwise: Rule + Described + Clone + 'static {
    /// The rule in WGSL.
    fn kernel(&self) -> Kernel;

    /// The states, each at the index from which the rule reads it; `None` where the settings do not need it.
    fn states(&self) -> [Option<KeptState>; MAX_STATES];

    /// The rule in Rust, given the numbers of a step: what it makes of one element. Written as the WGSL is, but without a
    /// branch: what settings leave out is computed and not chosen. AVX2 has no masks, and with a branch no vectors. States
    /// that are not kept may be written.
    fn rule<F: Float>(&self, scalars: [F; MAX_SCALARS]) -> impl Fn(&mut Element<F>);
}

impl Learned {
    /// The value of a state that an optimizer keeps for the parameter, of the same shape; named
    /// "conv1.weight.momentum".
    ///
    /// # Errors
    /// [`Error::NameClash`] where the name means something else already.
    pub fn state(&self, graph: &mut Graph, name: &str, init: Init) -> Result<Value> {
        let (name, ty) = (format!("{}.{name}", self.name), graph.ty(self.param).clone());
        graph.state(StateSpec { name, ty, kind: StateKind::Optimizer, init })
    }
}

/// Appends the op of an elementwise rule.
pub(crate) fn append_elementwise<R: Elementwise>(
    rule: &R,
    graph: &mut Graph,
    parameters: &[Learned],
    scalars: &[Value],
) -> Result<()> {
    let mut inputs = scalars.to_vec();
    inputs.extend(parameters.iter().map(|learned| learned.param));
    inputs.extend(parameters.iter().map(|learned| learned.grad));
    let states = rule.states();
    let has_state = states.each_ref().map(Option::is_some);
    for (name, init) in states.into_iter().flatten() {
        for learned in parameters {
            inputs.push(learned.state(graph, name, init.clone())?);
        }
    }
    let Kernel { shader, params, constants, num_scalars, flops, ulps } = rule.kernel();
    let rule = PackedRule {
        name: R::NAME,
        shader,
        // Kernels compute in f32.
        params: params.into_iter().map(|param| param as f32).collect(),
        constants: constants.into_iter().map(|(name, on)| (name, u32::from(on))).collect(),
        shader_scalars: num_scalars,
        num_scalars: scalars.len(),
        has_state,
        flops,
        ulps,
        walk_f32: walk_of(rule),
        walk_f64: walk_of(rule),
    };
    graph.push(PackedUpdate { rule, num_params: parameters.len() }, &inputs)?;
    Ok(())
}

fn walk_of<R: Elementwise, F: Float>(rule: &R) -> Walk<F> {
    let rule = rule.clone();
    Arc::new(move |scalars, tensors| walk(rule.rule(scalars), tensors))
}

/// Weight decay added to a gradient (an L2 penalty). Skipped if it is 0, because 0 times infinity is NaN.
#[inline(always)]
pub(crate) fn decayed<F: Float>(element: &Element<F>, weight_decay: F) -> F {
    let decayed = element.grad + weight_decay * element.param;
    if weight_decay == F::ZERO { element.grad } else { decayed }
}

/// The numbers of a step, as [`Rule::scalar_values`] gives them.
pub fn padded<const N: usize>(values: [f64; N]) -> [f64; MAX_SCALARS] {
    const { assert!(N <= MAX_SCALARS) };
    std::array::from_fn(|index| values.get(index).copied().unwrap_or(0.0))
}

/// A setting that is finite and at least 0.
pub(crate) fn at_least_0(name: &str, value: f64) -> Result<()> {
    match value.is_finite() && value >= 0.0 {
        true => Ok(()),
        false => Err(Error::setting(name, "a finite number of at least 0", value)),
    }
}

/// A setting from 0 to below 1.
pub(crate) fn share(name: &str, value: f64) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::setting(name, "a number from 0 to below 1", value)),
    }
}

/// Two decay rates.
pub(crate) fn shares(name: &str, [first, second]: [f64; 2]) -> Result<()> {
    match [first, second].iter().all(|value| (0.0..1.0).contains(value)) {
        true => Ok(()),
        false => Err(Error::setting(name, "two numbers from 0 to below 1", format!("{first} and {second}"))),
    }
}

/// A denominator's `eps`. Above 0 in f32, where kernels compute: 0/0 is all that is left otherwise of a weight that
/// never had a gradient.
pub(crate) fn eps_above_0(eps: f64) -> Result<()> {
    match eps.is_finite() && eps as f32 > 0.0 {
        true => Ok(()),
        false => Err(Error::setting("eps", "a finite number above 0", eps)),
    }
}

/// The larger of two numbers, not a number where either is not (`torch.maximum`).
#[inline(always)]
pub(crate) fn larger<F: Float>(a: F, b: F) -> F {
    if (a > b) | a.is_nan() { a } else { b }
}
