// 2-D convolution with bias and activation, and its gradient with respect to the input, on real GPUs, with what they are
// computed from in workgroup memory: lib/conv2d_staged.wgsl.
//
//   staged         the result's width is a multiple of 4
//   staged_ragged  any width
//
// Needs lib/staged_stores.wgsl and lib/activation.wgsl.

fn added_at(strip: Tile, row: u32, column: u32) -> f32 {
    let place = added_place(strip.image, strip.channel + row, strip.y, strip.x + column);
    return select(0.0, added[place.index], place.is_there);
}

fn finished(strip: Tile, row: u32, sums: vec4<f32>) -> vec4<f32> {
    var values = sums;
    if HAS_ADDED == 1u {
        values += vec4<f32>(
            added_at(strip, row, 0u), added_at(strip, row, 1u), added_at(strip, row, 2u), added_at(strip, row, 3u));
    }
    return activate4(values);
}

@compute @workgroup_size(THREADS)
fn staged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane, bias_at(tile, lane));
    store_quads(strip_of(tile, lane), with_bias(tile, lane, sums));
}

@compute @workgroup_size(THREADS)
fn staged_ragged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane, bias_at(tile, lane));
    store_ragged(strip_of(tile, lane), with_bias(tile, lane, sums));
}
