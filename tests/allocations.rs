//! A training step on the CPU allocates nothing. Its own binary, since it counts what the whole process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad::data::{Dataset, Normalize};
use wgrad::nn::{Classifier, LeNet5};
use wgrad::optim::Optimizer;
use wgrad::train::{Session, SessionOptions};
use wgrad::{Device, Result, StepTable};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: the system's allocator does all that is asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

const BATCH: usize = 32;
const BATCHES: usize = 8;

#[test]
fn a_training_step_allocates_nothing() -> Result<()> {
    // Pixels that are not all the same.
    let pixels = (0..BATCH * BATCHES * 28 * 28).map(|index| (index * 7 % 251) as u8).collect();
    let labels = (0..BATCH * BATCHES).map(|index| (index % 10) as u16).collect();
    let data = Dataset::from_arrays(pixels, labels, ('a'..='j').map(String::from), [1, 28, 28])?;
    let model = Classifier::new(LeNet5 { batch_norm: true, dropout: 0.25 }, 10);
    let options = SessionOptions {
        optimizer: Optimizer::sgd(0.9),
        batch_size: BATCH,
        ..SessionOptions::validated_on_test(&model, &data, &data, Normalize::Dataset.stats(&data)?)
    };
    let mut session = Session::new(&Device::Cpu, &options)?;
    let mut run = |steps: usize| -> Result<usize> {
        let table = StepTable::new(steps)
            .column("start", |step| (step % BATCHES * BATCH) as f64)
            .column("row", |step| (step % BATCHES) as f64)
            .column("step", |step| step as f64)
            .constant("lr", 0.01)
            .constant("momentum", 0.9)
            .constant("grad_weight", 1.0);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        session.program().run("train", &table)?;
        Ok(ALLOCATIONS.load(Ordering::Relaxed) - before)
    };
    // Working memory of kernels is made in the first steps of a thread, which may come late on a busy machine, where another
    // takes what is its share. So the fewest of several runs count: all would have what each step allocates.
    run(8)?;
    let mut fewest =
        |steps: usize| -> Result<usize> { (0..20).try_fold(usize::MAX, |count, _| Ok(count.min(run(steps)?))) };
    let (few, many) = (fewest(8)?, fewest(72)?);
    // The table of scalars is copied for each run, whatever its length.
    assert_eq!(few, many, "64 more steps");
    Ok(())
}
