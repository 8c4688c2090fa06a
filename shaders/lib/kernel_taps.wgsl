// The products of one kernel row with the values under it, for strips of four outputs and eight filters, of which each of
// eight neighbouring threads brings one. Needs conv2d.wgsl, register_tile.wgsl, shared_rows.wgsl and row_window.wgsl.

// One kernel row of all eight filters.
struct SharedTaps {
    rows: SharedRows,  // taps 0 to 3
    fifth: SharedRows, // tap 4 in x
}

fn share_taps(taps: array<f32, 5>, local_index: u32) -> SharedTaps {
    share(vec4<f32>(taps[0], taps[1], taps[2], taps[3]), local_index);
    var all = SharedTaps(shared_rows(), SharedRows());
    if TAPS > 4u {
        share(vec4<f32>(taps[4], 0.0, 0.0, 0.0), local_index);
        all.fifth = shared_rows();
    }
    return all;
}

// The values under each tap.
struct Under {
    v_0: vec4<f32>,
    v_1: vec4<f32>,
    v_2: vec4<f32>,
    v_3: vec4<f32>,
    v_4: vec4<f32>,
}

fn under_window(window: RowWindow) -> Under {
    return Under(window.low, window_at_1(window), window_at_2(window), window_at_3(window), window.high);
}

// The products of one filter, tap after tap: sums that all taps are added to in turn stay in registers.
fn add_filter(sums: vec4<f32>, taps: vec4<f32>, fifth: f32, under: Under) -> vec4<f32> {
    var result = sums + taps.x * under.v_0;
    if TAPS > 1u { result += taps.y * under.v_1; }
    if TAPS > 2u { result += taps.z * under.v_2; }
    if TAPS > 3u { result += taps.w * under.v_3; }
    if TAPS > 4u { result += fifth * under.v_4; }
    return result;
}

// Adds the products of TAPS taps to a strip.
fn add_taps(tile: ptr<function, RegisterTile>, taps: SharedTaps, under: Under) {
    (*tile).row_0 = add_filter((*tile).row_0, taps.rows.r_0, taps.fifth.r_0.x, under);
    if REAL_ROWS > 1u { (*tile).row_1 = add_filter((*tile).row_1, taps.rows.r_1, taps.fifth.r_1.x, under); }
    if REAL_ROWS > 2u { (*tile).row_2 = add_filter((*tile).row_2, taps.rows.r_2, taps.fifth.r_2.x, under); }
    if REAL_ROWS > 3u { (*tile).row_3 = add_filter((*tile).row_3, taps.rows.r_3, taps.fifth.r_3.x, under); }
    if REAL_ROWS > 4u { (*tile).row_4 = add_filter((*tile).row_4, taps.rows.r_4, taps.fifth.r_4.x, under); }
    if REAL_ROWS > 5u { (*tile).row_5 = add_filter((*tile).row_5, taps.rows.r_5, taps.fifth.r_5.x, under); }
    if REAL_ROWS > 6u { (*tile).row_6 = add_filter((*tile).row_6, taps.rows.r_6, taps.fifth.r_6.x, under); }
    if REAL_ROWS > 7u { (*tile).row_7 = add_filter((*tile).row_7, taps.rows.r_7, taps.fifth.r_7.x, under); }
}
