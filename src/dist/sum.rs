//! Sums over ranks in the tree of [`optim::tree`](crate::optim::tree), which are the same bytes on any number of ranks.
//!
//! A vector is cut into as many slices as there are ranks. Each rank receives what the others have of its slice, adds it up in
//! the tree's order, and sends the sum to all (reduce-scatter and all-gather; Rabenseifner, "Optimization of Collective
//! Reduction Operations", ICCS 2004). So each sends and receives about twice the vector, however many they are, where
//! sending everything to everyone would take it once for each rank, and adds up 1/N of it.
//!
//! Several vectors, *buckets*, may be on their way at a time; they take their steps on their own, as messages arrive.

use std::ops::Range;

use super::addition::{Addend, Addition};
use super::{Bytes, Comm, Message, Region, Transfer};
use crate::Result;
use crate::exec::Lent;
use crate::exec::exchange::Final;
use crate::optim::tree::{self, Node};

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
    /// This rank's nodes but the last, one after the other, and what comes from others.
    parts: Bytes,
    /// This rank's last node, where it is not sent from where it lies.
    last: Bytes,
    /// The sum of all batches, or where it goes; `None` while it is on its way.
    total: Option<Region>,
    is_done: bool,
}

/// The memory of a bucket's first transfer: [`Bucket::parts`], and the last node.
const PARTS: usize = 0;
const LAST: usize = 1;

impl TreeSum {
    /// The transfers' tags are `first_tag` and as many as there are buckets, twice.
    pub fn new(
        comm: &dyn Comm,
        addition: Addition,
        bucket_bytes: impl Iterator<Item = usize>,
        first_tag: u16,
    ) -> TreeSum {
        let bucket = |num_bytes| Bucket {
            num_bytes,
            parts: Bytes::default(),
            last: Bytes::default(),
            total: None,
            is_done: false,
        };
        let buckets = bucket_bytes.map(bucket).collect();
        TreeSum { rank: comm.rank(), num_ranks: comm.size(), addition, num_batches: 0, buckets, first_tag }
    }

    /// Begins a step of so many batches. The sum of a bucket goes where `place` says, if anywhere.
    pub fn begin(&mut self, num_batches: usize, mut place: impl FnMut(usize) -> Option<Lent>) {
        self.num_batches = num_batches;
        for (index, bucket) in self.buckets.iter_mut().enumerate() {
            bucket.parts.clear();
            bucket.is_done = false;
            let own = match bucket.total.take() {
                Some(Region::Own(bytes)) => bytes,
                _ => Bytes::default(),
            };
            bucket.total = Some(place(index).map_or(Region::Own(own), Region::Lent));
        }
    }

    /// The nodes of the tree that a rank gives, in their order.
    pub fn nodes(&self, rank: usize) -> Vec<Node> {
        tree::nodes(tree::share(self.num_batches, rank, self.num_ranks), self.num_batches)
    }

    /// Takes this rank's next node of a bucket, unless it is the last.
    pub fn add_node(&mut self, bucket: usize, bytes: &[u8]) {
        self.buckets[bucket].parts.extend(bytes);
    }

    /// Sends off a bucket, with this rank's last node if it has any. The others are there.
    pub fn send(&mut self, comm: &mut dyn Comm, bucket: usize, last: Option<Final<'_>>) -> Result<()> {
        let last = match last {
            Some(Final::Lent(lent)) => Region::Lent(lent),
            copied => {
                let mut own = std::mem::take(&mut self.buckets[bucket].last);
                own.clear();
                if let Some(Final::Copied(bytes)) = copied {
                    own.extend(bytes);
                }
                Region::Own(own)
            }
        };
        self.send_from(comm, bucket, last)
    }

    /// The same, with the last node in memory that comes back with the transfer.
    pub fn send_from(&mut self, comm: &mut dyn Comm, bucket: usize, last: Region) -> Result<()> {
        let addends = self.addends(bucket);
        let from = addends.iter().filter(|addend| addend.rank != self.rank && !addend.bytes.is_empty());
        let from = from.map(Addend::message).collect();
        let in_parts = addends.iter().filter(|addend| addend.region == PARTS);
        let end = in_parts.map(|addend| addend.bytes.end).max().unwrap_or(0);
        let mut parts = std::mem::take(&mut self.buckets[bucket].parts);
        parts.resize(end.max(parts.len()));
        let memory = vec![Region::Own(parts), last];
        comm.start(Transfer { tag: self.tag(bucket), memory, to: self.sent(bucket), from })
    }

    /// This rank's last node of a bucket, where it is sent from memory of its own.
    pub fn last(&mut self, bucket: usize) -> &mut Bytes {
        &mut self.buckets[bucket].last
    }

    /// The tag of a bucket's first transfer; that of the second comes after it.
    fn tag(&self, bucket: usize) -> u16 {
        self.first_tag + 2 * u16::try_from(bucket).expect("there are no more buckets than tags")
    }

    /// Takes a transfer that is complete, if it is one of its own, and makes the next step.
    pub fn take(&mut self, comm: &mut dyn Comm, mut transfer: Transfer) -> Result<()> {
        let index = usize::from(transfer.tag - self.first_tag);
        let (bucket, is_total) = (index / 2, index % 2 == 1);
        if is_total {
            (self.buckets[bucket].total, self.buckets[bucket].is_done) = (transfer.memory.pop(), true);
            return Ok(());
        }
        let num_bytes = self.buckets[bucket].num_bytes;
        let mut total = self.buckets[bucket].total.take().expect("the sum's place was given as the step began");
        if let Region::Own(bytes) = &mut total {
            bytes.resize(num_bytes);
        }
        let own = self.slice(num_bytes, self.rank);
        self.addition.add_up(&self.addends(bucket), &transfer.memory, &mut total[own.clone()]);
        // What was lent is given back.
        if let Some(Region::Own(last)) = transfer.memory.pop() {
            self.buckets[bucket].last = last;
        }
        if let Some(Region::Own(parts)) = transfer.memory.pop() {
            self.buckets[bucket].parts = parts;
        }
        let with_others = |bytes: &dyn Fn(usize) -> Range<usize>| {
            let all = self.others().map(|rank| Message { rank, region: 0, bytes: bytes(rank) });
            all.filter(|message| !message.bytes.is_empty()).collect()
        };
        comm.start(Transfer {
            tag: transfer.tag + 1,
            memory: vec![total],
            to: with_others(&|_| own.clone()),
            from: with_others(&|other| self.slice(num_bytes, other)),
        })
    }

    /// Whether all sums are there.
    pub fn is_done(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.is_done)
    }

    /// The sum of a bucket, once all are there; `None` where it went to its place, which is given back.
    pub fn total(&mut self, bucket: usize) -> Option<&[u8]> {
        let total = &mut self.buckets[bucket].total;
        if let Some(Region::Lent(_)) = total {
            *total = None;
        }
        total.as_deref()
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

    /// The memory of a bucket in which one of this rank's `num_own` nodes lies, and where it begins there.
    fn own_place(num_bytes: usize, index: usize, num_own: usize) -> (usize, usize) {
        if index + 1 == num_own { (LAST, 0) } else { (PARTS, index * num_bytes) }
    }

    /// Where this rank's slice of every node lies, in the order in which they are added, and whose it is.
    fn addends(&self, bucket: usize) -> Vec<Addend> {
        let num_bytes = self.buckets[bucket].num_bytes;
        let (slice, root) = (self.slice(num_bytes, self.rank), Node::root(self.num_batches));
        let num_own = self.nodes(self.rank).len();
        let mut received = num_own.saturating_sub(1) * num_bytes;
        let mut addends = Vec::new();
        for rank in 0..self.num_ranks {
            for (index, node) in self.nodes(rank).into_iter().enumerate() {
                let (region, start) = if rank == self.rank {
                    let (region, start) = TreeSum::own_place(num_bytes, index, num_own);
                    (region, start + slice.start)
                } else {
                    received += slice.len();
                    (PARTS, received - slice.len())
                };
                let climb = node.climb(root, self.num_batches);
                addends.push(Addend { rank, climb, region, bytes: start..start + slice.len() });
            }
        }
        addends
    }

    /// What of this rank's nodes the others add up.
    fn sent(&self, bucket: usize) -> Vec<Message> {
        let (num_bytes, num_own) = (self.buckets[bucket].num_bytes, self.nodes(self.rank).len());
        let mut sent = Vec::new();
        for rank in self.others() {
            let slice = self.slice(num_bytes, rank);
            for index in (0..num_own).filter(|_| !slice.is_empty()) {
                let (region, start) = TreeSum::own_place(num_bytes, index, num_own);
                sent.push(Message { rank, region, bytes: start + slice.start..start + slice.end });
            }
        }
        sent
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
                sums.begin(num_batches, |_| None);
                let order = if comm.rank().is_multiple_of(2) { [0, 1] } else { [1, 0] };
                for bucket in order {
                    let of_node = |node: &Node| sum_of(node.batches(num_batches), node.level, lens[bucket], &plain);
                    let nodes: Vec<Vec<f32>> = sums.nodes(comm.rank()).iter().map(of_node).collect();
                    let last = nodes.last().map(|last| Final::Copied(bytemuck::cast_slice(last)));
                    let earlier = &nodes[..nodes.len().saturating_sub(1)];
                    earlier.iter().for_each(|sum| sums.add_node(bucket, bytemuck::cast_slice(sum)));
                    sums.send(&mut comm, bucket, last).unwrap();
                }
                while !sums.is_done() {
                    let transfer = comm.wait().unwrap().unwrap();
                    sums.take(&mut comm, transfer).unwrap();
                }
                totals = (0..2).map(|bucket| bytemuck::pod_collect_to_vec(sums.total(bucket).unwrap())).collect();
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
}
