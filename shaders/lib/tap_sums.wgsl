// The sums of a convolution's gradient by the weight that a thread keeps: those of one kernel row, for eight output channels.
// Needs conv2d.wgsl, register_tile.wgsl, shared_rows.wgsl and row_window.wgsl.

// A thread's sums for the fifth tap, if there is one; a RegisterTile holds those of the other four.
struct FifthTap {
    low: vec4<f32>,  // channels 0 to 3
    high: vec4<f32>, // channels 4 to 7
}

// The inputs under the taps at each of four positions.
struct Positions {
    p_0: vec4<f32>,
    p_1: vec4<f32>,
    p_2: vec4<f32>,
    p_3: vec4<f32>,
    fifth: vec4<f32>, // under the fifth tap, if there is one
}

// Adds four positions to the sums of one channel, position after position: sums that all are added to in turn stay in
// registers.
fn add_positions(sums: vec4<f32>, grads: vec4<f32>, at: Positions) -> vec4<f32> {
    return sums + grads.x * at.p_0 + grads.y * at.p_1 + grads.z * at.p_2 + grads.w * at.p_3;
}

fn add_fifth(sum: f32, grads: vec4<f32>, at: Positions) -> f32 {
    if TAPS > 4u {
        return sum + dot(grads, at.fifth);
    }
    return sum;
}

// Adds four positions, given the shared grad_output.
fn add_strip(tile: ptr<function, RegisterTile>, fifth_sums: ptr<function, FifthTap>, at: Positions) {
    let grads = shared_rows();
    (*tile).row_0 = add_positions((*tile).row_0, grads.r_0, at);
    (*fifth_sums).low.x = add_fifth((*fifth_sums).low.x, grads.r_0, at);
    if REAL_ROWS > 1u {
        (*tile).row_1 = add_positions((*tile).row_1, grads.r_1, at);
        (*fifth_sums).low.y = add_fifth((*fifth_sums).low.y, grads.r_1, at);
    }
    if REAL_ROWS > 2u {
        (*tile).row_2 = add_positions((*tile).row_2, grads.r_2, at);
        (*fifth_sums).low.z = add_fifth((*fifth_sums).low.z, grads.r_2, at);
    }
    if REAL_ROWS > 3u {
        (*tile).row_3 = add_positions((*tile).row_3, grads.r_3, at);
        (*fifth_sums).low.w = add_fifth((*fifth_sums).low.w, grads.r_3, at);
    }
    if REAL_ROWS > 4u {
        (*tile).row_4 = add_positions((*tile).row_4, grads.r_4, at);
        (*fifth_sums).high.x = add_fifth((*fifth_sums).high.x, grads.r_4, at);
    }
    if REAL_ROWS > 5u {
        (*tile).row_5 = add_positions((*tile).row_5, grads.r_5, at);
        (*fifth_sums).high.y = add_fifth((*fifth_sums).high.y, grads.r_5, at);
    }
    if REAL_ROWS > 6u {
        (*tile).row_6 = add_positions((*tile).row_6, grads.r_6, at);
        (*fifth_sums).high.z = add_fifth((*fifth_sums).high.z, grads.r_6, at);
    }
    if REAL_ROWS > 7u {
        (*tile).row_7 = add_positions((*tile).row_7, grads.r_7, at);
        (*fifth_sums).high.w = add_fifth((*fifth_sums).high.w, grads.r_7, at);
    }
}

fn window_positions(window: RowWindow) -> Positions {
    return Positions(window.low, window_at_1(window), window_at_2(window), window_at_3(window), window.high);
}
