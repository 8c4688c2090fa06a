//! Metrics and evaluation on several ranks: each computes some batches, and all get the results of all.

use super::super::part::batches_at;
use super::super::{LOGITS, Session};
use super::Ranks;
use crate::Result;
use crate::optim::tree;

impl Ranks {
    /// Whether a batch of evaluation is this rank's.
    fn has(&self, batch: usize) -> bool {
        batch % self.comm.size() == self.comm.rank()
    }
}

impl Session {
    /// Brings the rows of metrics that other ranks wrote into this one's table.
    pub(in crate::train) fn share_metrics(&mut self) -> Result<()> {
        let Some(exchanged) = &self.ranks.exchanged else { return Ok(()) };
        let (group, num_rows) = (exchanged.metrics.clone(), exchanged.num_rows);
        let mut mine = Vec::new();
        self.program.read_group(&group, &mut mine)?;
        let all = self.ranks.all_gather(&mine)?;
        let row_len = mine.len() / num_rows;
        for row in 0..num_rows {
            let range = row * row_len..(row + 1) * row_len;
            let of_owner = self.owner(row) * mine.len();
            mine[range.clone()].copy_from_slice(&all[of_owner + range.start..of_owner + range.end]);
        }
        self.program.write_group(&group, &mine)
    }

    /// The rank that computes a row of the metrics.
    fn owner(&self, row: usize) -> usize {
        let size = self.ranks.comm.size();
        if row >= self.train.num_rows() {
            return (row - self.train.num_rows()) % size;
        }
        let (first, num_batches) = self.batch_of(row).step(self.update.accumulate());
        let is_in = |rank: &usize| tree::share(num_batches, *rank, size).contains(&(row - first));
        (0..size).find(is_in).expect("shares divide all batches of a step")
    }

    /// Evaluates the validation set, each rank some of its batches.
    pub(in crate::train::session) fn validate_together(&mut self) -> Result<()> {
        for (entry, batch_size, first, count) in self.validation.entries() {
            let own: Vec<usize> = (first..first + count).filter(|&batch| self.ranks.has(batch)).collect();
            if !own.is_empty() {
                self.program.run(&entry, &batches_at(&self.validation, batch_size, &own))?;
            }
        }
        self.share_metrics()
    }

    /// The logits of the test images, each rank computing some batches.
    pub(in crate::train::session) fn test_together(&mut self) -> Result<Vec<f32>> {
        let (mut logits, mut owners) = (Vec::new(), Vec::new());
        for (entry, batch_size, first, count) in self.test.entries() {
            let plan = self.program.plans().iter().find(|plan| plan.name() == entry);
            let len = plan.map_or(0, |plan| plan.outputs[LOGITS].ty.shape.num_elems());
            for batch in first..first + count {
                owners.push((batch % self.ranks.comm.size(), logits.len()..logits.len() + len));
                if self.ranks.has(batch) {
                    self.program.run(&entry, &batches_at(&self.test, batch_size, &[batch]))?;
                    logits.extend(self.program.output(&entry, LOGITS)?.to_f32_vec());
                } else {
                    logits.resize(logits.len() + len, 0.0);
                }
            }
        }
        let all = self.ranks.all_gather(bytemuck::cast_slice(&logits))?;
        let all: Vec<f32> = bytemuck::pod_collect_to_vec(&all);
        for (owner, range) in owners {
            let start = owner * logits.len() + range.start;
            logits[range.clone()].copy_from_slice(&all[start..start + range.len()]);
        }
        self.share_metrics()?;
        Ok(logits)
    }
}
