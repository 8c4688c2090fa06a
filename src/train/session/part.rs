//! A set of images on the device, and the batches that go over it.

use super::{LOGITS, TABLE};
use crate::data::{DataLoader, Dataset};
use crate::exec::{Program, StepTable};
use crate::graph::{StateKind, StateSpec};
use crate::ops::data::metrics::COLUMNS;
use crate::tensor::Tensor;
use crate::train::Evaluation;
use crate::train::metrics::Metrics;
use crate::{Error, Result};

/// The least binding that every WebGPU device takes; a data set beyond it lies in two.
pub(crate) const MAX_SHARD_BYTES: usize = 128 << 20;

/// One set of images on the device and the entries that go over it.
pub(crate) struct Part {
    pub(super) name: &'static str,
    pub(crate) loader: DataLoader,
    /// The first row of the metrics table that its batches write.
    pub(super) first_row: usize,
}

impl Part {
    pub(crate) fn new(name: &'static str, data: &Dataset, batch_size: usize, first_row: usize) -> Result<Part> {
        let size =
            |option: &str, size: usize| u32::try_from(size).map_err(|_| Error::setting(option, "less than 2^32", size));
        let loader = DataLoader::new(size("images", data.len())?, size("batch_size", batch_size)?)?;
        Ok(Part { name, loader, first_row })
    }

    pub(crate) fn num_rows(&self) -> usize {
        self.loader.num_batches() as usize
    }

    /// Puts the images on the device.
    pub(crate) fn upload(&self, program: &mut Program, data: &Dataset, max_shard_bytes: usize) -> Result<()> {
        self.states(data, max_shard_bytes)?.iter().try_for_each(|(name, tensor)| program.write(name, tensor))
    }

    /// Goes over all batches without changing weights.
    pub(crate) fn run(&self, program: &mut Program) -> Result<()> {
        for (entry, batch_size, first, count) in self.entries() {
            program.run(&entry, &batches(self, batch_size, first, count))?;
        }
        Ok(())
    }

    /// Evaluates all images, batch by batch, and reads back their logits.
    pub(crate) fn evaluate(&self, program: &mut Program) -> Result<Evaluation> {
        let mut logits = Vec::new();
        for (entry, batch_size, first, count) in self.entries() {
            for batch in first..first + count {
                program.run(&entry, &batches(self, batch_size, batch, 1))?;
                logits.extend(program.output(&entry, LOGITS)?.to_f32_vec());
            }
        }
        let metrics = metrics_of(&program.read(TABLE)?.to_f64_vec(), self);
        Ok(Evaluation { metrics, logits })
    }

    /// The images, their labels and their own order, under the names that graphs read them by.
    pub(super) fn states(&self, data: &Dataset, max_shard_bytes: usize) -> Result<Vec<(String, Tensor)>> {
        let [channels, height, width] = data.shape();
        let mut states = Vec::new();
        let mut first = 0;
        for (index, len) in shards(data, max_shard_bytes)?.into_iter().enumerate() {
            let tensor = Tensor::u8([len, channels, height, width], data.pixels_of(first, len))?;
            states.push((self.state(&format!("images.{index}")), tensor));
            first += len;
        }
        let labels = data.labels().iter().map(|&label| u32::from(label)).collect();
        states.push((self.state("labels"), Tensor::u32([data.len()], labels)?));
        let order = (0..self.loader.num_images()).collect();
        states.push((self.state("order"), Tensor::u32([data.len()], order)?));
        Ok(states)
    }

    pub(super) fn state(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    /// The entries of whole batches and of the last one, as (name, batch size, first batch, batches); none is empty.
    pub(super) fn entries(&self) -> Vec<(String, usize, usize, usize)> {
        let (images, batch) = (self.loader.num_images() as usize, self.loader.batch_size() as usize);
        let (whole, rest) = (images / batch, images % batch);
        let all = [(self.name.to_owned(), batch, 0, whole), (format!("{}.tail", self.name), rest, whole, 1)];
        all.into_iter().filter(|&(_, size, _, count)| size > 0 && count > 0).collect()
    }
}

/// Whether a state holds images or labels: what sessions over the same images have in common, whatever their order.
pub(crate) fn is_image_data(spec: &StateSpec) -> bool {
    let of_part = |what: &str| spec.name.split_once('.').is_some_and(|(_, rest)| rest.starts_with(what));
    spec.kind == StateKind::Input && (of_part("images.") || of_part("labels"))
}

/// Images in each binding that the data set is split over.
pub(super) fn shards(data: &Dataset, max_shard_bytes: usize) -> Result<Vec<usize>> {
    let per_shard = max_shard_bytes / data.image_len_bytes().max(1);
    match data.len().div_ceil(per_shard.max(1)) {
        0 | 1 => Ok(vec![data.len()]),
        2 => Ok(vec![per_shard, data.len() - per_shard]),
        _ => Err(Error::Limit {
            what: format!("the {} images of {}", data.split(), data.name()),
            needed: (data.len() * data.image_len_bytes()) as u64,
            limit: 2 * max_shard_bytes as u64,
            limit_name: "bytes in two bindings",
            device: "every device".to_owned(),
            advice: "take fewer images",
        }),
    }
}

/// The columns that say which batch a step takes and where its metrics go.
pub(super) fn batches(part: &Part, batch_size: usize, first: usize, count: usize) -> StepTable {
    let whole = part.loader.batch_size() as usize;
    debug_assert!(batch_size <= whole);
    StepTable::new(count)
        .column("start", |step| ((first + step) * whole) as f64)
        .column("row", |step| (part.first_row + first + step) as f64)
}

/// The same for batches that need not follow each other.
pub(super) fn batches_at(part: &Part, batch_size: usize, numbers: &[usize]) -> StepTable {
    let whole = part.loader.batch_size() as usize;
    debug_assert!(batch_size <= whole);
    StepTable::new(numbers.len())
        .column("start", |step| (numbers[step] * whole) as f64)
        .column("row", |step| (part.first_row + numbers[step]) as f64)
}

pub(super) fn metrics_of(rows: &[f64], part: &Part) -> Metrics {
    Metrics::from_rows(&rows[part.first_row * COLUMNS..(part.first_row + part.num_rows()) * COLUMNS])
}
