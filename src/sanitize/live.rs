//! How many scalars are alive at once, from the code alone.

use super::code::{Code, Op};

/// The most registers that are between their first write and their last read, where a loop that reads what was written
/// outside of it keeps it to its end. Constants and built-in inputs take none.
pub(super) fn live_registers(code: &Code) -> u32 {
    let num_regs = code.num_regs as usize;
    let mut first = vec![u32::MAX; num_regs];
    let mut last = vec![0u32; num_regs];
    let loop_of = enclosing_loops(code);
    for (pc, op) in (0u32..).zip(&code.ops) {
        if let Some((d, count)) = op.writes() {
            for reg in d..d + count {
                first[reg as usize] = first[reg as usize].min(pc);
            }
        }
        op.reads(|reg| {
            let reg = reg as usize;
            last[reg] = last[reg].max(pc);
            // The outermost loop around the read that does not hold the write.
            for &(start, end) in &loop_of[pc as usize] {
                if first[reg] < start {
                    last[reg] = last[reg].max(end);
                }
            }
        });
    }
    let mut change = vec![0i64; code.ops.len() + 2];
    for reg in 0..num_regs {
        if first[reg] < last[reg] {
            change[first[reg] as usize] += 1;
            change[last[reg] as usize] -= 1;
        }
    }
    let mut alive = 0;
    let most = change.iter().map(|change| {
        alive += change;
        alive
    });
    u32::try_from(most.max().unwrap_or(0)).unwrap_or(0)
}

/// For each instruction, the loops around it as (first, last) instruction.
fn enclosing_loops(code: &Code) -> Vec<Vec<(u32, u32)>> {
    let mut around = vec![Vec::new(); code.ops.len()];
    for (start, op) in (0u32..).zip(&code.ops) {
        if let Op::Head { end, .. } = *op {
            (start..end).for_each(|pc| around[pc as usize].push((start, end)));
        }
    }
    around
}
