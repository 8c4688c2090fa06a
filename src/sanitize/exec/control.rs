//! Branches, loops, calls.

use super::{Machine, WIDTH};
use crate::sanitize::code::{Op, Pc, Reg};
use crate::sanitize::report::Kind;

impl Machine<'_> {
    /// Runs an instruction of control flow; returns the next one to run, if it is not the one that follows.
    pub(super) fn control(&mut self, op: &Op) -> Option<Pc> {
        match *op {
            Op::If { c, otherwise } => {
                let range = self.range(c);
                self.masks.enter_if(&self.regs[range]);
                return self.unless_any(otherwise);
            }
            Op::Else { end } => {
                self.masks.enter_else();
                return self.unless_any(end);
            }
            Op::EndIf => self.masks.end_if(),
            Op::Enter => self.masks.enter_function(),
            Op::Leave => self.masks.leave_function(),
            Op::Return => self.masks.return_from_function(),
            Op::SkipIfNone { to } => return self.unless_any(to),
            Op::Loop => {
                self.masks.enter_loop();
                self.loop_counts.push(0);
            }
            Op::Head { id, end } => {
                if self.masks.active() == 0 {
                    return Some(end);
                }
                self.count_try(id);
            }
            Op::Break => self.masks.break_loop(),
            Op::Continue => self.masks.continue_loop(),
            Op::Continuing => {
                self.masks.resume_iteration();
                self.count_iteration();
            }
            Op::BreakIf { c } => {
                let range = self.range(c);
                self.masks.break_where(&self.regs[range]);
            }
            Op::Repeat { head } if self.masks.active() > 0 => return Some(head),
            Op::EndLoop => {
                self.masks.end_loop();
                self.loop_counts.pop();
            }
            Op::Switch => self.masks.enter_switch(),
            Op::EndSwitch => self.masks.end_switch(),
            // Everything else computes.
            _ => {}
        }
        None
    }

    fn range(&self, reg: Reg) -> std::ops::Range<usize> {
        let start = reg as usize * self.num_blocks;
        start..start + self.num_blocks
    }

    fn unless_any(&self, to: Pc) -> Option<Pc> {
        (self.masks.active() == 0).then_some(to)
    }

    /// An iteration that every active invocation goes through.
    fn count_iteration(&mut self) {
        for (counts, active) in self.iterations.iter_mut().zip(self.masks.blocks()) {
            for lane in 0..WIDTH {
                counts[lane] += active[lane] & 1;
            }
        }
    }

    /// The beginning of an iteration, of which the last may find that the loop is over.
    fn count_try(&mut self, id: u16) {
        self.tries += 1;
        let count = self.loop_counts.last_mut().expect("a loop's head comes after its beginning");
        *count += 1;
        let most = &mut self.loop_maxima[usize::from(id)];
        *most = (*most).max(*count);
        if *count > self.settings.max_iterations {
            let limit = self.settings.max_iterations;
            let lane = self.masks.lanes().next().unwrap_or(0);
            self.report(Kind::EndlessLoop, lane, None, || format!("more than {limit} iterations"));
            self.is_stopped = true;
        }
    }
}
