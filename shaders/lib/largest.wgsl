// The largest of the four cells of a 2x2 window, in row-major order. Needs nan.wgsl.

// The index of the largest of four values: the first of equal ones, or the last NaN.
fn largest(values: vec4<f32>) -> u32 {
    var best = values.x;
    var place = 0u;
    if is_nan(values.y) || (values.y > best && !is_nan(best)) {
        best = values.y;
        place = 1u;
    }
    if is_nan(values.z) || (values.z > best && !is_nan(best)) {
        best = values.z;
        place = 2u;
    }
    if is_nan(values.w) || (values.w > best && !is_nan(best)) {
        place = 3u;
    }
    return place;
}

fn pick(values: vec4<f32>, place: u32) -> f32 {
    return select(select(values.x, values.y, place == 1u), select(values.z, values.w, place == 3u), place >= 2u);
}
