// The gradient of conv2d_strided.wgsl after a batch normalization, which is spared a pass over it.
//
//   strided_sums  what `strided` does, through the activation between the normalization and the convolution, and what the
//                 gradient of the normalization sums (lib/tile_gradients.wgsl) over each workgroup's tile. Tiles are counted
//                 along x, then y, image, residue
//
// Needs conv2d_strided.wgsl, lib/tile_moments.wgsl, lib/tile_gradients.wgsl and lib/gradient_rows.wgsl.

override MEMBERS: u32 = TILE_STRIPS * TILE_ROWS;

fn tile_channels(tile: Tile, lane: u32) -> TileChannels {
    let residue = residue_of(tile);
    // Of the residue, which may have none of an image's last rows.
    let rows = (params.in_h + STRIDE_H - 1u - residue) / STRIDE_H;
    let tiles_x = (params.in_w / STRIDE_W + 4u * TILE_STRIPS - 1u) / (4u * TILE_STRIPS);
    let tiles_y = ((params.in_h + STRIDE_H - 1u) / STRIDE_H + TILE_ROWS - 1u) / TILE_ROWS;
    let num_tiles = STRIDE_H * params.batch * tiles_y * tiles_x;
    let index = ((residue * params.batch + tile.image) * tiles_y + tile.y / TILE_ROWS) * tiles_x + tile.x / (4u * TILE_STRIPS);
    let low = tile.group * group_in() + tile.channel + PART * place_of(lane).part;
    return TileChannels(
        // A grid folded to two dimensions can have a few workgroups too many.
        select(num_tiles, index, tile.first_row < STRIDE_H),
        num_tiles,
        min(TILE_ROWS, rows - min(tile.y, rows)) * min(4u * TILE_STRIPS * STRIDE_W, params.in_w - tile.x * STRIDE_W),
        low,
        low + 4u,
        (tile.group + 1u) * group_in(),
    );
}

// A strip's first four pixels, or the next.
struct Rows {
    strip: Strip,
    x: u32,
}

fn row_pixels(rows: Rows, row: u32) -> Pixels {
    let is_there = (row < rows.strip.channels) & (rows.x < params.in_w);
    return pixels_at(row_of(rows.strip, row) + rows.x + vec4<u32>(0u, 1u, 2u, 3u), vec4<bool>(is_there));
}

fn row_added(rows: Rows, row: u32) -> vec4<f32> {
    if HAS_ADDED == 0u {
        return vec4<f32>();
    }
    return added4_at(rows.strip, row, rows.x);
}

fn first_fours(a: RegisterTile, b: RegisterTile) -> RegisterTile {
    return RegisterTile(
        first_four(a.row_0, b.row_0), first_four(a.row_1, b.row_1), first_four(a.row_2, b.row_2), first_four(a.row_3, b.row_3),
        first_four(a.row_4, b.row_4), first_four(a.row_5, b.row_5), first_four(a.row_6, b.row_6), first_four(a.row_7, b.row_7));
}

fn next_fours(a: RegisterTile, b: RegisterTile) -> RegisterTile {
    return RegisterTile(
        next_four(a.row_0, b.row_0), next_four(a.row_1, b.row_1), next_four(a.row_2, b.row_2), next_four(a.row_3, b.row_3),
        next_four(a.row_4, b.row_4), next_four(a.row_5, b.row_5), next_four(a.row_6, b.row_6), next_four(a.row_7, b.row_7));
}

fn store_row(rows: Rows, row: u32, grads: vec4<f32>) {
    if row < rows.strip.channels && rows.x < params.in_w {
        grad_input[(row_of(rows.strip, row) + rows.x) / 4u] = grads;
    }
}

@compute @workgroup_size(THREADS)
fn strided_sums(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_position(workgroup.x + workgroup.y * grid.x);
    let sums = tile_sums(tile, lane);
    let strip = strip_of(tile, lane);
    let channels = tile_channels(tile, lane);
    let center = means_of(channels);
    let at_first = Rows(strip, strip.x);
    let at_next = Rows(strip, strip.x + 4u);
    let first = finished(at_first, first_fours(sums.a, sums.b), center);
    let next = finished(at_next, next_fours(sums.a, sums.b), center);
    let member = Member(lane % MEMBERS, lane - lane % MEMBERS);
    let grads = total(member, both(first.grads, next.grads));
    let products = total(member, both(first.products, next.products));
    store_of_tile(member, channels, grads, products, center);
}
