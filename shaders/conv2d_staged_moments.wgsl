// The same as conv2d_staged.wgsl between batch normalizations, which are spared a pass over the result: the convolution, without
// an activation, stores the moments of each channel in each workgroup's tile (lib/tile_moments.wgsl), and the gradient by the
// input what the gradient of the normalization before it sums (lib/tile_gradients.wgsl). Tiles are counted along x, then y, image.
//
//   convolution, convolution_ragged  the result's width is a multiple of 4, or any
//   gradient, gradient_ragged        the same; through the activation between the normalization and the convolution
//
// Needs lib/staged_stores.wgsl, lib/tile_moments.wgsl and lib/tile_gradients.wgsl.

override MEMBERS: u32 = TILE_STRIPS * TILE_ROWS;

// Nothing more: what is added to a gradient is in front of the activation, and the moments are of what is stored.
fn finished(strip: Tile, row: u32, values: vec4<f32>) -> vec4<f32> {
    return values;
}

fn member_of(lane: u32) -> Member {
    return Member(lane % MEMBERS, lane - lane % MEMBERS);
}

fn pixels_inside(strip: Tile) -> vec4<bool> {
    let extents = result_extents();
    return (strip.x + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(extents.width)) & vec4<bool>(strip.y < extents.height);
}

fn tile_channels(tile: Tile, strip: Tile) -> TileChannels {
    let extents = result_extents();
    let tiles_x = ((extents.width + 3u) / 4u + TILE_STRIPS - 1u) / TILE_STRIPS;
    let tiles_y = (extents.height + TILE_ROWS - 1u) / TILE_ROWS;
    return TileChannels(
        (tile.image * tiles_y + tile.y / TILE_ROWS) * tiles_x + tile.x / (4u * TILE_STRIPS),
        params.batch * tiles_y * tiles_x,
        min(TILE_ROWS, extents.height - tile.y) * min(4u * TILE_STRIPS, extents.width - tile.x),
        strip.channel,
        strip.channel + 4u,
        strip.end,
    );
}

// ---- the convolution

// Called by all threads.
fn keep_moments(tile: Tile, strip: Tile, lane: u32, values: RegisterTile) {
    let member = member_of(lane);
    let inside = pixels_inside(strip);
    let channels = tile_channels(tile, strip);
    let mean = divided(total(member, sums_inside(values, inside)), channels.count);
    let squares = total(member, sums_inside(squared_distances(values, mean), inside));
    store_of_tile(member, channels, mean, squares, OfChannels());
}

@compute @workgroup_size(THREADS)
fn convolution(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane, bias_at(tile, lane));
    let strip = strip_of(tile, lane);
    let values = with_bias(tile, lane, sums);
    store_quads(strip, values);
    keep_moments(tile, strip, lane, values);
}

@compute @workgroup_size(THREADS)
fn convolution_ragged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane, bias_at(tile, lane));
    let strip = strip_of(tile, lane);
    let values = with_bias(tile, lane, sums);
    store_ragged(strip, values);
    keep_moments(tile, strip, lane, values);
}

// ---- the gradient

fn added_inside(strip: Tile, row: u32, column: u32) -> f32 {
    let place = added_place(strip.image, strip.channel + row, strip.y, strip.x + column);
    let is_inside = place.is_there & is_there(strip, row);
    return select(0.0, added[select(0u, place.index, is_inside)], is_inside);
}

fn added_quad(strip: Tile, row: u32) -> vec4<f32> {
    if HAS_ADDED == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(
        added_inside(strip, row, 0u), added_inside(strip, row, 1u), added_inside(strip, row, 2u), added_inside(strip, row, 3u));
}

fn strip_pixels(strip: Tile, row: u32) -> Pixels {
    let inside = pixels_inside(strip) & vec4<bool>(is_there(strip, row));
    return pixels_at(pixel_of(strip, row) + vec4<u32>(0u, 1u, 2u, 3u), inside);
}

fn through_row(strip: Tile, row: u32, sums: vec4<f32>) -> vec4<f32> {
    return through(strip_pixels(strip, row), sums + added_quad(strip, row));
}

fn through_tile(strip: Tile, sums: RegisterTile) -> RegisterTile {
    return RegisterTile(
        through_row(strip, 0u, sums.row_0), through_row(strip, 1u, sums.row_1),
        through_row(strip, 2u, sums.row_2), through_row(strip, 3u, sums.row_3),
        through_row(strip, 4u, sums.row_4), through_row(strip, 5u, sums.row_5),
        through_row(strip, 6u, sums.row_6), through_row(strip, 7u, sums.row_7),
    );
}

fn products_tile(strip: Tile, grads: RegisterTile, center: OfChannels) -> RegisterTile {
    return RegisterTile(
        products_at(strip_pixels(strip, 0u), grads.row_0, center.low.x),
        products_at(strip_pixels(strip, 1u), grads.row_1, center.low.y),
        products_at(strip_pixels(strip, 2u), grads.row_2, center.low.z),
        products_at(strip_pixels(strip, 3u), grads.row_3, center.low.w),
        products_at(strip_pixels(strip, 4u), grads.row_4, center.high.x),
        products_at(strip_pixels(strip, 5u), grads.row_5, center.high.y),
        products_at(strip_pixels(strip, 6u), grads.row_6, center.high.z),
        products_at(strip_pixels(strip, 7u), grads.row_7, center.high.w),
    );
}

// Called by all threads.
fn keep_sums(tile: Tile, strip: Tile, lane: u32, grads: RegisterTile) {
    let member = member_of(lane);
    let everywhere = vec4<bool>(true);
    let channels = tile_channels(tile, strip);
    let center = means_of(channels);
    // What is loaded is on its way before the first barrier.
    let own_products = sums_inside(products_tile(strip, grads, center), everywhere);
    let sums = total(member, sums_inside(grads, everywhere));
    let products = total(member, own_products);
    store_of_tile(member, channels, sums, products, center);
}

@compute @workgroup_size(THREADS)
fn gradient(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane, 0.0);
    let strip = strip_of(tile, lane);
    let grads = through_tile(strip, sums);
    store_quads(strip, grads);
    keep_sums(tile, strip, lane, grads);
}

@compute @workgroup_size(THREADS)
fn gradient_ragged(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane, 0.0);
    let strip = strip_of(tile, lane);
    let grads = through_tile(strip, sums);
    store_ragged(strip, grads);
    keep_sums(tile, strip, lane, grads);
}
