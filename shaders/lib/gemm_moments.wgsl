// The product of conv2d_gemm.wgsl between batch normalizations, which are spared a pass over the result.
//
//   gemm_moments  what `gemm` does, forward and without an activation, and the moments of each channel in each tile of 128 pixels
//                 (lib/tile_moments.wgsl)
//   gemm_sums     the same with TRANSPOSED = 1, through the activation between the normalization and the convolution, and what
//                 the gradient of the normalization sums (lib/tile_gradients.wgsl)
//
// Needs conv2d_gemm.wgsl, lib/tile_moments.wgsl, lib/tile_gradients.wgsl and lib/gradient_rows.wgsl.

const MEMBERS: u32 = 16u; // quads of pixels that a tile's threads begin with

fn member_of(place: Place) -> Member {
    return Member(place.tx, MEMBERS * place.ty);
}

fn num_pixels() -> u32 {
    let to = result_extents();
    return params.batch * to.height * to.width;
}

fn tile_channels(place: Place) -> TileChannels {
    // A grid folded to two dimensions can have a few workgroups too many; they have no pixels.
    let count = min(TILE_PIXELS, num_pixels() - min(place.pixel, num_pixels()));
    let num_tiles = (num_pixels() + TILE_PIXELS - 1u) / TILE_PIXELS;
    let low = place.channel + 4u * place.ty;
    return TileChannels(
        place.pixel / TILE_PIXELS, num_tiles, count, low, low + TILE_CHANNELS / 2u, result_extents().channels);
}

// ---- gemm_moments

fn with_bias(tile: RegisterTile, channels: TileChannels) -> RegisterTile {
    let low = bias4_at(channels.low);
    let high = bias4_at(channels.high);
    return RegisterTile(
        tile.row_0 + low.x, tile.row_1 + low.y, tile.row_2 + low.z, tile.row_3 + low.w,
        tile.row_4 + high.x, tile.row_5 + high.y, tile.row_6 + high.z, tile.row_7 + high.w,
    );
}

@compute @workgroup_size(THREADS)
fn gemm_moments(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(workgroup.x + workgroup.y * grid.x, lane);
    let sums = sums_of(place, 0u, num_stages(), lane);
    store_sums(place, sums);
    let channels = tile_channels(place);
    let left = with_bias(sums.left, channels);
    let right = with_bias(sums.right, channels);
    let pixels = place.pixel + place.tx + PIXEL_QUADS * vec4<u32>(0u, 1u, 2u, 3u);
    let left_inside = pixels < vec4<u32>(num_pixels());
    let right_inside = pixels + PIXEL_QUADS / 2u < vec4<u32>(num_pixels());
    let member = member_of(place);
    let own = both(sums_inside(left, left_inside), sums_inside(right, right_inside));
    let mean = divided(total(member, own), channels.count);
    let own_squares = both(
        sums_inside(squared_distances(left, mean), left_inside), sums_inside(squared_distances(right, mean), right_inside));
    let squares = total(member, own_squares);
    store_of_tile(member, channels, mean, squares, OfChannels());
}

// ---- gemm_sums

// Four pixels of a register tile, where they are in the result's first channel and in what is added to it, and the channels of
// the tile.
struct Rows {
    at: vec4<u32>,
    inside: vec4<bool>,
    added_at: vec4<u32>,
    is_added: vec4<bool>,
    low: u32,
    high: u32,
}

fn added_to(index: u32) -> AddedPlace {
    let pixel = pixel_of(index);
    return added_place(pixel.image, 0u, pixel.y, pixel.x);
}

fn rows_of(first: u32, channels: TileChannels) -> Rows {
    let to = result_extents();
    let plane = to.height * to.width;
    let index = first + PIXEL_QUADS * vec4<u32>(0u, 1u, 2u, 3u);
    let at = index / plane * (to.channels * plane) + index % plane;
    var rows = Rows(at, index < vec4<u32>(num_pixels()), vec4<u32>(), vec4<bool>(), channels.low, channels.high);
    if HAS_ADDED == 1u {
        let p_0 = added_to(index.x);
        let p_1 = added_to(index.y);
        let p_2 = added_to(index.z);
        let p_3 = added_to(index.w);
        rows.added_at = vec4<u32>(p_0.index, p_1.index, p_2.index, p_3.index);
        rows.is_added = rows.inside & vec4<bool>(p_0.is_there, p_1.is_there, p_2.is_there, p_3.is_there);
    }
    return rows;
}

fn row_channel(rows: Rows, row: u32) -> u32 {
    return row % 4u + select(rows.low, rows.high, row >= 4u);
}

fn row_pixels(rows: Rows, row: u32) -> Pixels {
    let to = result_extents();
    let channel = row_channel(rows, row);
    return pixels_at(rows.at + channel * (to.height * to.width), rows.inside & vec4<bool>(channel < to.channels));
}

fn row_added(rows: Rows, row: u32) -> vec4<f32> {
    if HAS_ADDED == 0u {
        return vec4<f32>();
    }
    let channel = row_channel(rows, row);
    let inside = rows.is_added & vec4<bool>(channel < result_extents().channels);
    let at = select(vec4<u32>(), rows.added_at + channel * added_plane(), inside);
    return select(vec4<f32>(), vec4<f32>(added[at.x], added[at.y], added[at.z], added[at.w]), inside);
}

fn store_inside(pixels: Pixels, grads: vec4<f32>) {
    if pixels.inside.x { result[pixels.at.x] = grads.x; }
    if pixels.inside.y { result[pixels.at.y] = grads.y; }
    if pixels.inside.z { result[pixels.at.z] = grads.z; }
    if pixels.inside.w { result[pixels.at.w] = grads.w; }
}

fn store_row(rows: Rows, row: u32, grads: vec4<f32>) {
    store_inside(row_pixels(rows, row), grads);
}

@compute @workgroup_size(THREADS)
fn gemm_sums(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(workgroup.x + workgroup.y * grid.x, lane);
    let sums = sums_of(place, 0u, num_stages(), lane);
    let channels = tile_channels(place);
    let center = means_of(channels);
    let at_left = rows_of(place.pixel + place.tx, channels);
    let at_right = rows_of(place.pixel + PIXEL_QUADS / 2u + place.tx, channels);
    let left = finished(at_left, sums.left, center);
    let right = finished(at_right, sums.right, center);
    let member = member_of(place);
    let grads = total(member, both(left.grads, right.grads));
    let products = total(member, both(left.products, right.products));
    store_of_tile(member, channels, grads, products, center);
}
