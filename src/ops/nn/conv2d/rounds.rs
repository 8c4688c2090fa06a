//! How many channels a kernel has in workgroup memory at a time, of those that copy chunks of them by `shaders/lib/rounds.wgsl`.

/// What the kernel has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// vec4s of workgroup memory.
    pub quads: usize,
    /// Those of the next chunk that a thread holds, of the patch and of what it is multiplied by.
    pub rounds: [usize; 2],
    /// The same of both together, where chunks of so many would be more than `chunks`. The kernel has variables for
    /// [`MAX_ROUNDS`] of each.
    pub held: usize,
    pub chunks: usize,
}

/// Quads of each kind that `lib/rounds.wgsl` has variables for.
const MAX_ROUNDS: usize = 12;

impl Room {
    /// The channels of a chunk, of which each has so many quads of either kind; a thread waits for loads once a chunk.
    pub fn chunk(&self, quads: [usize; 2], threads: usize, channels: usize) -> Option<usize> {
        let most = channels.min(self.quads / (quads[0] + quads[1]));
        let rounds = |chunk: usize| quads.map(|quads| (chunk * quads).div_ceil(threads));
        let fits = |&chunk: &usize| rounds(chunk).into_iter().zip(self.rounds).all(|(round, most)| round <= most);
        let is_held = |&chunk: &usize| {
            let [patch, factors] = rounds(chunk);
            patch.max(factors) <= MAX_ROUNDS && patch + factors <= self.held
        };
        let plain = (1..=most).rev().find(fits)?;
        // No more than are needed.
        let wanted = channels.div_ceil(self.chunks).min(most);
        Some((plain + 1..=wanted).rev().find(is_held).unwrap_or(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_larger_where_a_thread_would_wait_too_often() {
        let room = Room { quads: 1024, rounds: [8, 12], held: 16, chunks: 8 };
        // 16 rows of four strips for eight channels under a 3×3 kernel: 90 quads of the patch, 18 of filters.
        for (channels, chunk) in [(3, 3), (16, 5), (40, 5), (41, 6), (64, 8), (128, 8)] {
            assert_eq!(room.chunk([90, 18], 64, channels), Some(chunk), "{channels} channels");
        }
        // Nothing fits.
        assert_eq!(room.chunk([1000, 200], 64, 4), None);
        assert_eq!(room.chunk([600, 18], 64, 4), None);
    }
}
