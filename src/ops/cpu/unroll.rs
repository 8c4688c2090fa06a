//! Loops that are written out. The compiler keeps an array in registers only where every index into it is a constant,
//! and gives up on writing out loops of a few dozen products by itself.

/// `unroll!(i in 0..N, up to 8 => { … })` runs the body for `i` in `0..N`, written out, each time with a constant `i`.
/// N is a constant of at most the number that the loop is written out up to: 4, 8, 16 or 28.
macro_rules! unroll {
    ($index:ident in 0..$count:expr, up to 4 => $body:block) => {
        unroll!(@ $index, $count, 4, $body, 0 1 2 3)
    };
    ($index:ident in 0..$count:expr, up to 8 => $body:block) => {
        unroll!(@ $index, $count, 8, $body, 0 1 2 3 4 5 6 7)
    };
    ($index:ident in 0..$count:expr, up to 16 => $body:block) => {
        unroll!(@ $index, $count, 16, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($index:ident in 0..$count:expr, up to 28 => $body:block) => {
        unroll!(
            @ $index, $count, 28, $body,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
        )
    };
    (@ $index:ident, $count:expr, $most:literal, $body:block, $($at:literal)*) => {
        const { assert!($count <= $most, "more than is written out") };
        $(if $at < $count {
            let $index = $at;
            $body
        })*
    };
}

pub(crate) use unroll;
