//! How fast training by several ranks would be on a network, predicted from what one rank measures.
//!
//! A step is computing, exchanging and applying, one after the other. Each rank computes its images; an all-gather brings
//! every rank the sums of all others, in ⌈log₂ N⌉ rounds (recursive doubling; Thakur, Rabenseifner and Gropp,
//! "Optimization of Collective Communication Operations in MPICH", 2005), so that N − 1 messages pass each link; and
//! every rank merges all N sums. The last two grow with N, which is the price of the same bytes for every N: where it is
//! more than what dividing the images saves, more ranks do not pay.
//!
//! Left out: ranks that share a link or a CPU, ranks of different speed, and that a batch of few images takes longer for
//! each of them.

/// What the prediction is made from. All are positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Seconds that one rank computes for each image, forward and backward.
    pub image_seconds: f64,
    /// Seconds of the optimizer's update.
    pub update_seconds: f64,
    /// Seconds to merge one sum of all gradients with another.
    pub merge_seconds: f64,
    /// Bytes of such a sum.
    pub sum_bytes: f64,
    /// Seconds until a message of no length arrives.
    pub latency_seconds: f64,
    /// Bytes a second over each rank's link.
    pub bytes_per_second: f64,
}

/// The time of a step, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// The slowest rank's images.
    pub computing: f64,
    /// The all-gather.
    pub exchanging: f64,
    /// Merging all sums, and the update.
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
        let ranks = num_ranks as f64;
        let rounds = num_ranks.next_power_of_two().trailing_zeros();
        StepTime {
            computing: num_images.div_ceil(num_ranks) as f64 * self.image_seconds,
            exchanging: f64::from(rounds) * self.latency_seconds
                + (ranks - 1.0) * self.sum_bytes / self.bytes_per_second,
            applying: (ranks - 1.0) * self.merge_seconds + self.update_seconds,
        }
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

    const MACHINE: Machine = Machine {
        image_seconds: 1e-3,
        update_seconds: 1e-4,
        merge_seconds: 1e-4,
        sum_bytes: 1e6,
        latency_seconds: 1e-5,
        bytes_per_second: 1e9,
    };

    #[test]
    fn a_step_is_its_parts() {
        let step = MACHINE.step(64, 4);
        assert_eq!(step.computing, 16.0 * 1e-3);
        // Two rounds; three sums of a megabyte at a gigabyte a second.
        assert!((step.exchanging - (2e-5 + 3e-3)).abs() < 1e-12);
        assert!((step.applying - 4e-4).abs() < 1e-12);
        assert_eq!(MACHINE.step(64, 1).exchanging, 0.0);
        assert_eq!(MACHINE.step(65, 4).computing, 17.0 * 1e-3, "the slowest rank has one more");
    }

    #[test]
    fn more_ranks_pay_until_the_exchange_outweighs_them() {
        assert_eq!((MACHINE.speedup(64, 1), MACHINE.efficiency(64, 1)), (1.0, 1.0));
        let best = MACHINE.pays_up_to(64, 1024);
        assert!((4..=8).contains(&best), "{best}");
        assert!(MACHINE.speedup(64, 1024) < 1.0, "1,024 sums cost more than 64 images");
        let free = Machine { merge_seconds: 1e-12, latency_seconds: 1e-12, bytes_per_second: 1e18, ..MACHINE };
        assert_eq!(free.pays_up_to(1 << 20, 1024), 1024);
        assert!(free.efficiency(64, 1024) > 0.99);
        assert_eq!(free.efficient_up_to(64, 1024), 1024);
        // 64 images take 64.1 ms; the cost of N ranks is nearly 1.1 ms times N - 1.
        assert_eq!(MACHINE.efficient_up_to(64, 1024), 32);
    }
}
