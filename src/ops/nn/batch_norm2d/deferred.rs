//! Running statistics that follow their batches later: ranks replay the batches of a step in order, so that each moves
//! them as in one process.

use crate::Result;
use crate::graph::{Graph, Init, NodeKind, StateKind, StateSpec, Value};

/// A running statistic of batch normalization that is moved towards a batch's by ops of its own
/// ([`Graph::follow_statistics`]).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deferred {
    pub running: StateSpec,
    /// The statistic of the last batch.
    pub of_batch: StateSpec,
    pub momentum: f64,
}

impl Graph {
    /// A state for a batch's statistic, which `running` is to follow later.
    pub(super) fn defer(&mut self, running: Value, momentum: f64) -> Result<Value> {
        let NodeKind::State(running) = self.node(running).kind.clone() else { panic!("checked to be a state") };
        let name = format!("{}.of_batch", running.name);
        let of_batch = StateSpec { name, kind: StateKind::Input, init: Init::Zeros, ..running.clone() };
        let value = self.state_named(of_batch.clone())?;
        self.deferred.get_or_insert_default().push(Deferred { running, of_batch, momentum });
        Ok(value)
    }

    /// Moves running statistics towards those of the last batch: (1 − momentum)·running + momentum·batch, each operation
    /// rounded by itself, so that it has the same bits wherever it is done.
    pub(crate) fn follow_statistics(&mut self, deferred: &[Deferred]) -> Result<()> {
        self.no_grad(|graph| {
            for Deferred { running, of_batch, momentum } in deferred {
                let (running, of_batch) = (graph.state_named(running.clone())?, graph.state_named(of_batch.clone())?);
                let (before, share) =
                    (graph.mul_scalar(running, 1.0 - momentum)?, graph.mul_scalar(of_batch, *momentum)?);
                let after = graph.add(before, share)?;
                graph.assign(running, after)?;
            }
            Ok(())
        })
    }
}
