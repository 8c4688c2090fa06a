//! The step table of a training run by SGD with momentum, for benches.

use wgrad::StepTable;

/// So many steps from step `first` on, over the batches of an epoch again and again.
pub fn table(steps: usize, first: usize, batches: usize, batch_size: usize) -> StepTable {
    StepTable::new(steps)
        .column("start", |step| ((first + step) % batches * batch_size) as f64)
        .column("row", |step| ((first + step) % batches) as f64)
        .constant("step", 0.0)
        .constant("lr", 0.01)
        .constant("momentum", 0.9)
        .constant("grad_weight", 1.0)
}
