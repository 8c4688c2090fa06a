// Random words from a counter: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), the same bits as `src/rng.rs`.

const PHILOX_MULTIPLIER_0: u32 = 0xD2511F53;
const PHILOX_MULTIPLIER_1: u32 = 0xCD9E8D57;
const PHILOX_WEYL: vec2<u32> = vec2<u32>(0x9E3779B9, 0xBB67AE85);
const PHILOX_NUM_ROUNDS: u32 = 10;
// The fourth word of a counter says what is drawn: those of `Domain` in `src/rng.rs` that shaders draw.
const DROPOUT_DOMAIN: u32 = 0;
const AUGMENTATION_DOMAIN: u32 = 3;
const HALF_WORD_BITS: u32 = 16;
const HALF_WORD_MASK: u32 = 0xFFFF;

// The upper word of a product of two words, which WGSL has no function for: schoolbook with halves.
fn mul_high(a: u32, b: u32) -> u32 {
    let a_low = a & HALF_WORD_MASK;
    let a_high = a >> HALF_WORD_BITS;
    let b_low = b & HALF_WORD_MASK;
    let b_high = b >> HALF_WORD_BITS;
    let low = a_low * b_low;
    // At most (2^16 - 1)^2 + 2^16 - 1, so neither sum overflows.
    let middle = a_high * b_low + (low >> HALF_WORD_BITS);
    let carry = a_low * b_high + (middle & HALF_WORD_MASK);
    return a_high * b_high + (middle >> HALF_WORD_BITS) + (carry >> HALF_WORD_BITS);
}

// Four random words for a counter under a key.
fn philox4x32(start: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var counter = start;
    var key = seed;
    for (var round = 0u; round < PHILOX_NUM_ROUNDS; round += 1u) {
        let high_0 = mul_high(PHILOX_MULTIPLIER_0, counter.x);
        let high_1 = mul_high(PHILOX_MULTIPLIER_1, counter.z);
        counter = vec4<u32>(
            high_1 ^ counter.y ^ key.x,
            PHILOX_MULTIPLIER_1 * counter.z,
            high_0 ^ counter.w ^ key.y,
            PHILOX_MULTIPLIER_0 * counter.x,
        );
        key += PHILOX_WEYL;
    }
    return counter;
}
