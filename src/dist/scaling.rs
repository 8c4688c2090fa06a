//! How fast training by several ranks would be on a network, predicted from what one rank measures.
//!
//! Each rank computes its images. Its sums of gradients go off bucket by bucket as its last batch completes them, one after
//! the other over its link: slices to the ranks that add them up, and the sums from there to all ([`AllReduce`]), so that
//! 2·(N − 1)/N of a bucket passes each link, and it takes two messages one after the other. What has not arrived when the
//! last batch ends is waited for. Every rank merges its slice of N sums, and makes the update.
//!
//! A rank sends and receives 2·(N − 1) messages for each bucket, and each keeps its CPU busy for the overhead o of the model
//! LogGP (Alexandrov et al., "LogGP: Incorporating Long Messages into the LogP Model", SPAA 1995), which nothing hides. It is
//! what limits small networks on many ranks, and large ones do not notice.
//!
//! Left out: ranks that share a link or a CPU, ranks of different speed, and that a batch of few images takes longer for
//! each of them.
//!
//! [`AllReduce`]: crate::dist::AllReduce

/// What the prediction is made from. All are positive.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Seconds that one rank computes for each image, forward and backward.
    pub image_seconds: f64,
    /// The most images in a batch.
    pub batch_images: usize,
    /// Seconds of the optimizer's update.
    pub update_seconds: f64,
    /// Seconds to merge one sum of all gradients with another.
    pub merge_seconds: f64,
    /// What is exchanged, in the order in which it is complete.
    pub buckets: Vec<Bucket>,
    /// Seconds until a message of no length arrives.
    pub latency_seconds: f64,
    /// Seconds for which a message keeps the CPU of the rank busy that sends it, and as long that of the one that receives it.
    pub overhead_seconds: f64,
    /// Bytes a second over each rank's link.
    pub bytes_per_second: f64,
}

/// Gradients that are exchanged together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Their length.
    pub bytes: f64,
    /// Seconds for each image of the batch that are left to compute when they are complete.
    pub seconds_left: f64,
}

/// The time of a step, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// The slowest rank's images.
    pub computing: f64,
    /// What exchanging adds to that.
    pub exchanging: f64,
    /// Merging the slices of all sums, and the update.
    pub applying: f64,
}

impl StepTime {
    /// The whole step.
    pub fn total(&self) -> f64 {
        self.computing + self.exchanging + self.applying
    }
}

impl Machine {
    /// A step of `num_images` images on `num_ranks` ranks, at least 1.
    pub fn step(&self, num_images: usize, num_ranks: usize) -> StepTime {
        let (others, images) = (num_ranks as f64 - 1.0, num_images.div_ceil(num_ranks));
        StepTime {
            computing: images as f64 * self.image_seconds,
            exchanging: if num_ranks == 1 { 0.0 } else { self.exchange(images.min(self.batch_images), others) },
            applying: others / (others + 1.0) * self.merge_seconds + self.update_seconds,
        }
    }

    /// The bytes of all gradients.
    pub fn sum_bytes(&self) -> f64 {
        self.buckets.iter().map(|bucket| bucket.bytes).sum()
    }

    /// What the exchange with so many others adds to a step whose last batch has so many images.
    fn exchange(&self, images: usize, others: f64) -> f64 {
        let (mut link_free, mut arrived) = (f64::NEG_INFINITY, 0.0_f64);
        // Times are counted from the end of the last batch.
        for bucket in &self.buckets {
            let complete = -bucket.seconds_left * images as f64;
            link_free = link_free.max(complete) + 2.0 * others / (others + 1.0) * bucket.bytes / self.bytes_per_second;
            arrived = arrived.max(link_free + 2.0 * self.latency_seconds);
        }
        // Sent and received, of slices and of sums.
        let messages = 4.0 * others * self.buckets.len() as f64;
        arrived + messages * self.overhead_seconds
    }

    /// How many times as fast a step of `num_images` images is on `num_ranks` ranks as on one (strong scaling).
    pub fn speedup(&self, num_images: usize, num_ranks: usize) -> f64 {
        self.step(num_images, 1).total() / self.step(num_images, num_ranks).total()
    }

    /// The share of its speed that a rank with `images_per_rank` images keeps among `num_ranks` (weak scaling).
    pub fn efficiency(&self, images_per_rank: usize, num_ranks: usize) -> f64 {
        self.step(images_per_rank, 1).total() / self.step(images_per_rank * num_ranks, num_ranks).total()
    }

    /// The number of ranks, a power of two up to `most`, beyond which twice as many make a step less than 1.2 times as
    /// fast.
    pub fn pays_up_to(&self, num_images: usize, most: usize) -> usize {
        let gains = |ranks: &usize| self.speedup(num_images, 2 * ranks) >= 1.2 * self.speedup(num_images, *ranks);
        let mut ranks = 1;
        while 2 * ranks <= most && gains(&ranks) {
            ranks *= 2;
        }
        ranks
    }

    /// The number of ranks, a power of two up to `most`, up to which each keeps at least half its speed when every rank
    /// brings `images_per_rank` images of its own.
    pub fn efficient_up_to(&self, images_per_rank: usize, most: usize) -> usize {
        let mut ranks = 1;
        while 2 * ranks <= most && self.efficiency(images_per_rank, 2 * ranks) >= 0.5 {
            ranks *= 2;
        }
        ranks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            image_seconds: 1e-3,
            batch_images: 8,
            update_seconds: 1e-4,
            merge_seconds: 1e-4,
            // Complete 4 ms before the end of a batch of eight, and at its end.
            buckets: vec![Bucket { bytes: 8e5, seconds_left: 5e-4 }, Bucket { bytes: 2e5, seconds_left: 0.0 }],
            latency_seconds: 1e-5,
            overhead_seconds: 1e-6,
            bytes_per_second: 1e9,
        }
    }

    #[test]
    fn a_step_is_its_parts() {
        let step = machine().step(64, 4);
        assert_eq!(step.computing, 16.0 * 1e-3);
        // The first bucket arrives meanwhile. 3/4 of the second pass the link twice in 0.3 ms, after two latencies; 24
        // messages go and come.
        assert!((step.exchanging - (3e-4 + 2e-5 + 24e-6)).abs() < 1e-12, "{step:?}");
        assert!((step.applying - (0.75e-4 + 1e-4)).abs() < 1e-12);
        assert_eq!(machine().step(64, 1), StepTime { computing: 64.0 * 1e-3, exchanging: 0.0, applying: 1e-4 });
        assert_eq!(machine().step(65, 4).computing, 17.0 * 1e-3, "the slowest rank has one more");
    }

    #[test]
    fn what_a_slow_network_does_not_move_meanwhile_is_waited_for() {
        let slow = Machine { bytes_per_second: 1e8, ..machine() };
        // On two ranks as many bytes pass each link as there are gradients: 8 ms from 4 ms before the end on, then 2 ms.
        let step = slow.step(64, 2);
        assert!((step.exchanging - (6e-3 + 2e-5 + 8e-6)).abs() < 1e-12, "{step:?}");
        // A last batch of two images leaves 1 ms.
        let step = slow.step(4, 2);
        assert!((step.exchanging - (9e-3 + 2e-5 + 8e-6)).abs() < 1e-12, "{step:?}");
    }

    #[test]
    fn more_ranks_pay_until_the_exchange_outweighs_them() {
        let machine = machine();
        assert_eq!((machine.speedup(64, 1), machine.efficiency(64, 1)), (1.0, 1.0));
        let best = machine.pays_up_to(64, 1024);
        assert!((16..=32).contains(&best), "{best}");
        assert!(machine.speedup(64, 1024) < machine.speedup(64, 64), "thousands of messages cost more than one image");
        let free = Machine {
            merge_seconds: 1e-12,
            latency_seconds: 1e-12,
            overhead_seconds: 1e-12,
            bytes_per_second: 1e18,
            ..machine.clone()
        };
        assert_eq!(free.pays_up_to(1 << 20, 1024), 1024);
        assert!(free.efficiency(64, 1024) > 0.99);
        assert_eq!(free.efficient_up_to(64, 1024), 1024);
        // 64 images take 64.1 ms; N ranks add 0.5 ms, and 8 µs each.
        assert!(machine.efficiency(64, 1024) > 0.85 && machine.efficiency(64, 1024) < 0.9);
        // A network of 2 MB/s takes a second.
        let slow = Machine { bytes_per_second: 2e6, ..machine };
        assert_eq!(slow.efficient_up_to(64, 1024), 1);
    }
}
