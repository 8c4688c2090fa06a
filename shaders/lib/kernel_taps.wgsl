// The products of one kernel row with the values under it, for a strip of four outputs and eight filters, of which each
// of eight neighbouring threads brings one. Needs conv2d.wgsl, register_tile.wgsl and shared_rows.wgsl.

// Adds the products of TAPS taps, given the taps of this thread's filter and the values under each tap.
fn add_taps(tile: ptr<function, RegisterTile>, taps: array<f32, 5>, v_0: vec4<f32>, v_1: vec4<f32>, v_2: vec4<f32>, v_3: vec4<f32>, v_4: vec4<f32>, local_index: u32) {
    share(vec4<f32>(taps[0], taps[1], taps[2], taps[3]), local_index);
    let filters = shared_rows();
    add_outer_x(tile, filters, v_0);
    if TAPS > 1u { add_outer_y(tile, filters, v_1); }
    if TAPS > 2u { add_outer_z(tile, filters, v_2); }
    if TAPS > 3u { add_outer_w(tile, filters, v_3); }
    if TAPS > 4u {
        share(vec4<f32>(taps[4], 0.0, 0.0, 0.0), local_index);
        add_outer_x(tile, shared_rows(), v_4);
    }
}
