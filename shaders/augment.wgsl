// Random changes to images: y[n, c, i, j] = x[n, c, s(i, j)], where s undoes a shift, a rotation about the middle, a
// flip and a crop, as drawn for image n. Words of Philox at counter (n, 0, step, DOMAIN)
// say crop_y, crop_x, flip and angle, at (n, 1, step, DOMAIN) the shifts, so that CPU and GPU draw the same.
//
//   x, y  (N, C, H, W)
//   step  one word, a new one in every step
//
// One invocation computes a row of one channel.
//
//   shift   crop and flip alone: pixels are copied
//   sample  rotation and shift too: s lies between pixels, which are interpolated linearly in both directions; beyond
//           the border lies the fill, or the nearest pixel

struct Params {
    num_rows: u32,
    channels: u32,
    height: u32,
    width: u32,
    key_0: u32,
    key_1: u32,
    crop_padding: u32,
    flip_below: u32,
    flip_always: u32,
    use_edge: u32,
    max_radians: f32,
    max_shift: f32,
    fill_0: f32,
    fill_1: f32,
    fill_2: f32,
    fill_3: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<uniform> step: u32;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override WG: u32 = 64;

// A word's upper 24 bits, which f32 holds exactly, as a number in [0, 1).
const UNUSED_BITS: u32 = 8;
const UNIT: f32 = 1.0 / 16777216.0;

struct Row {
    image: u32,
    channel: u32,
    row: i32,
    // Of the first element of the plane in x.
    plane: u32,
    // Of the first element of the row in y.
    first: u32,
}

fn row_of(index: u32) -> Row {
    let plane = index / params.height;
    var place: Row;
    place.image = plane / params.channels;
    place.channel = plane % params.channels;
    place.row = i32(index % params.height);
    place.plane = plane * params.height * params.width;
    place.first = index * params.width;
    return place;
}

fn words_of(image: u32, block: u32) -> vec4<u32> {
    return philox4x32(vec4<u32>(image, block, step, AUGMENTATION_DOMAIN), vec2<u32>(params.key_0, params.key_1));
}

// Uniform in −padding to padding.
fn crop_of(word: u32) -> i32 {
    return i32(mul_high(word, 2u * params.crop_padding + 1u)) - i32(params.crop_padding);
}

fn flips(word: u32) -> bool {
    return params.flip_always == 1u || word < params.flip_below;
}

// Uniform in [−1, 1).
fn symmetric(word: u32) -> f32 {
    return 2.0 * (f32(word >> UNUSED_BITS) * UNIT) - 1.0;
}

fn fill_of(channel: u32) -> f32 {
    if channel == 0u {
        return params.fill_0;
    }
    if channel == 1u {
        return params.fill_1;
    }
    if channel == 2u {
        return params.fill_2;
    }
    return params.fill_3;
}

fn pixel(place: Row, row: i32, column: i32) -> f32 {
    let last_row = i32(params.height) - 1;
    let last_column = i32(params.width) - 1;
    let held_row = clamp(row, 0, last_row);
    let held_column = clamp(column, 0, last_column);
    let value = x[place.plane + u32(held_row) * params.width + u32(held_column)];
    let is_outside = held_row != row || held_column != column;
    return select(value, fill_of(place.channel), is_outside && params.use_edge == 0u);
}

// Sine and cosine of an angle within ±π: Taylor series of a quarter of it, where their rests are below 2e-9, and two
// doublings. WGSL's own may be off by 2^-11.
const SIN_3: f32 = -1.0 / 6.0;
const SIN_5: f32 = 1.0 / 120.0;
const SIN_7: f32 = -1.0 / 5040.0;
const SIN_9: f32 = 1.0 / 362880.0;
const COS_2: f32 = -1.0 / 2.0;
const COS_4: f32 = 1.0 / 24.0;
const COS_6: f32 = -1.0 / 720.0;
const COS_8: f32 = 1.0 / 40320.0;
const COS_10: f32 = -1.0 / 3628800.0;
const QUARTER: f32 = 0.25;

fn sin_cos(radians: f32) -> vec2<f32> {
    let a = radians * QUARTER;
    let q = a * a;
    let sine = a + a * (q * (SIN_3 + q * (SIN_5 + q * (SIN_7 + q * SIN_9))));
    let cosine = 1.0 + q * (COS_2 + q * (COS_4 + q * (COS_6 + q * (COS_8 + q * COS_10))));
    let half_sine = 2.0 * (sine * cosine);
    let half_cosine = 1.0 - 2.0 * (sine * sine);
    return vec2<f32>(2.0 * (half_sine * half_cosine), 1.0 - 2.0 * (half_sine * half_sine));
}

@compute @workgroup_size(WG)
fn shift(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_rows {
        return;
    }
    let place = row_of(index);
    let words = words_of(place.image, 0u);
    let from_row = place.row + crop_of(words.x);
    let crop_x = crop_of(words.y);
    let is_flipped = flips(words.z);
    for (var column = 0u; column < params.width; column += 1u) {
        let unflipped = select(column, params.width - 1u - column, is_flipped);
        y[place.first + column] = pixel(place, from_row, i32(unflipped) + crop_x);
    }
}

@compute @workgroup_size(WG)
fn sample(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    if index >= params.num_rows {
        return;
    }
    let place = row_of(index);
    let words = words_of(place.image, 0u);
    let shifts = words_of(place.image, 1u);
    let crop_y = f32(crop_of(words.x));
    let crop_x = f32(crop_of(words.y));
    let is_flipped = flips(words.z);
    let turn = sin_cos(symmetric(words.w) * params.max_radians);
    let last_column = f32(params.width - 1u);
    let center_y = f32(params.height - 1u) / 2.0;
    let center_x = last_column / 2.0;
    let dy = f32(place.row) - center_y - symmetric(shifts.x) * params.max_shift;
    let shift_x = symmetric(shifts.y) * params.max_shift;
    for (var column = 0u; column < params.width; column += 1u) {
        let dx = f32(column) - center_x - shift_x;
        let turned_x = center_x + dx * turn.y - dy * turn.x;
        let at_y = center_y + dx * turn.x + dy * turn.y + crop_y;
        let at_x = select(turned_x, last_column - turned_x, is_flipped) + crop_x;
        let part_y = at_y - floor(at_y);
        let part_x = at_x - floor(at_x);
        let top = i32(floor(at_y));
        let left = i32(floor(at_x));
        let upper_left = pixel(place, top, left);
        let lower_left = pixel(place, top + 1, left);
        let upper = upper_left + (pixel(place, top, left + 1) - upper_left) * part_x;
        let lower = lower_left + (pixel(place, top + 1, left + 1) - lower_left) * part_x;
        y[place.first + column] = upper + (lower - upper) * part_y;
    }
}
