//! Buckets: consecutive parameters whose gradients go on together, to be summed over batches and exchanged among ranks.
//!
//! The backward pass reaches the last layers first, so the bucket of the last parameters is complete first, and can be on
//! its way while the rest is computed. PyTorch's DistributedDataParallel calls its own the same (Li et al., "PyTorch
//! Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020). Buckets follow from the sizes of
//! parameters alone, so they are the same on every rank, whatever its device.

/// f32 elements that a bucket has at least, but for the first: at 1 Gb/s they take 1.6 ms, many times as long as a message
/// of no length, so that buckets add little to the time of an exchange. LeNet-5 is one bucket, and the last to be complete
/// of ResNet-20's is a tenth of them all.
const LEAST_ELEMS: usize = 48 << 10;

/// The most buckets, which also bounds what an exchange of a large network waits for.
const MOST_BUCKETS: usize = 1024;

/// The bucket of each parameter, given their numbers of elements in the order of the network. Buckets are counted in the
/// same order.
pub(crate) fn buckets(sizes: &[usize]) -> Vec<usize> {
    let least = LEAST_ELEMS.max(sizes.iter().sum::<usize>().div_ceil(MOST_BUCKETS));
    let (mut from_end, mut bucket, mut filled) = (Vec::new(), 0, 0);
    for size in sizes.iter().rev() {
        if filled >= least {
            (bucket, filled) = (bucket + 1, 0);
        }
        filled += size;
        from_end.push(bucket);
    }
    from_end.iter().rev().map(|index| bucket - index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_filled_from_the_end() {
        assert!(buckets(&[]).is_empty());
        assert_eq!(buckets(&[150, 6, 2400, 16, 30720, 120, 10080, 84, 840, 10]), [0; 10], "LeNet-5 is one");
        let half = LEAST_ELEMS / 2;
        assert_eq!(buckets(&[1, half, half, half, half, half]), [0, 0, 1, 1, 2, 2], "the first has what is left");
        assert_eq!(buckets(&[7, 10 * half, 3, 10 * half]), [0, 1, 1, 2], "a large parameter ends its bucket");
        let many = buckets(&vec![LEAST_ELEMS; 100 * MOST_BUCKETS]);
        assert_eq!((many[0], many[many.len() - 1]), (0, MOST_BUCKETS - 1));
    }
}
