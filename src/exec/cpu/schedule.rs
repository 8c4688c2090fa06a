//! The order in which a plan runs on the CPU: ops that act image by image are gathered into segments, each of which is
//! run for a few images at a time; an op that needs the whole batch runs between them. A segment has one hand-over to
//! other threads instead of one for each op, and what its ops pass on stays in a core's cache.
//!
//! Ops are taken in the plan's order, except that one which has to wait for a segment's end (a weight's gradient with
//! too little work for each image) does not end it: those that do not depend on it go first. Results do not depend on
//! that, since an op still runs after all that it reads.

use std::collections::HashMap;

use super::unit::Unit;
use crate::graph::plan::{Operand, Storage};
use crate::ops::batch::{Along, BatchForm};

/// The most images that a segment is run for at a time: as many as the widest vectors have lanes.
pub(super) const MOST_IMAGES: usize = 16;

/// The most operands of an op in a segment, so that lists of them need no memory of their own.
pub(super) const MOST_OPERANDS: usize = 16;

/// Floating-point operations below which the work of a segment is not worth another task: some 20 µs.
const LEAST_FLOPS: u64 = 2_000_000;

/// Tasks that a segment is cut into where that leaves enough work for each.
const TASKS: usize = 4;

/// Bytes of what a segment's ops pass on that stay in a core's second-level cache.
const CACHE_BYTES: usize = 512 * 1024;

/// What runs at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// One unit on the whole batch.
    Op(usize),
    /// Units image by image.
    Segment(Segment),
}

/// Units that run one after the other for some images at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub units: Vec<usize>,
    pub batch_size: usize,
}

impl Segment {
    /// Images that it is run for at a time: by the sizes of the work alone, since sums over images depend on it.
    pub fn images(&self, units: &[Unit], bytes_per_image: usize) -> usize {
        let flops: u64 = self.units.iter().map(|&unit| units[unit].flops).sum();
        let for_work = LEAST_FLOPS.div_ceil((flops / self.batch_size as u64).max(1));
        // More than a batch has would do as well.
        let for_work = usize::try_from(for_work).unwrap_or(MOST_IMAGES);
        let in_cache = (CACHE_BYTES / bytes_per_image.max(1)).max(1);
        let images = self.batch_size.div_ceil(TASKS).min(in_cache).max(for_work).min(MOST_IMAGES);
        // Groups of one size where there are few.
        let num_groups = self.batch_size.div_ceil(images);
        if num_groups <= TASKS { self.batch_size.div_ceil(num_groups) } else { images }
    }
}

/// The value of an operand within a run, which no other shares: what a unit gave, or a storage that outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Home {
    /// A state, a scalar, a constant or a member of a pack.
    Storage(Storage),
    /// An output of a unit that is in a slot in the plan.
    Value { unit: usize, output: usize },
}

/// The homes of the operands of every unit.
pub(super) struct Homes {
    pub inputs: Vec<Vec<Home>>,
    pub outputs: Vec<Vec<Home>>,
    /// The value that a slot has in the end.
    pub last: HashMap<usize, Home>,
}

impl Homes {
    pub fn of(units: &[Unit]) -> Homes {
        let mut homes = Homes { inputs: Vec::new(), outputs: Vec::new(), last: HashMap::new() };
        for (index, unit) in units.iter().enumerate() {
            let home = |operand: &Operand| match operand.storage {
                Storage::Slot(slot) => homes.last[&slot],
                storage => Home::Storage(storage),
            };
            let inputs = unit.inputs.iter().map(home).collect();
            let mut outputs = Vec::new();
            for (output, operand) in unit.outputs.iter().enumerate() {
                outputs.push(match operand.storage {
                    Storage::Slot(slot) => {
                        let home = Home::Value { unit: index, output };
                        homes.last.insert(slot, home);
                        home
                    }
                    storage => Home::Storage(storage),
                });
            }
            homes.inputs.push(inputs);
            homes.outputs.push(outputs);
        }
        homes
    }
}

/// What a unit has to wait for.
struct Need {
    unit: usize,
    /// Whether images of the other's result are all that an image of this one needs.
    is_by_rows: bool,
}

/// How a unit acts along the batch axis, and the batch's size.
type Form = (BatchForm, usize);

/// The stages of a plan.
pub(super) fn stages(units: &[Unit], homes: &Homes) -> Vec<Stage> {
    let forms: Vec<Option<Form>> = units.iter().map(tiled_form).collect();
    let needs = needs(units, homes, &forms);
    let (mut stages, mut is_done) = (Vec::new(), vec![false; units.len()]);
    while is_done.contains(&false) {
        // First, so that a segment is as long as it can be.
        for unit in 0..units.len() {
            if !is_done[unit] && forms[unit].is_none() && needs[unit].iter().all(|need| is_done[need.unit]) {
                is_done[unit] = true;
                stages.push(Stage::Op(unit));
            }
        }
        let segment = next_segment(&forms, &needs, &is_done);
        for &unit in &segment.units {
            is_done[unit] = true;
        }
        match *segment.units.as_slice() {
            [] => {}
            [unit] => stages.push(Stage::Op(unit)),
            _ => stages.push(Stage::Segment(segment)),
        }
    }
    stages
}

/// The form of a unit that is worth running image by image.
fn tiled_form(unit: &Unit) -> Option<Form> {
    let form = unit.form.clone()?;
    let batch_size = form.batch_size(&unit.input_types(), &unit.output_types()).filter(|&size| size > 0)?;
    // A sum over images that is larger than what it is computed from takes longer to store and add than it saves.
    let of = |operands: &[Operand], all: &[Along], which: Along| -> usize {
        let sizes = operands.iter().zip(all).filter(|(_, along)| **along == which);
        sizes.map(|(operand, _)| operand.ty.shape.num_elems()).sum()
    };
    let images = MOST_IMAGES.min(batch_size);
    let read = of(&unit.inputs, &form.inputs, Along::Rows) / batch_size * images;
    let is_small = of(&unit.outputs, &form.outputs, Along::Sum) <= read;
    let is_short = unit.inputs.len().max(unit.outputs.len()) <= MOST_OPERANDS;
    (unit.guard.is_none() && is_small && is_short).then_some((form, batch_size))
}

/// For each unit, those that it has to come after.
fn needs(units: &[Unit], homes: &Homes, forms: &[Option<Form>]) -> Vec<Vec<Need>> {
    let reads_rows = |unit: usize, input: usize| {
        forms[unit].as_ref().is_some_and(|(form, _)| form.inputs.get(input) == Some(&Along::Rows))
    };
    let writes_rows = |unit: usize, output: Option<usize>| match (&forms[unit], output) {
        (Some((form, _)), Some(output)) => form.outputs.get(output) == Some(&Along::Rows),
        _ => false,
    };
    /// Who wrote to a home last, as which output, and who has read it since.
    #[derive(Default)]
    struct Use {
        writer: Option<(usize, Option<usize>)>,
        readers: Vec<usize>,
    }
    let mut uses: HashMap<Home, Use> = HashMap::new();
    let mut needs = Vec::new();
    for (index, unit) in units.iter().enumerate() {
        let mut need = Vec::new();
        for (input, &home) in homes.inputs[index].iter().enumerate() {
            let used = uses.entry(home).or_default();
            if let Some((writer, output)) = used.writer {
                let is_by_rows = writes_rows(writer, output) && reads_rows(index, input);
                need.push(Need { unit: writer, is_by_rows });
            }
            used.readers.push(index);
        }
        let updated = unit.updates.iter().map(|&input| (homes.inputs[index][input], None));
        let outputs = homes.outputs[index].iter().enumerate().map(|(output, &home)| (home, Some(output)));
        for (home, output) in updated.chain(outputs) {
            let used = uses.entry(home).or_default();
            let before = used.readers.drain(..).chain(used.writer.map(|(writer, _)| writer));
            need.extend(before.filter(|&unit| unit != index).map(|unit| Need { unit, is_by_rows: false }));
            used.writer = Some((index, output));
        }
        needs.push(need);
    }
    needs
}

/// The units that can run image by image now, one after the other.
fn next_segment(forms: &[Option<Form>], needs: &[Vec<Need>], is_done: &[bool]) -> Segment {
    let (mut segment, mut is_in) = (Segment { units: Vec::new(), batch_size: 0 }, vec![false; forms.len()]);
    for (unit, form) in forms.iter().enumerate() {
        let Some((_, batch_size)) = form else { continue };
        let fits = segment.units.is_empty() || *batch_size == segment.batch_size;
        let is_ready = |need: &Need| is_done[need.unit] || is_in[need.unit] && need.is_by_rows;
        if !is_done[unit] && fits && needs[unit].iter().all(is_ready) {
            segment.units.push(unit);
            segment.batch_size = *batch_size;
            is_in[unit] = true;
        }
    }
    segment
}
