//! Operations between the invocations of a subgroup: as many neighbours as the subgroup is large.

use super::{Machine, WIDTH};
use crate::sanitize::code::{Binary, Combine, Gather, Reg, Scan};
use crate::sanitize::report::Kind;

impl Machine<'_> {
    fn active_lanes(&self) -> Vec<usize> {
        self.masks.lanes().collect()
    }

    /// The first invocation of a lane's subgroup, and the one past its last.
    fn subgroup(&self, lane: usize) -> std::ops::Range<usize> {
        let size = self.settings.subgroup_size as usize;
        let start = lane / size * size;
        start..(start + size).min(self.num_blocks * WIDTH)
    }

    pub(super) fn gather(&mut self, d: Reg, a: Reg, from: Gather) {
        let lanes = self.active_lanes();
        let values: Vec<u32> = (0..self.num_blocks * WIDTH).map(|lane| self.scalar(a, lane)).collect();
        for &lane in &lanes {
            let subgroup = self.subgroup(lane);
            let own = (lane - subgroup.start) as u32;
            let first =
                || lanes.iter().find(|other| subgroup.contains(other)).map_or(0, |first| first - subgroup.start);
            let source = match from {
                // A lane number is far below 4 Gi.
                Gather::First => first() as u32,
                Gather::Lane(reg) => self.scalar(reg, lane),
                Gather::Down(reg) => own.wrapping_add(self.scalar(reg, lane)),
                Gather::Up(reg) => own.wrapping_sub(self.scalar(reg, lane)),
                Gather::Xor(reg) => own ^ self.scalar(reg, lane),
                Gather::QuadLane(reg) => own & !3 | self.scalar(reg, lane) & 3,
                Gather::QuadSwap(bits) => own ^ bits,
            };
            let place = subgroup.start + source as usize;
            let is_there = subgroup.contains(&place) && self.masks.is_on(place);
            if !is_there {
                let size = self.settings.subgroup_size;
                self.report(Kind::NonUniform, lane, None, || {
                    format!("lane {source} of a subgroup of {size}, which is not active or not there")
                });
            }
            let value = if is_there { values[place] } else { u32::MAX };
            self.set_scalar(d, lane, value);
        }
    }

    pub(super) fn scan(&mut self, d: Reg, a: Reg, scan: Scan, with: Combine) {
        let lanes = self.active_lanes();
        let values: Vec<u32> = (0..self.num_blocks * WIDTH).map(|lane| self.scalar(a, lane)).collect();
        for &lane in &lanes {
            let subgroup = self.subgroup(lane);
            let takes_part = |other: &&usize| {
                subgroup.contains(other)
                    && match scan {
                        Scan::Reduce => true,
                        Scan::Inclusive => **other <= lane,
                        Scan::Exclusive => **other < lane,
                    }
            };
            let mut parts = lanes.iter().filter(takes_part).map(|&other| values[other]);
            let value = match with {
                Combine::All => u32::from(parts.all(|value| value != 0)),
                Combine::Any => u32::from(parts.any(|value| value != 0)),
                Combine::With(op, neutral) => parts.fold(neutral, |sum, value| combine(op, sum, value)),
            };
            self.set_scalar(d, lane, value);
        }
    }

    pub(super) fn ballot(&mut self, d: Reg, a: Option<Reg>) {
        let lanes = self.active_lanes();
        for &lane in &lanes {
            let subgroup = self.subgroup(lane);
            let mut words = [0u32; 4];
            for &other in lanes.iter().filter(|other| subgroup.contains(other)) {
                if a.is_none_or(|a| self.scalar(a, other) != 0) {
                    let bit = other - subgroup.start;
                    words[bit / 32] |= 1 << (bit % 32);
                }
            }
            for (d, word) in (d..).zip(words) {
                self.set_scalar(d, lane, word);
            }
        }
    }
}

fn combine(op: Binary, x: u32, y: u32) -> u32 {
    let float = |f: fn(f32, f32) -> f32| f(f32::from_bits(x), f32::from_bits(y)).to_bits();
    // Signed numbers are the same bits.
    let signed = |f: fn(i32, i32) -> i32| f(x as i32, y as i32) as u32;
    match op {
        Binary::AddF => float(|x, y| x + y),
        Binary::MulF => float(|x, y| x * y),
        Binary::MinF => float(f32::min),
        Binary::MaxF => float(f32::max),
        Binary::AddI | Binary::AddU => x.wrapping_add(y),
        Binary::MulI | Binary::MulU => x.wrapping_mul(y),
        Binary::MinI => signed(|x, y| x.min(y)),
        Binary::MaxI => signed(|x, y| x.max(y)),
        Binary::MinU => x.min(y),
        Binary::MaxU => x.max(y),
        Binary::And => x & y,
        Binary::Or => x | y,
        _ => x ^ y,
    }
}
