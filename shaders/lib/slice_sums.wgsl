// The sum of what slices of a batch give to a convolution's gradient by the weight. Needs conv2d_grad_weight.wgsl.

override EIGHTS_AHEAD: u32 = 1u; // at most 4

// Sum `index` of slice `slice`, weights first. Past the last slice it is that one's, which is not added.
fn partial_at(slice: u32, index: u32) -> f32 {
    return finished_partials[min(slice, num_slices() - 1u) * (num_weights() + params.out_channels) + index];
}

// Sums of eight slices from `slice` on.
struct EightSums {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn eight_partials(slice: u32, index: u32) -> EightSums {
    return EightSums(
        vec4<f32>(
            partial_at(slice, index), partial_at(slice + 1u, index), partial_at(slice + 2u, index), partial_at(slice + 3u, index)),
        vec4<f32>(
            partial_at(slice + 4u, index), partial_at(slice + 5u, index), partial_at(slice + 6u, index),
            partial_at(slice + 7u, index)),
    );
}

// Adds those of them that are of slices.
fn add_eight_sums(sum: f32, eight: EightSums, slice: u32) -> f32 {
    return add_four_sums(add_four_sums(sum, eight.low, slice), eight.high, slice + 4u);
}

fn add_four_sums(sum: f32, four: vec4<f32>, slice: u32) -> f32 {
    let slices = num_slices();
    var result = sum;
    result = select(result, result + four.x, slice < slices);
    result = select(result, result + four.y, slice + 1u < slices);
    result = select(result, result + four.z, slice + 2u < slices);
    return select(result, result + four.w, slice + 3u < slices);
}

// The sum of all slices, in order; eight are on their way at a time, or on a real GPU 32.
fn sum_at(index: u32) -> f32 {
    let slices = num_slices();
    var sum = 0.0;
    for (var slice = 0u; slice < slices; slice += 8u * EIGHTS_AHEAD) {
        let e_0 = eight_partials(slice, index);
        var e_1 = EightSums();
        var e_2 = EightSums();
        var e_3 = EightSums();
        if EIGHTS_AHEAD > 1u && slice + 8u < slices { e_1 = eight_partials(slice + 8u, index); }
        if EIGHTS_AHEAD > 2u && slice + 16u < slices { e_2 = eight_partials(slice + 16u, index); }
        if EIGHTS_AHEAD > 3u && slice + 24u < slices { e_3 = eight_partials(slice + 24u, index); }
        sum = add_eight_sums(sum, e_0, slice);
        if EIGHTS_AHEAD > 1u { sum = add_eight_sums(sum, e_1, slice + 8u); }
        if EIGHTS_AHEAD > 2u { sum = add_eight_sums(sum, e_2, slice + 16u); }
        if EIGHTS_AHEAD > 3u { sum = add_eight_sums(sum, e_3, slice + 24u); }
    }
    return sum;
}
