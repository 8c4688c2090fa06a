//! Which images make up which batch. Host code that moves no pixel: the images stay on the device, the order of an
//! epoch goes there once, and a batch is a range of that order.

use std::ops::Range;

use crate::rng::{Domain, Stream, key, random_words};
use crate::{Error, Result};

/// The options of `torch.utils.data.DataLoader` that decide about batches. The order of an epoch is a function of seed
/// and epoch alone, so a run that resumes needs no generator state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLoader {
    num_images: u32,
    batch_size: u32,
    shuffle: bool,
    drop_last: bool,
    seed: u64,
}

/// A batch: positions `start..start + len` of the epoch's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The first position.
    pub start: u32,
    /// The number of images, at least 1 and at most the batch size; smaller only in an epoch's last batch.
    pub len: u32,
}

impl DataLoader {
    /// A loader without shuffling that keeps a last, smaller batch: PyTorch's defaults.
    ///
    /// # Errors
    /// [`Error::Setting`] if there are no images or `batch_size` is 0.
    pub fn new(num_images: u32, batch_size: u32) -> Result<Self> {
        if num_images == 0 {
            return Err(Error::setting("num_images", "at least one image", num_images));
        }
        if batch_size == 0 {
            return Err(Error::setting("batch_size", "at least 1", batch_size));
        }
        Ok(DataLoader { num_images, batch_size, shuffle: false, drop_last: false, seed: 0 })
    }

    /// Gives every epoch an order of its own, drawn from this seed.
    pub fn shuffled(self, seed: u64) -> Self {
        DataLoader { shuffle: true, seed, ..self }
    }

    /// Leaves out a last batch that is smaller than the others.
    ///
    /// # Errors
    /// [`Error::Setting`] if that leaves no batch at all.
    pub fn dropping_last(self) -> Result<Self> {
        if self.batch_size > self.num_images {
            let expected =
                format!("at most the {} images there are, as the last smaller batch is dropped", self.num_images);
            return Err(Error::setting("batch_size", expected, self.batch_size));
        }
        Ok(DataLoader { drop_last: true, ..self })
    }

    /// The images that an epoch visits, in its order (N): a permutation of `0..num_images`, or that range itself
    /// without shuffling. With `drop_last` the ones at the end that fill no batch are included here and in no batch.
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        if !self.shuffle {
            return (0..self.num_images).collect();
        }
        let [low, high] = key(epoch);
        let [a, b, ..] = random_words([low, high, 0], Domain::EpochOrder, key(self.seed));
        Stream::new((u64::from(a) << 32) | u64::from(b), 0).permutation(self.num_images)
    }

    /// The number of batches in an epoch, at least 1.
    pub fn num_batches(&self) -> u32 {
        if self.drop_last { self.num_images / self.batch_size } else { self.num_images.div_ceil(self.batch_size) }
    }

    /// The batch with this index, or `None` at and past [`num_batches`](Self::num_batches).
    pub fn batch(&self, batch_index: u32) -> Option<Batch> {
        if batch_index >= self.num_batches() {
            return None;
        }
        // Below `num_images`, since the index is below `num_batches`.
        let start = batch_index * self.batch_size;
        Some(Batch { start, len: self.batch_size.min(self.num_images - start) })
    }

    /// The batches of an epoch, first to last.
    pub fn batches(&self) -> impl ExactSizeIterator<Item = Batch> + use<> {
        let loader = *self;
        // Not `filter_map`, which would lose the exact length: every index of the range has a batch.
        (0..loader.num_batches()).map(move |index| loader.batch(index).expect("the index is below num_batches"))
    }

    /// The sizes that an epoch's batches have: the batch size, and that of a shorter last one if there is one. A graph
    /// is built for each, see [`Program::from_graphs`](crate::Program::from_graphs).
    pub fn batch_sizes(&self) -> Vec<usize> {
        let (first, last) = (self.batch(0), self.batch(self.num_batches() - 1));
        let mut sizes: Vec<usize> = first.iter().chain(&last).map(|batch| batch.range().len()).collect();
        sizes.dedup();
        sizes
    }

    /// The images that an epoch's batches hold together; fewer than `num_images` only when the last batch is dropped.
    pub fn num_visited(&self) -> u32 {
        if self.drop_last { self.num_batches() * self.batch_size } else { self.num_images }
    }

    /// The number of images N.
    pub fn num_images(&self) -> u32 {
        self.num_images
    }

    /// The size of every batch but, perhaps, the last.
    pub fn batch_size(&self) -> u32 {
        self.batch_size
    }
}

impl Batch {
    /// The positions as a range, to index the epoch's order.
    pub fn range(self) -> Range<usize> {
        // Two u32 of which the sum is at most `num_images`, a u32.
        self.start as usize..(self.start + self.len) as usize
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::*;

    fn lens(loader: &DataLoader) -> Vec<u32> {
        loader.batches().map(|batch| batch.len).collect()
    }

    #[test]
    fn batches_cut_the_images_as_pytorch_does() {
        // (images, batch size, drop the last) -> lengths, why
        let cases: [(u32, u32, bool, &[u32], &str); 8] = [
            (10, 5, false, &[5, 5], "divides evenly"),
            (10, 5, true, &[5, 5], "nothing to drop"),
            (10, 4, false, &[4, 4, 2], "the last batch is shorter"),
            (10, 4, true, &[4, 4], "the shorter batch is dropped"),
            (9, 8, false, &[8, 1], "a last batch of one image"),
            (3, 8, false, &[3], "fewer images than a batch holds"),
            (1, 1, true, &[1], "one image"),
            (u32::MAX, u32::MAX - 1, false, &[u32::MAX - 1, 1], "no overflow at the end of the range"),
        ];
        for (num_images, batch_size, drop_last, want, why) in cases {
            let mut loader = DataLoader::new(num_images, batch_size).unwrap();
            if drop_last {
                loader = loader.dropping_last().unwrap();
            }
            assert_eq!(lens(&loader), want, "{why}");
            assert_eq!(loader.num_batches() as usize, want.len(), "{why}");
            let mut sizes: Vec<usize> = want.iter().map(|&len| len as usize).collect();
            sizes.dedup();
            assert_eq!(loader.batch_sizes(), sizes, "{why}");
            assert_eq!(loader.num_visited(), want.iter().sum::<u32>(), "{why}");
            assert_eq!(loader.batch(loader.num_batches()), None, "{why}");
            let mut next = 0;
            for batch in loader.batches() {
                assert_eq!(batch.start, next, "batches follow one another: {why}");
                next += batch.len;
            }
        }
    }

    #[test]
    fn order_depends_on_seed_and_epoch_alone() {
        let loader = DataLoader::new(500, 32).unwrap().shuffled(7);
        assert_eq!(loader.order(3), loader.order(3), "asking twice, in any order, changes nothing");
        assert_ne!(loader.order(3), loader.order(4), "each epoch has its own");
        assert_ne!(loader.order(3), DataLoader::new(500, 32).unwrap().shuffled(8).order(3), "each seed has its own");
        let smaller_batches = DataLoader::new(500, 7).unwrap().shuffled(7);
        assert_eq!(loader.order(3), smaller_batches.order(3), "the batch size does not matter");
        for epoch in [0, 1, u64::MAX] {
            let mut order = loader.order(epoch);
            order.sort_unstable();
            assert_eq!(order, (0..500).collect::<Vec<_>>(), "every image once in epoch {epoch}");
        }
    }

    #[test]
    fn order_never_changes() {
        // A run of an earlier version must repeat, so these numbers may never change.
        let loader = DataLoader::new(8, 4).unwrap().shuffled(42);
        assert_eq!(loader.order(0), [4, 3, 0, 7, 5, 1, 2, 6]);
        assert_eq!(loader.order(1), [6, 3, 4, 0, 5, 1, 7, 2]);
    }

    #[test]
    fn without_shuffling_the_order_is_the_files() {
        assert_eq!(DataLoader::new(4, 2).unwrap().order(9), [0, 1, 2, 3]);
    }

    #[test]
    fn sizes_that_make_no_batch_are_rejected() {
        for (loader, option) in [
            (DataLoader::new(0, 4), "num_images"),
            (DataLoader::new(4, 0), "batch_size"),
            (DataLoader::new(4, 5).unwrap().dropping_last(), "batch_size"),
        ] {
            let error = loader.unwrap_err();
            assert!(error.is_usage() && error.to_string().starts_with(option), "{error}");
        }
    }
}
