// The largest of the four cells of a 2x2 window, in row-major order. Needs nan.wgsl.

// The index of the largest of four values: the first of equal ones, or the last NaN. Selected instead of branched around,
// and `&` and `|`, since `&&` and `||` are branches: software adapters compute both sides of each.
fn largest(values: vec4<f32>) -> u32 {
    let is_y = is_nan(values.y) | ((values.y > values.x) & !is_nan(values.x));
    let best_y = select(values.x, values.y, is_y);
    let is_z = is_nan(values.z) | ((values.z > best_y) & !is_nan(best_y));
    let best_z = select(best_y, values.z, is_z);
    let is_w = is_nan(values.w) | ((values.w > best_z) & !is_nan(best_z));
    return select(select(select(0u, 1u, is_y), 2u, is_z), 3u, is_w);
}

fn pick(values: vec4<f32>, place: u32) -> f32 {
    return select(select(values.x, values.y, place == 1u), select(values.z, values.w, place == 3u), place >= 2u);
}
