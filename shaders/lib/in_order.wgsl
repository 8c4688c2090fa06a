// Four values taken into a result one after the other, as a loop would. Needs lib/nan.wgsl.

fn larger_of_four(largest: f32, x: vec4<f32>) -> f32 {
    return larger(larger(larger(larger(largest, x.x), x.y), x.z), x.w);
}

// Adds the first `count` of them.
fn add_four(sum: f32, terms: vec4<f32>, count: u32) -> f32 {
    var result = sum;
    result = select(result, result + terms.x, count > 0u);
    result = select(result, result + terms.y, count > 1u);
    result = select(result, result + terms.z, count > 2u);
    return select(result, result + terms.w, count > 3u);
}
