// How a convolution's gradient by its input finishes a register tile for the gradient of the batch normalization before it: goes
// through the activation, stores, and sums. Two rows at a time: the loads of all would take too many registers.
//
// Needs lib/tile_gradients.wgsl, a type Rows of four pixels in a thread's eight channels, and for row `row` of its tile:
//
//   fn row_pixels(rows: Rows, row: u32) -> Pixels
//   fn row_added(rows: Rows, row: u32) -> vec4<f32>  what else is added to the gradient, 0 where there is no pixel
//   fn store_row(rows: Rows, row: u32, grads: vec4<f32>)

// What a register tile has of the sums.
struct TileSums {
    grads: OfChannels,
    products: OfChannels,
}

fn sum4(row: vec4<f32>) -> f32 {
    return row.x + row.y + row.z + row.w;
}

fn through_row(rows: Rows, row: u32, sums: vec4<f32>) -> vec4<f32> {
    return through(row_pixels(rows, row), sums + row_added(rows, row));
}

// Two rows: their sums, then those of products.
fn finished_two(rows: Rows, row: u32, sums_0: vec4<f32>, sums_1: vec4<f32>, center: vec2<f32>) -> vec4<f32> {
    let g_0 = through_row(rows, row, sums_0);
    let g_1 = through_row(rows, row + 1u, sums_1);
    let p_0 = products_at(row_pixels(rows, row), g_0, center.x);
    let p_1 = products_at(row_pixels(rows, row + 1u), g_1, center.y);
    store_row(rows, row, g_0);
    store_row(rows, row + 1u, g_1);
    return vec4<f32>(sum4(g_0), sum4(g_1), sum4(p_0), sum4(p_1));
}

fn finished(rows: Rows, sums: RegisterTile, center: OfChannels) -> TileSums {
    let a = finished_two(rows, 0u, sums.row_0, sums.row_1, center.low.xy);
    let b = finished_two(rows, 2u, sums.row_2, sums.row_3, center.low.zw);
    let c = finished_two(rows, 4u, sums.row_4, sums.row_5, center.high.xy);
    let d = finished_two(rows, 6u, sums.row_6, sums.row_7, center.high.zw);
    return TileSums(
        OfChannels(vec4<f32>(a.xy, b.xy), vec4<f32>(c.xy, d.xy)), OfChannels(vec4<f32>(a.zw, b.zw), vec4<f32>(c.zw, d.zw)));
}
