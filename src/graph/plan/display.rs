//! A plan as a table for people: `lenet plan` prints it.

use std::fmt::{self, Write as _};

use super::{Plan, Step, Storage};
use crate::ops::Operation;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 6]> = self.steps.iter().enumerate().map(|(index, step)| row(index, step)).collect();
        let header = ["#", "op", "attributes", "output", "MFLOP", "stored in"].map(str::to_owned);
        let width = |column: usize| {
            rows.iter().chain([&header]).map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        writeln!(f, "plan \"{}\": {} steps, {:.2} MFLOP", self.name, rows.len(), self.cost().flops as f64 / 1e6)?;
        for row in [&header].into_iter().chain(&rows) {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 | 4 => write!(line, "{cell:>width$}  ")?,
                    _ => write!(line, "{cell:<width$}  ")?,
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        let state_bytes: usize = self.states.iter().map(|state| state.ty.size_bytes()).sum();
        write!(
            f,
            "states {} in {} tensors; {} slots of {} in all, where {} would be needed without sharing",
            bytes(state_bytes),
            self.states.len(),
            self.slots.len(),
            bytes(self.slot_bytes()),
            bytes(self.unshared_bytes),
        )
    }
}

fn row(index: usize, step: &Step) -> [String; 6] {
    let outputs: Vec<String> = step.outputs.iter().map(|operand| operand.ty.to_string()).collect();
    let stored: Vec<String> = step
        .outputs
        .iter()
        .map(|operand| match operand.storage {
            Storage::Slot(slot) => format!("slot {slot}"),
            Storage::Pack { pack, member } => format!("pack {pack}.{member}"),
            other => format!("{other:?}"),
        })
        .collect();
    let flops = format!("{:.3}", step.cost().flops as f64 / 1e6);
    [index.to_string(), step.label(), step.op.describe(), outputs.join(", "), flops, stored.join(", ")]
}

/// A number of bytes as people read it.
fn bytes(count: usize) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}
