// A strip of four outputs and the strip below it, for eight filters: what kernel_taps.wgsl does, twice by the same taps.
// Needs conv2d.wgsl, register_tile.wgsl, shared_rows.wgsl and row_window.wgsl.

// Adds the products of one kernel row, given the taps of this thread's filter and the values under each strip.
fn add_taps_to_pair(upper: ptr<function, RegisterTile>, lower: ptr<function, RegisterTile>, taps: array<f32, 5>, above: RowWindow, below: RowWindow, local_index: u32) {
    share(vec4<f32>(taps[0], taps[1], taps[2], taps[3]), local_index);
    let filters = shared_rows();
    add_outer_x(upper, filters, above.low);
    add_outer_x(lower, filters, below.low);
    if TAPS > 1u {
        add_outer_y(upper, filters, window_at_1(above));
        add_outer_y(lower, filters, window_at_1(below));
    }
    if TAPS > 2u {
        add_outer_z(upper, filters, window_at_2(above));
        add_outer_z(lower, filters, window_at_2(below));
    }
    if TAPS > 3u {
        add_outer_w(upper, filters, window_at_3(above));
        add_outer_w(lower, filters, window_at_3(below));
    }
    if TAPS > 4u {
        share(vec4<f32>(taps[4], 0.0, 0.0, 0.0), local_index);
        let fifth = shared_rows();
        add_outer_x(upper, fifth, above.high);
        add_outer_x(lower, fifth, below.high);
    }
}
