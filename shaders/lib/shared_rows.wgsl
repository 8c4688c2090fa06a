// Outer products whose column comes from the eight neighbours: each has shared a vec4 that belongs to its row of the
// tile. Needs register_tile.wgsl and one of share_subgroup.wgsl, share_workgroup.wgsl.

struct SharedRows {
    r_0: vec4<f32>,
    r_1: vec4<f32>,
    r_2: vec4<f32>,
    r_3: vec4<f32>,
    r_4: vec4<f32>,
    r_5: vec4<f32>,
    r_6: vec4<f32>,
    r_7: vec4<f32>,
}

fn shared_rows() -> SharedRows {
    return SharedRows(
        shared_from(0u), shared_from(1u), shared_from(2u), shared_from(3u),
        shared_from(4u), shared_from(5u), shared_from(6u), shared_from(7u),
    );
}

fn add_outer_x(tile: ptr<function, RegisterTile>, s: SharedRows, row: vec4<f32>) {
    add_outer(tile, vec4<f32>(s.r_0.x, s.r_1.x, s.r_2.x, s.r_3.x), vec4<f32>(s.r_4.x, s.r_5.x, s.r_6.x, s.r_7.x), row);
}

fn add_outer_y(tile: ptr<function, RegisterTile>, s: SharedRows, row: vec4<f32>) {
    add_outer(tile, vec4<f32>(s.r_0.y, s.r_1.y, s.r_2.y, s.r_3.y), vec4<f32>(s.r_4.y, s.r_5.y, s.r_6.y, s.r_7.y), row);
}

fn add_outer_z(tile: ptr<function, RegisterTile>, s: SharedRows, row: vec4<f32>) {
    add_outer(tile, vec4<f32>(s.r_0.z, s.r_1.z, s.r_2.z, s.r_3.z), vec4<f32>(s.r_4.z, s.r_5.z, s.r_6.z, s.r_7.z), row);
}

fn add_outer_w(tile: ptr<function, RegisterTile>, s: SharedRows, row: vec4<f32>) {
    add_outer(tile, vec4<f32>(s.r_0.w, s.r_1.w, s.r_2.w, s.r_3.w), vec4<f32>(s.r_4.w, s.r_5.w, s.r_6.w, s.r_7.w), row);
}
