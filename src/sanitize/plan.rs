//! Plans on the interpreter: every dispatch of every op over the plan's own buffers, each result held against the f64
//! reference. So the interpreter is one more adapter, the strictest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::executor::InterpreterExecutor;
use super::report::Report;
use super::{Kernel, Options};
use crate::exec::verify::{self, Comparing, OpReport};
use crate::exec::{Program, StateDict, StateLayout, StepTable};
use crate::graph::plan::Plan;
use crate::ops::kernel::{Dispatch, GpuTraits};
use crate::{Error, Result};

/// The interpreter as a device for plans, with the kernels that an adapter of the given traits gets. Compiled kernels
/// are kept, so one serves many plans.
pub struct Interpreter {
    pub(super) gpu: GpuTraits,
    pub(super) options: Options,
    kernels: Mutex<HashMap<String, Arc<Kernel>>>,
}

/// One dispatch of a plan and what it did.
#[derive(Clone, Debug)]
pub struct KernelUse {
    /// The layer and the op.
    pub op: String,
    /// The kernel's label, `op.entry_point`.
    pub kernel: String,
    /// Its `override` constants.
    pub constants: Vec<(&'static str, f64)>,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
    /// Invocations of a workgroup in x, y and z.
    pub workgroup_size: [u32; 3],
    /// The most iterations that the op says its loops take (see [`Dispatch::loop_iterations`]).
    pub stated_iterations: Option<usize>,
    /// What was found and counted.
    pub report: Report,
}

/// What running a plan found.
#[derive(Clone, Debug)]
pub struct PlanReport {
    /// Every dispatch, in order.
    pub kernels: Vec<KernelUse>,
    /// The comparison of every op with the reference.
    pub verified: verify::Report,
}

impl Interpreter {
    /// An interpreter that asks ops for the kernels of an adapter with these traits.
    pub fn new(gpu: GpuTraits, options: Options) -> Interpreter {
        Interpreter { gpu, options, kernels: Mutex::new(HashMap::new()) }
    }

    /// Runs a plan op by op under the first row of `table`, from states drawn under `seed` with those in `states` set
    /// on top, and compares every result with the f64 reference as [`verify::verify`] does.
    ///
    /// # Errors
    /// As [`verify::verify`]; [`Error::Kernel`] where a kernel uses what the interpreter lacks.
    pub fn check(&self, plan: &Plan, states: &StateDict, table: &StepTable, seed: u64) -> Result<PlanReport> {
        self.check_by(Comparing::Values, plan, (states, table, seed))
    }

    /// As [`Interpreter::check`], for operands that are not finite: compares as [`verify::verify_kinds`] does.
    ///
    /// # Errors
    /// As [`Interpreter::check`].
    pub fn check_kinds(&self, plan: &Plan, states: &StateDict, table: &StepTable, seed: u64) -> Result<PlanReport> {
        self.check_by(Comparing::Kinds, plan, (states, table, seed))
    }

    fn check_by(
        &self,
        comparing: Comparing,
        plan: &Plan,
        (states, table, seed): (&StateDict, &StepTable, u64),
    ) -> Result<PlanReport> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let plan = &plan.for_gpu(self.gpu)?;
        let plans = vec![plan.clone()];
        let layout = StateLayout::new(&plans)?;
        let executor = InterpreterExecutor::new(self, &plans, &layout, Arc::clone(&log))?;
        let candidate = Program::with_executor(plans, layout, Box::new(executor), seed)?;
        let verified = verify::verify_program(comparing, candidate, plan, (states, table, seed))?;
        let kernels = log.lock().map_err(|_| poisoned())?.clone();
        Ok(PlanReport { kernels, verified })
    }

    /// Runs every dispatch of a plan once without a comparison: for counting, where a sample of workgroups is enough.
    ///
    /// # Errors
    /// As [`Interpreter::check`].
    pub fn count(&self, plan: &Plan, states: &StateDict, table: &StepTable, seed: u64) -> Result<Vec<KernelUse>> {
        let log = Arc::new(Mutex::new(Vec::new()));
        let plan = &plan.for_gpu(self.gpu)?;
        let plans = vec![plan.clone()];
        let layout = StateLayout::new(&plans)?;
        let executor = InterpreterExecutor::new(self, &plans, &layout, Arc::clone(&log))?;
        let mut program = Program::with_executor(plans, layout, Box::new(executor), seed)?;
        for (name, tensor) in states {
            program.write(name, tensor)?;
        }
        program.run(plan.name(), &table.clone())?;
        let kernels = log.lock().map_err(|_| poisoned())?.clone();
        Ok(kernels)
    }

    pub(super) fn kernel(&self, dispatch: &Dispatch) -> Result<Arc<Kernel>> {
        let kernel = &dispatch.kernel;
        let key = format!("{} {:?} {}", kernel.label(), kernel.constants, kernel.source);
        let mut kernels = self.kernels.lock().map_err(|_| poisoned())?;
        if let Some(known) = kernels.get(&key) {
            return Ok(Arc::clone(known));
        }
        let made = Kernel::compile(&kernel.label(), &kernel.source, &kernel.entry_point, &kernel.constants)?;
        let made = Arc::new(made);
        kernels.insert(key, Arc::clone(&made));
        Ok(made)
    }
}

pub(super) fn poisoned() -> Error {
    let (adapter, during) = (super::NAME.to_owned(), "an earlier run".to_owned());
    Error::DeviceLost { adapter, during, reason: "a thread panicked".to_owned() }
}

impl PlanReport {
    /// The comparison of each op, in order.
    pub fn ops(&self) -> &[OpReport] {
        &self.verified.ops
    }
}
