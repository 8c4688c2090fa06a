//! Where the values of a plan in stages lie. One that only one segment knows lies in working memory of the thread that
//! computes it, for as many images as are computed at a time. Others have memory of their own, which they share with
//! values of other stages.

use std::collections::HashMap;

use super::memory::Block;
use super::op::check_apart;
use super::schedule::{Home, Homes, Segment, Stage};
use super::tiled::{PartialSums, Place, ReadySegment, TiledUnit};
use super::unit::Unit;
use super::{Shared, Sources};
use crate::Result;
use crate::graph::plan::{Operand, Plan, Storage};
use crate::ops::batch::{Along, BatchForm};
use crate::ops::cpu::{Float, Memory, elem_bytes, scratch};
use crate::tensor::{DType, TensorType};

/// The stages in which values are known.
pub(super) struct Lives {
    /// The first and the last stage of each value, the last being `usize::MAX` for what a run gives.
    stages: HashMap<Home, (usize, usize)>,
    /// Values in the order in which they are made.
    order: Vec<(Home, TensorType)>,
    /// The values that lie in one segment's working memory.
    local: HashMap<Home, usize>,
}

impl Lives {
    pub fn of(plan: &Plan, units: &[Unit], homes: &Homes, stages: &[Stage]) -> Lives {
        let mut lives = Lives { stages: HashMap::new(), order: Vec::new(), local: HashMap::new() };
        for (index, stage) in stages.iter().enumerate() {
            for &unit in stage.units() {
                for (output, &home) in homes.outputs[unit].iter().enumerate() {
                    if let Home::Value { .. } = home {
                        lives.stages.insert(home, (index, index));
                        lives.order.push((home, units[unit].outputs[output].ty.clone()));
                    }
                }
                for home in &homes.inputs[unit] {
                    if let Some((_, last)) = lives.stages.get_mut(home) {
                        *last = index;
                    }
                }
            }
        }
        for operand in plan.outputs.values() {
            if let Storage::Slot(slot) = operand.storage
                && let Some((_, last)) = lives.stages.get_mut(&homes.last[&slot])
            {
                *last = usize::MAX;
            }
        }
        for (index, stage) in stages.iter().enumerate() {
            let Stage::Segment(segment) = stage else { continue };
            for &unit in &segment.units {
                let form = form(&units[unit]);
                let local = homes.outputs[unit]
                    .iter()
                    .zip(&form.outputs)
                    .filter(|(home, along)| **along == Along::Rows && lives.stages.get(home) == Some(&(index, index)));
                lives.local.extend(local.map(|(&home, _)| (home, index)));
            }
        }
        lives
    }
}

impl Stage {
    pub fn units(&self) -> &[usize] {
        match self {
            Stage::Op(unit) => std::slice::from_ref(unit),
            Stage::Segment(segment) => &segment.units,
        }
    }
}

fn form(unit: &Unit) -> &BatchForm {
    unit.form.as_ref().expect("units in segments have a form")
}

/// Memory for the values that are not local, shared by those whose stages do not meet.
pub(super) fn place_blocks<F: Float>(lives: &Lives) -> Result<(Vec<Block>, HashMap<Home, usize>)> {
    /// Memory to be, and the last stage that uses it so far.
    struct Room {
        dtype: DType,
        num_elems: usize,
        last: usize,
    }
    let (mut rooms, mut block_of): (Vec<Room>, _) = (Vec::new(), HashMap::new());
    for (home, ty) in lives.order.iter().filter(|(home, _)| !lives.local.contains_key(home)) {
        let ((first, last), num_elems) = (lives.stages[home], ty.shape.num_elems());
        let free = rooms.iter().enumerate().filter(|(_, room)| room.dtype == ty.dtype && room.last < first);
        let fitting = free.min_by_key(|(_, room)| (room.num_elems < num_elems, room.num_elems.abs_diff(num_elems)));
        let block = match fitting {
            Some((block, _)) => block,
            None => {
                rooms.push(Room { dtype: ty.dtype, num_elems: 0, last: 0 });
                rooms.len() - 1
            }
        };
        rooms[block].num_elems = rooms[block].num_elems.max(num_elems);
        rooms[block].last = last;
        block_of.insert(*home, block);
    }
    let blocks = rooms.iter().map(|room| Block::zeros::<F>(room.dtype, room.num_elems));
    Ok((blocks.collect::<Result<_>>()?, block_of))
}

/// What the places of operands follow from.
pub(super) struct Layout<'a> {
    pub units: &'a [Unit],
    pub homes: &'a Homes,
    pub shared: &'a Shared<'a>,
    pub lives: &'a Lives,
    pub blocks: &'a [Block],
    pub block_of: &'a HashMap<Home, usize>,
}

impl Layout<'_> {
    /// The memory of an operand that is not local.
    fn memory(&self, home: Home, operand: &Operand) -> Memory {
        let memory = match home {
            Home::Storage(storage) => self.shared.memory(storage),
            Home::Value { .. } => self.blocks[self.block_of[&home]].memory(),
        };
        memory.first(operand.ty.shape.num_elems())
    }

    /// A segment with its operands in memory; the memory of its partial sums goes to `partials`.
    pub fn segment<F: Float>(
        &self,
        index: usize,
        segment: &Segment,
        most_images: Option<usize>,
        partials: &mut Vec<Block>,
    ) -> Result<ReadySegment> {
        let of_image = self.place_locals::<F>(index, segment, 1).1;
        let images =
            most_images.map_or_else(|| segment.images(self.units, of_image), |most| most.min(segment.batch_size));
        let (local, scratch_bytes) = self.place_locals::<F>(index, segment, images);
        let num_groups = segment.batch_size.div_ceil(images);
        let rest = segment.batch_size - (num_groups - 1) * images;
        let mut sums = Vec::new();
        let mut units = Vec::new();
        for &index in &segment.units {
            let (unit, form) = (&self.units[index], form(&self.units[index]));
            let place = |home: Home, operand: &Operand, along: Along| {
                let row_elems = operand.ty.shape.num_elems() / segment.batch_size;
                match (local.get(&home), along) {
                    (Some(&start), _) => Place::Local { start, row_elems, dtype: operand.ty.dtype },
                    (None, Along::Rows) => Place::Rows(self.memory(home, operand), row_elems),
                    (None, _) => Place::Whole(self.memory(home, operand)),
                }
            };
            let homes = &self.homes.inputs[index];
            let inputs = homes.iter().zip(&unit.inputs).zip(&form.inputs);
            let inputs: Vec<Place> = inputs.map(|((&home, operand), &along)| place(home, operand, along)).collect();
            let homes = &self.homes.outputs[index];
            let outputs = homes.iter().zip(&unit.outputs).zip(&form.outputs);
            let outputs = outputs.map(|((&home, operand), &along)| {
                let whole = place(home, operand, along);
                let (Place::Whole(total), true) = (whole, num_groups > 1) else { return Ok(whole) };
                let elems = operand.ty.shape.num_elems();
                let block = Block::zeros::<F>(operand.ty.dtype, num_groups * elems)?;
                sums.push(PartialSums { partials: block.memory(), total });
                partials.push(block);
                Ok(Place::Partial(sums[sums.len() - 1].partials, elems))
            });
            let outputs: Vec<Place> = outputs.collect::<Result<_>>()?;
            check_whole::<F>(unit, &inputs, &outputs);
            let types = [images, rest].map(|rows| {
                (types_of(&unit.input_types(), &form.inputs, rows), types_of(&unit.output_types(), &form.outputs, rows))
            });
            units.push(TiledUnit { kernel: unit.kernel.clone(), types, inputs, outputs });
        }
        Ok(ReadySegment { units, batch_size: segment.batch_size, images, scratch_bytes, sums })
    }

    /// Where in working memory each local value of a segment begins, for so many images, and the bytes in all. Values
    /// whose lives do not meet share memory.
    fn place_locals<F: Float>(&self, index: usize, segment: &Segment, images: usize) -> (HashMap<Home, usize>, usize) {
        let mut last_use: HashMap<Home, usize> = HashMap::new();
        for &unit in &segment.units {
            last_use.extend(self.homes.inputs[unit].iter().chain(&self.homes.outputs[unit]).map(|&home| (home, unit)));
        }
        let (mut starts, mut taken): (_, Vec<(usize, usize, usize)>) = (HashMap::new(), Vec::new());
        let mut total = 0;
        for &unit in &segment.units {
            taken.retain(|&(_, _, last)| last >= unit);
            for (home, operand) in self.homes.outputs[unit].iter().zip(&self.units[unit].outputs) {
                if self.lives.local.get(home) != Some(&index) {
                    continue;
                }
                let row_elems = operand.ty.shape.num_elems() / segment.batch_size;
                let bytes = (images * row_elems * elem_bytes::<F>(operand.ty.dtype))
                    .next_multiple_of(size_of::<scratch::Line>());
                let start = first_gap(&mut taken, bytes);
                taken.push((start, start + bytes, last_use[home]));
                total = total.max(start + bytes);
                starts.insert(*home, start);
            }
        }
        (starts, total)
    }
}

/// The start of the first gap of so many bytes between ranges.
fn first_gap(taken: &mut [(usize, usize, usize)], bytes: usize) -> usize {
    taken.sort_unstable();
    let mut start = 0;
    for &(from, to, _) in taken.iter() {
        if start + bytes <= from {
            break;
        }
        start = start.max(to);
    }
    start
}

/// Types with another number of rows.
fn types_of(types: &[TensorType], along: &[Along], rows: usize) -> Vec<TensorType> {
    let of = |(ty, along): (&TensorType, &Along)| match along {
        Along::Rows => {
            let mut dims = ty.shape.dims().to_vec();
            dims[0] = rows;
            TensorType { shape: dims.into(), dtype: ty.dtype }
        }
        Along::Whole | Along::Sum => ty.clone(),
    };
    types.iter().zip(along).map(of).collect()
}

/// Checks that what an op writes to memory of the whole batch overlaps nothing else of its operands.
fn check_whole<F: Float>(unit: &Unit, inputs: &[Place], outputs: &[Place]) {
    let whole = |places: &[Place]| -> Vec<Memory> {
        let of = |place: &Place| match place {
            Place::Whole(memory) | Place::Rows(memory, _) | Place::Partial(memory, _) => Some(*memory),
            Place::Local { .. } => None,
        };
        places.iter().filter_map(of).collect()
    };
    check_apart::<F>(unit, &whole(inputs), &whole(outputs));
}

impl Sources for Layout<'_> {
    fn input(&self, unit: usize, input: usize) -> Memory {
        self.memory(self.homes.inputs[unit][input], &self.units[unit].inputs[input])
    }

    fn output(&self, unit: usize, output: usize) -> Memory {
        self.memory(self.homes.outputs[unit][output], &self.units[unit].outputs[output])
    }
}
