// How the kernels of conv2d_staged.wgsl and conv2d_staged_moments.wgsl store a strip's eight channels: four pixels at a time, or
// where rows end within a strip one by one.
//
// Needs lib/conv2d_staged.wgsl, and what becomes of a channel's sums as they are stored:
//
//   fn finished(strip: Tile, row: u32, sums: vec4<f32>) -> vec4<f32>

fn store_quad(strip: Tile, row: u32, sums: vec4<f32>) {
    if is_there(strip, row) {
        result[pixel_of(strip, row) / 4u] = finished(strip, row, sums);
    }
}

fn store_quads(strip: Tile, sums: RegisterTile) {
    store_quad(strip, 0u, sums.row_0);
    store_quad(strip, 1u, sums.row_1);
    store_quad(strip, 2u, sums.row_2);
    store_quad(strip, 3u, sums.row_3);
    store_quad(strip, 4u, sums.row_4);
    store_quad(strip, 5u, sums.row_5);
    store_quad(strip, 6u, sums.row_6);
    store_quad(strip, 7u, sums.row_7);
}

fn store_pixels(strip: Tile, row: u32, sums: vec4<f32>) {
    if is_there(strip, row) {
        let values = finished(strip, row, sums);
        let at = pixel_of(strip, row);
        let width = result_extents().width;
        result_pixels[at] = values.x;
        if strip.x + 1u < width { result_pixels[at + 1u] = values.y; }
        if strip.x + 2u < width { result_pixels[at + 2u] = values.z; }
        if strip.x + 3u < width { result_pixels[at + 3u] = values.w; }
    }
}

fn store_ragged(strip: Tile, sums: RegisterTile) {
    store_pixels(strip, 0u, sums.row_0);
    store_pixels(strip, 1u, sums.row_1);
    store_pixels(strip, 2u, sums.row_2);
    store_pixels(strip, 3u, sums.row_3);
    store_pixels(strip, 4u, sums.row_4);
    store_pixels(strip, 5u, sums.row_5);
    store_pixels(strip, 6u, sums.row_6);
    store_pixels(strip, 7u, sums.row_7);
}
