//! Sums over ranks in the tree of [`optim::tree`](crate::optim::tree), which are the same bytes on any number of ranks.
//!
//! A vector is cut into as many slices as there are ranks. Each rank receives what the others have of its slice, adds it up in
//! the tree's order, and sends the sum to all (reduce-scatter and all-gather; Rabenseifner, "Optimization of Collective
//! Reduction Operations", ICCS 2004). So each sends and receives about twice the vector, however many they are, where
//! sending everything to everyone would take it once for each rank, and adds up 1/N of it.
//!
//! Several vectors, *buckets*, may be on their way at a time; they take their steps on their own, as messages arrive.

use std::ops::Range;

use super::{Bytes, Comm, Transfer};
use crate::Result;
use crate::optim::tree::{self, Climb, Node};

/// Elements that are added up at a time: those of a few vectors stay in a core's first-level cache.
const CHUNK: usize = 1024;

/// How numbers are added: as on the device that adds up sums within a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addition {
    /// f32.
    F32,
    /// f32 on a device that takes subnormal numbers for zeros, as WebGPU allows.
    F32Flushed,
    /// f64.
    F64,
}

impl Addition {
    fn elem_bytes(self) -> usize {
        match self {
            Addition::F32 | Addition::F32Flushed => size_of::<f32>(),
            Addition::F64 => size_of::<f64>(),
        }
    }

    /// A sum in f32.
    pub fn add_f32(self, left: f32, right: f32) -> f32 {
        let flush = |x: f32| if self == Addition::F32Flushed && x.is_subnormal() { 0.0_f32.copysign(x) } else { x };
        flush(flush(left) + flush(right))
    }
}

/// Sums of vectors over the batches of a step. In each step every rank gives the sums of its nodes of the tree, and gets
/// those of all batches.
pub(crate) struct TreeSum {
    rank: usize,
    num_ranks: usize,
    addition: Addition,
    num_batches: usize,
    buckets: Vec<Bucket>,
    first_tag: u16,
}

/// A vector.
struct Bucket {
    num_bytes: usize,
    /// This rank's nodes, one after the other, and what comes from others.
    parts: Bytes,
    /// The sum of all batches, once it is there.
    total: Bytes,
    is_done: bool,
}

/// Whose sum of which node lies where.
struct Addend {
    climb: Climb,
    at: Range<usize>,
}

impl TreeSum {
    /// The transfers' tags are `first_tag` and as many as there are buckets, twice.
    pub fn new(
        comm: &dyn Comm,
        addition: Addition,
        bucket_bytes: impl Iterator<Item = usize>,
        first_tag: u16,
    ) -> TreeSum {
        let bucket = |num_bytes| Bucket { num_bytes, parts: Bytes::default(), total: Bytes::default(), is_done: false };
        let buckets = bucket_bytes.map(bucket).collect();
        TreeSum { rank: comm.rank(), num_ranks: comm.size(), addition, num_batches: 0, buckets, first_tag }
    }

    /// Begins a step of so many batches.
    pub fn begin(&mut self, num_batches: usize) {
        self.num_batches = num_batches;
        for bucket in &mut self.buckets {
            bucket.parts.clear();
            bucket.is_done = false;
        }
    }

    /// The nodes of the tree that a rank gives, in their order.
    pub fn nodes(&self, rank: usize) -> Vec<Node> {
        tree::nodes(tree::share(self.num_batches, rank, self.num_ranks), self.num_batches)
    }

    /// Takes this rank's next node of a bucket, in pieces.
    pub fn add_node(&mut self, bucket: usize, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| self.buckets[bucket].parts.extend(piece));
    }

    /// Sends off a bucket, all of whose nodes are there.
    pub fn send(&mut self, comm: &mut dyn Comm, bucket: usize) -> Result<()> {
        let tag = self.first_tag + 2 * u16::try_from(bucket).expect("there are no more buckets than tags");
        let mut transfer = Transfer { tag, ..Transfer::default() };
        let num_bytes = self.buckets[bucket].num_bytes;
        let own = self.nodes(self.rank).len();
        for other in self.others().filter(|&other| !self.slice(num_bytes, other).is_empty()) {
            let slice = self.slice(num_bytes, other);
            let of_node = |node: usize| (other, node * num_bytes + slice.start..node * num_bytes + slice.end);
            transfer.to.extend((0..own).map(of_node));
        }
        let addends = self.addends(bucket);
        let from = addends.iter().filter(|(rank, addend)| *rank != self.rank && !addend.at.is_empty());
        transfer.from = from.map(|(rank, addend)| (*rank, addend.at.clone())).collect();
        let end = addends.iter().map(|(_, addend)| addend.at.end).max().unwrap_or(0);
        transfer.memory = std::mem::take(&mut self.buckets[bucket].parts);
        transfer.memory.resize(end.max(own * num_bytes));
        comm.start(transfer)
    }

    /// Takes a transfer that is complete, if it is one of its own, and makes the next step.
    pub fn take(&mut self, comm: &mut dyn Comm, transfer: Transfer) -> Result<()> {
        let index = usize::from(transfer.tag - self.first_tag);
        let (bucket, is_total) = (index / 2, index % 2 == 1);
        if is_total {
            (self.buckets[bucket].total, self.buckets[bucket].is_done) = (transfer.memory, true);
            return Ok(());
        }
        let num_bytes = self.buckets[bucket].num_bytes;
        let mut total = std::mem::take(&mut self.buckets[bucket].total);
        total.resize(num_bytes);
        let own = self.slice(num_bytes, self.rank);
        self.add_up(bucket, &transfer.memory, &mut total[own.clone()]);
        self.buckets[bucket].parts = transfer.memory;
        let with_others = |range: &dyn Fn(usize) -> Range<usize>| {
            let all = self.others().map(|other| (other, range(other)));
            all.filter(|(_, range)| !range.is_empty()).collect()
        };
        comm.start(Transfer {
            tag: transfer.tag + 1,
            memory: total,
            to: with_others(&|_| own.clone()),
            from: with_others(&|other| self.slice(num_bytes, other)),
        })
    }

    /// Whether all sums are there.
    pub fn is_done(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.is_done)
    }

    /// The sum of a bucket, once all are there.
    pub fn total(&self, bucket: usize) -> &[u8] {
        &self.buckets[bucket].total
    }

    /// The other ranks, from the next one on, so that not all write to the same one first.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let (rank, num_ranks) = (self.rank, self.num_ranks);
        (1..num_ranks).map(move |distance| (rank + distance) % num_ranks)
    }

    /// The bytes of a vector that a rank adds up.
    fn slice(&self, num_bytes: usize, rank: usize) -> Range<usize> {
        let elem_bytes = self.addition.elem_bytes();
        let start = |rank: usize| num_bytes / elem_bytes * rank / self.num_ranks * elem_bytes;
        start(rank)..start(rank + 1)
    }

    /// Where this rank's slice of every node lies, in the order in which they are added, and whose it is.
    fn addends(&self, bucket: usize) -> Vec<(usize, Addend)> {
        let num_bytes = self.buckets[bucket].num_bytes;
        let (slice, root) = (self.slice(num_bytes, self.rank), Node::root(self.num_batches));
        let (mut own, mut received) = (0, self.nodes(self.rank).len() * num_bytes);
        let mut addends = Vec::new();
        for rank in 0..self.num_ranks {
            for node in self.nodes(rank) {
                let start = if rank == self.rank { own + slice.start } else { received };
                match rank == self.rank {
                    true => own += num_bytes,
                    false => received += slice.len(),
                }
                let at = start..start + slice.len();
                addends.push((rank, Addend { climb: node.climb(root, self.num_batches), at }));
            }
        }
        addends
    }

    fn add_up(&self, bucket: usize, memory: &[u8], total: &mut [u8]) {
        let addends: Vec<Addend> = self.addends(bucket).into_iter().map(|(_, addend)| addend).collect();
        match self.addition {
            Addition::F32 => sum_in_tree::<f32>(&addends, memory, total, |left, right| left + right),
            Addition::F64 => sum_in_tree::<f64>(&addends, memory, total, |left, right| left + right),
            Addition::F32Flushed => {
                sum_in_tree::<f32>(&addends, memory, total, |left, right| Addition::F32Flushed.add_f32(left, right));
            }
        }
    }
}

/// Adds up what lies in `memory`: each addend climbs the tree from its node, as in `optim::tree`.
fn sum_in_tree<F: bytemuck::Pod>(addends: &[Addend], memory: &[u8], total: &mut [u8], add: impl Fn(F, F) -> F) {
    let total: &mut [F] = bytemuck::cast_slice_mut(total);
    let num_levels = addends.iter().flat_map(|addend| addend.climb.keep).max().map_or(0, |most| most + 1);
    let mut kept = vec![F::zeroed(); num_levels * CHUNK];
    for (chunk, total) in total.chunks_mut(CHUNK).enumerate() {
        for Addend { climb, at } in addends {
            let of_node: &[F] = bytemuck::cast_slice(&memory[at.clone()]);
            // What arrives is the total after the last addend.
            total.copy_from_slice(&of_node[chunk * CHUNK..][..total.len()]);
            for level in &climb.merges {
                let kept = &kept[level * CHUNK..][..total.len()];
                total.iter_mut().zip(kept).for_each(|(sum, &kept)| *sum = add(kept, *sum));
            }
            if let Some(level) = climb.keep {
                kept[level * CHUNK..][..total.len()].copy_from_slice(total);
            }
        }
    }
}

/// The sum of a vector of every rank, in a fixed binary tree: the same bytes on all ranks and in every call, whatever the
/// library, its algorithms and the network. (`MPI_Allreduce` takes an order of its own.)
pub struct AllReduce {
    sums: TreeSum,
}

impl AllReduce {
    /// For vectors of `len` elements.
    pub fn new(comm: &dyn Comm, len: usize) -> AllReduce {
        AllReduce { sums: TreeSum::new(comm, Addition::F32, [len * size_of::<f32>()].into_iter(), 1) }
    }

    /// Overwrites every rank's vector with their sum. Collective, and no other transfer may be on its way.
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    ///
    /// # Panics
    /// If the vector is not of the length that this was made for.
    pub fn sum(&mut self, comm: &mut dyn Comm, vector: &mut [f32]) -> Result<()> {
        assert_eq!(size_of_val(vector), self.sums.buckets[0].num_bytes, "a vector of the length it was made for");
        if comm.size() == 1 {
            return Ok(());
        }
        self.sums.begin(comm.size());
        self.sums.add_node(0, &[bytemuck::cast_slice(vector)]);
        self.sums.send(comm, 0)?;
        while !self.sums.is_done() {
            let transfer = comm.wait()?.expect("the sum is on its way");
            self.sums.take(comm, transfer)?;
        }
        vector.copy_from_slice(bytemuck::cast_slice(self.sums.total(0)));
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::super::Threads;
    use super::*;

    /// Leaves of a step whose sum depends on the order, and a subnormal one.
    fn leaf(batch: usize, len: usize) -> Vec<f32> {
        let element = |index: usize| ((batch * 31 + index * 17) % 23) as f32 * 0.1 * 10f32.powi(batch as i32 % 5);
        (0..len).map(|index| if index == 0 { 1e-39 } else { element(index) }).collect()
    }

    /// The sum of a node, by its definition.
    fn sum_of(batches: Range<usize>, level: usize, len: usize, add: &impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let middle = batches.start + (1 << level >> 1);
        if batches.len() == 1 {
            return leaf(batches.start, len);
        }
        if middle >= batches.end {
            return sum_of(batches, level - 1, len, add);
        }
        let left = sum_of(batches.start..middle, level - 1, len, add);
        let right = sum_of(middle..batches.end, level - 1, len, add);
        left.into_iter().zip(right).map(|(left, right)| add(left, right)).collect()
    }

    /// Every rank's sums of two vectors over the batches, sent off in another order on each.
    fn together(num_ranks: usize, num_batches: usize, lens: [usize; 2], addition: Addition) -> Vec<Vec<Vec<f32>>> {
        let plain = |left: f32, right: f32| left + right;
        let of_rank = |mut comm: Threads| {
            let mut sums = TreeSum::new(&comm, addition, lens.iter().map(|len| len * size_of::<f32>()), 1);
            let mut totals = Vec::new();
            // Twice, in the same memory.
            for _ in 0..2 {
                sums.begin(num_batches);
                for node in sums.nodes(comm.rank()) {
                    for (bucket, &len) in lens.iter().enumerate() {
                        let sum = sum_of(node.batches(num_batches), node.level, len, &plain);
                        let (one, two) = sum.split_at(len / 2);
                        sums.add_node(bucket, &[bytemuck::cast_slice(one), bytemuck::cast_slice(two)]);
                    }
                }
                let order = if comm.rank().is_multiple_of(2) { [0, 1] } else { [1, 0] };
                order.iter().for_each(|&bucket| sums.send(&mut comm, bucket).unwrap());
                while !sums.is_done() {
                    let transfer = comm.wait().unwrap().unwrap();
                    sums.take(&mut comm, transfer).unwrap();
                }
                totals = (0..2).map(|bucket| bytemuck::pod_collect_to_vec(sums.total(bucket))).collect();
            }
            assert!(comm.wait().unwrap().is_none(), "nothing is left on its way");
            totals
        };
        std::thread::scope(|scope| {
            let ranks = Threads::group(num_ranks).into_iter().map(|comm| scope.spawn(move || of_rank(comm)));
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn any_number_of_ranks_comes_to_the_bits_of_the_tree() {
        // Longer than a chunk for each rank, and shorter than the number of ranks.
        for (num_ranks, num_batches, lens) in [
            (2, 8, [5000, 3]),
            (3, 8, [5000, 1]),
            (4, 4, [4097, 2]),
            (5, 7, [100, 64]),
            (8, 8, [9000, 5]),
            (4, 2, [9, 0]),
        ] {
            let expected =
                lens.map(|len| sum_of(0..num_batches, tree::num_levels(num_batches), len, &|left, right| left + right));
            for (rank, totals) in together(num_ranks, num_batches, lens, Addition::F32).into_iter().enumerate() {
                assert_eq!(totals, expected, "rank {rank} of {num_ranks}, {num_batches} batches");
            }
        }
    }

    #[test]
    fn subnormal_numbers_are_added_as_the_device_does() {
        let kept = together(2, 2, [10, 0], Addition::F32);
        let flushed = together(2, 2, [10, 0], Addition::F32Flushed);
        assert_eq!((kept[0][0][0], flushed[0][0][0]), (1e-39 + 1e-39, 0.0));
        assert_eq!(kept[0][0][1..], flushed[0][0][1..]);
        assert_eq!(Addition::F32Flushed.add_f32(-1e-40, -0.0).to_bits(), (-0.0_f32).to_bits());
    }

    #[test]
    fn an_all_reduce_leaves_the_sum_on_every_rank() {
        let of_rank = |mut comm: Threads| {
            let mut vector = leaf(comm.rank(), 700);
            let mut all_reduce = AllReduce::new(&comm, vector.len());
            all_reduce.sum(&mut comm, &mut vector).unwrap();
            vector
        };
        let vectors: Vec<Vec<f32>> = std::thread::scope(|scope| {
            let ranks: Vec<_> = Threads::group(3).into_iter().map(|comm| scope.spawn(move || of_rank(comm))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        let expected = sum_of(0..3, 2, 700, &|left, right| left + right);
        assert!(vectors.iter().all(|vector| *vector == expected));
        let mut alone = vec![1.0, 2.0];
        AllReduce::new(&super::super::Alone, 2).sum(&mut super::super::Alone, &mut alone).unwrap();
        assert_eq!(alone, [1.0, 2.0]);
    }
}
