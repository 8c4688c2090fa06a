//! The sum of one vector over ranks.

use super::addition::Addition;
use super::sum::TreeSum;
use super::{Comm, Region};
use crate::Result;

/// The sum of a vector of every rank, in a fixed binary tree: the same bytes on all ranks and in every call, whatever the
/// library, its algorithms and the network. (`MPI_Allreduce` takes an order of its own.)
pub struct AllReduce {
    sums: TreeSum,
}

impl AllReduce {
    /// For vectors of `len` elements.
    pub fn new(comm: &dyn Comm, len: usize) -> AllReduce {
        let num_bytes = len * size_of::<f32>();
        let mut sums = TreeSum::new(comm, Addition::F32, [num_bytes].into_iter(), 1);
        sums.last(0).resize(num_bytes);
        AllReduce { sums }
    }

    /// This rank's vector, zeros at first: to be filled before [`AllReduce::sum`], which leaves it as it is.
    pub fn vector(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.sums.last(0))
    }

    /// The sum of every rank's vector. Collective, and no other transfer may be on its way.
    ///
    /// # Errors
    /// As [`Comm::all_gather`].
    pub fn sum(&mut self, comm: &mut dyn Comm) -> Result<&[f32]> {
        if comm.size() == 1 {
            return Ok(self.vector());
        }
        self.sums.begin(comm.size(), |_| None);
        let vector = std::mem::take(self.sums.last(0));
        self.sums.send_from(comm, 0, Region::Own(vector))?;
        while !self.sums.is_done() {
            let transfer = comm.wait()?.expect("the sum is on its way");
            self.sums.take(comm, transfer)?;
        }
        Ok(bytemuck::cast_slice(self.sums.total(0).expect("its place is its own")))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails its test")]
mod tests {
    use super::super::{Alone, Threads};
    use super::*;

    #[test]
    fn an_all_reduce_leaves_the_sum_on_every_rank() {
        // Sums that depend on their order.
        let of_rank_alone = |rank: usize| {
            (0..700).map(|index| [0.1, 7.3, 1e5][(rank + index) % 3] * index as f32).collect::<Vec<f32>>()
        };
        let of_rank = |mut comm: Threads| {
            let vector = of_rank_alone(comm.rank());
            let mut all_reduce = AllReduce::new(&comm, vector.len());
            all_reduce.vector().copy_from_slice(&vector);
            let first = all_reduce.sum(&mut comm).unwrap().to_vec();
            assert_eq!(all_reduce.vector(), vector, "what is summed stays");
            assert_eq!(all_reduce.sum(&mut comm).unwrap(), first, "once more");
            first
        };
        let vectors: Vec<Vec<f32>> = std::thread::scope(|scope| {
            let ranks: Vec<_> = Threads::group(3).into_iter().map(|comm| scope.spawn(move || of_rank(comm))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        let [first, second, third]: [Vec<f32>; 3] = [0, 1, 2].map(of_rank_alone);
        let expected: Vec<f32> = (0..700).map(|index| (first[index] + second[index]) + third[index]).collect();
        assert!(vectors.iter().all(|vector| *vector == expected));
        let mut alone = AllReduce::new(&Alone, 2);
        alone.vector().copy_from_slice(&[1.0, 2.0]);
        assert_eq!(alone.sum(&mut Alone).unwrap(), [1.0, 2.0]);
    }
}
