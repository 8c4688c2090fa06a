use super::*;
use crate::ops::cpu::isa;
use pulp::WithSimd;

struct Transpose<'a>(&'a mut [[f32; TILE]; TILE]);
impl WithSimd for Transpose<'_> {
    type Output = ();
    fn with_simd<S: Simd>(self, simd: S) {
        transpose_tile(simd, self.0);
    }
}

struct Few([[f32; TILE]; FEW]);
impl WithSimd for Few {
    type Output = [[f32; FEW]; TILE];
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        few_to_last(simd, &self.0)
    }
}

struct FewBack([[f32; FEW]; TILE]);
impl WithSimd for FewBack {
    type Output = [[f32; TILE]; FEW];
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        few_to_first(simd, &self.0)
    }
}

struct ChannelsLast<'a>(&'a [f32], usize, &'a mut [f32]);
impl WithSimd for ChannelsLast<'_> {
    type Output = ();
    fn with_simd<S: Simd>(self, simd: S) {
        channels_last(simd, self.0, self.1, self.2);
    }
}

struct ChannelsFirst<'a>([usize; 2], &'a [f32], &'a mut [f32]);
impl WithSimd for ChannelsFirst<'_> {
    type Output = ();
    fn with_simd<S: Simd>(self, simd: S) {
        channels_first(simd, self.0, self.1, (self.2, self.0[1]));
    }
}

#[test]
fn tiles_and_ragged_ends_are_transposed() {
    let mut tile: [[f32; TILE]; TILE] = std::array::from_fn(|i| std::array::from_fn(|j| (i * TILE + j) as f32));
    let before = tile;
    isa::dispatch(Transpose(&mut tile));
    assert!((0..TILE * TILE).all(|at| tile[at / TILE][at % TILE] == before[at % TILE][at / TILE]));
    let few: [[f32; TILE]; FEW] = std::array::from_fn(|i| std::array::from_fn(|j| (i * TILE + j) as f32));
    let last = isa::dispatch(Few(few));
    assert!((0..TILE * FEW).all(|at| last[at % TILE][at / TILE] == few[at / TILE][at % TILE]));
    assert_eq!(isa::dispatch(FewBack(last)), few);
    let lanes = isa::lanes();
    for (channels, pixels) in [(1, 37), (lanes, 16), (lanes, 29), (lanes.min(3), 10), (1, 3)] {
        let planes: Vec<f32> = (0..channels * pixels).map(|i| i as f32 + 1.0).collect();
        let mut to = vec![-1.0; pixels * lanes];
        isa::dispatch(ChannelsLast(&planes, pixels, &mut to));
        for (at, &value) in to.iter().enumerate() {
            let (pixel, channel) = (at / lanes, at % lanes);
            let want = if channel < channels { planes[channel * pixels + pixel] } else { 0.0 };
            assert_eq!(value, want, "{channels} {pixels} {lanes} {at}");
        }
        let mut back = vec![-1.0; planes.len()];
        isa::dispatch(ChannelsFirst([channels, pixels], &to, &mut back));
        assert_eq!(back, planes, "{channels} {pixels}");
    }
}

struct EverySecond<'a>(usize, &'a mut dyn FnMut(usize, &[f32; TILE]));
impl WithSimd for EverySecond<'_> {
    type Output = ();
    fn with_simd<S: Simd>(self, simd: S) {
        let row: [f32; PAIRS] = std::array::from_fn(|i| i as f32);
        every_second(simd, &row, self.0, self.1);
    }
}

struct EverySecondOfFour<'a>(usize, &'a mut dyn FnMut(usize, &[f32; TILE]));
impl WithSimd for EverySecondOfFour<'_> {
    type Output = ();
    fn with_simd<S: Simd>(self, simd: S) {
        let rows: [[f32; TILE]; 4] = std::array::from_fn(|row| std::array::from_fn(|i| (100 * row + i) as f32));
        every_second_of_four(simd, rows.each_ref(), self.0, self.1);
    }
}

struct StoreInTurn<'a>(&'a mut [f32]);
impl WithSimd for StoreInTurn<'_> {
    type Output = ();
    fn with_simd<S: Simd>(self, simd: S) {
        let (even, odd): ([f32; TILE], [f32; TILE]) =
            (std::array::from_fn(|i| 2.0 * i as f32), std::array::from_fn(|i| 2.0 * i as f32 + 1.0));
        store_in_turn(simd, [S::as_simd_f32s(&even).0[0], S::as_simd_f32s(&odd).0[0]], self.0);
    }
}

#[test]
fn elements_are_taken_and_stored_in_turn() {
    const COUNT: usize = 10;
    let mut num_rows = 0;
    isa::dispatch(EverySecond(COUNT, &mut |first, elems| {
        let want = (first..PAIRS).step_by(2).map(|at| at as f32);
        assert!(want.zip(elems).all(|(want, &elem)| want == elem), "{first}: {elems:?}");
        num_rows += 1;
    }));
    isa::dispatch(EverySecondOfFour(COUNT, &mut |first, elems| {
        let want = |at: usize| (100 * (at / 4) + first + 2 * (at % 4)) as f32;
        assert!(elems.iter().enumerate().all(|(at, &elem)| want(at) == elem), "{first}: {elems:?}");
        num_rows += 1;
    }));
    assert_eq!(num_rows, 2 * COUNT);
    let mut to = vec![-1.0; 2 * isa::lanes()];
    isa::dispatch(StoreInTurn(&mut to));
    assert!(to.iter().enumerate().all(|(at, &value)| value == at as f32), "{to:?}");
}
