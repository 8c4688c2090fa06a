//! Random numbers from a counter: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011). A number is a pure function of key and counter, so the CPU and the shader in
//! `shaders/lib/philox.wgsl` draw the same bits in any order, and a backward pass draws a mask again instead of
//! keeping it.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const NUM_ROUNDS: usize = 10;

/// What numbers are drawn for: the fourth word of the counter, so that no two uses under one seed share a number. The
/// shaders' constants in `shaders/lib/philox.wgsl` are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Domain {
    /// Which elements dropout keeps, by block of four elements, layer and step.
    Dropout = 0,
    /// A [`Stream`], by block and purpose.
    Stream = 1,
    /// The order of an epoch's images, by epoch.
    EpochOrder = 2,
    /// How an image is augmented, by row, block and step.
    Augmentation = 3,
    /// A number that belongs to a name and an index: [`uniform`].
    Indexed = 4,
}

/// Four random words for a counter of three words in a domain, under a key.
#[inline(always)]
pub fn random_words(counter: [u32; 3], domain: Domain, key: [u32; 2]) -> [u32; 4] {
    let [a, b, c] = counter;
    philox4x32([a, b, c, domain as u32], key)
}

/// Four random words for a counter under a key.
#[inline(always)]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..NUM_ROUNDS {
        let [low0, high0] = wide_mul(MULTIPLIERS[0], counter[0]);
        let [low1, high1] = wide_mul(MULTIPLIERS[1], counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// [`random_words`] for counters that follow each other in their first word, from `counter` on: the words of each. A loop
/// over lanes, which becomes one over vectors: each word of the blocks is stored by itself before they are put together.
#[inline(always)]
pub(crate) fn random_blocks<const N: usize>(counter: [u32; 3], domain: Domain, key: [u32; 2]) -> [[u32; 4]; N] {
    let [first, second, third] = counter;
    let mut words = [[0; N]; 4];
    for lane in 0..N {
        // There are a few lanes.
        let block = random_words([first.wrapping_add(lane as u32), second, third], domain, key);
        words.iter_mut().zip(block).for_each(|(words, word)| words[lane] = word);
    }
    let mut blocks = [[0; 4]; N];
    for (lane, block) in blocks.iter_mut().enumerate() {
        block.iter_mut().zip(&words).for_each(|(word, words)| *word = words[lane]);
    }
    blocks
}

/// A key from a seed: its low and its high word.
#[inline(always)]
pub fn key(seed: u64) -> [u32; 2] {
    // The two halves of the word, so neither cast loses a bit that the other does not keep.
    [seed as u32, (seed >> 32) as u32]
}

/// A float in [0, 1) from a random word: its upper 24 bits, which f32 holds exactly.
#[inline]
pub fn unit_f32(word: u32) -> f32 {
    // 24 bits fit f32's mantissa.
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A double in [0, 1) from two random words: 27 and 26 of their bits.
fn unit_f64(high: u32, low: u32) -> f64 {
    // 53 bits fit f64's mantissa.
    ((u64::from(high >> 5) << 26) | u64::from(low >> 6)) as f64 / (1u64 << 53) as f64
}

/// The double in [0, 1) that belongs to a seed, a name and an index, whatever else is drawn and in whichever order.
pub fn uniform(seed: u64, name: &str, index: u64) -> f64 {
    let [low, high] = key(index);
    let words = random_words([low, high, fnv1a(name)], Domain::Indexed, key(seed));
    unit_f64(words[0], words[1])
}

/// A stream of numbers under one key, for host-side uses: initial weights, permutations, searches.
pub struct Stream {
    key: [u32; 2],
    purpose: u32,
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of a seed for one purpose; streams of different purposes share no counters.
    pub fn new(seed: u64, purpose: u32) -> Self {
        Stream { key: key(seed), purpose, block: 0, words: [0; 4], used: 4 }
    }

    /// The stream of a seed for a name, such as a parameter's.
    pub fn named(seed: u64, name: &str) -> Self {
        Stream::new(seed, fnv1a(name))
    }

    /// The next word.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let [low, high] = key(self.block);
            self.words = random_words([low, high, self.purpose], Domain::Stream, self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// A double in [0, 1) with 53 random bits.
    pub fn next_f64(&mut self) -> f64 {
        let high = self.next_u32();
        unit_f64(high, self.next_u32())
    }

    /// An integer in `0..bound`, without the bias of a plain remainder (Lemire, "Fast random integer generation in an
    /// interval", 2019).
    pub fn next_below(&mut self, bound: u32) -> u32 {
        let threshold = bound.wrapping_neg() % bound.max(1);
        loop {
            let [low, high] = wide_mul(self.next_u32(), bound);
            if low >= threshold {
                return high;
            }
        }
    }

    /// A standard normal number (Box and Muller, 1958).
    pub fn next_normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.next_f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.next_f64()).cos()
    }

    /// A uniformly random order of `0..len` (Fisher and Yates).
    pub fn permutation(&mut self, len: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..len).collect();
        for last in (1..order.len()).rev() {
            // `last` is below `len`, a u32.
            order.swap(last, self.next_below(last as u32 + 1) as usize);
        }
        order
    }
}

#[inline(always)]
fn wide_mul(a: u32, b: u32) -> [u32; 2] {
    key(u64::from(a) * u64::from(b))
}

/// The 32-bit FNV-1a hash of a name.
fn fnv1a(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_known_answers_of_random123() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn blocks_side_by_side_are_those_one_by_one() {
        let blocks = random_blocks::<5>([u32::MAX - 2, 3, 4], Domain::Augmentation, [6, 7]);
        for (lane, block) in (0..).zip(blocks) {
            let counter = [(u32::MAX - 2).wrapping_add(lane), 3, 4];
            assert_eq!(block, random_words(counter, Domain::Augmentation, [6, 7]));
        }
    }

    #[test]
    fn permutation_holds_each_index_once_and_is_shuffled() {
        let mut order = Stream::new(7, 0).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn an_indexed_number_has_its_mean_and_belongs_to_seed_name_and_index() {
        let n = 100_000;
        let mean = (0..n).map(|index| uniform(3, "lr", index)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
        let (number, others) =
            (uniform(3, "lr", 7), [uniform(4, "lr", 7), uniform(3, "momentum", 7), uniform(3, "lr", 8)]);
        assert_eq!(number, uniform(3, "lr", 7));
        assert!(!others.contains(&number), "{number} among {others:?}");
    }

    #[test]
    fn uniform_and_normal_numbers_have_their_moments() {
        let mut stream = Stream::new(1, 2);
        let n = 100_000;
        let uniform: f64 = (0..n).map(|_| stream.next_f64()).sum::<f64>() / f64::from(n);
        assert!((uniform - 0.5).abs() < 0.005, "mean {uniform}");
        let normals: Vec<f64> = (0..n).map(|_| stream.next_normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "mean {mean}, variance {variance}");
    }
}
