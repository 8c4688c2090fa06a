// One batch out of a resident data set of bytes: y[i] = x[permutation[start + i]] · scale[c] + shift[c], where
// scale = 1 / (255 · std) and shift = −mean / std, and the labels that go with it.
//
//   images_0, images_1  (n_0 or n_1, C, H, W) bytes, four to a word, low byte first; images_1 holds image n_0 onwards
//   labels              (n_0 + n_1)
//   permutation         (num_positions)
//   batch               (B, C, H, W)
//   batch_labels        (B)
//
//   forward       any image
//   forward_vec4  images of whole words: an invocation reads a word and writes a vec4
//
// One invocation computes PIXELS neighbouring elements of one image. Positions beyond the permutation and images
// beyond the data set are held at the last one, so that no input makes an access go astray.

struct Params {
    batch_size: u32,
    image_elems: u32,
    plane_elems: u32,
    num_first: u32,
    num_images: u32,
    num_positions: u32,
    scale_0: f32,
    scale_1: f32,
    scale_2: f32,
    scale_3: f32,
    shift_0: f32,
    shift_1: f32,
    shift_2: f32,
    shift_3: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> images_0: array<u32>;
@group(0) @binding(2) var<storage, read> images_1: array<u32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> permutation: array<u32>;
@group(0) @binding(5) var<uniform> start: u32;
@group(0) @binding(6) var<storage, read_write> batch: array<f32>;
@group(0) @binding(6) var<storage, read_write> batch_vec4: array<vec4<f32>>; // of forward_vec4
@group(0) @binding(7) var<storage, read_write> batch_labels: array<u32>;

override WG: u32 = 64;

const PIXELS: u32 = 4;
const BYTES_PER_WORD: u32 = 4;
const BITS_PER_BYTE: u32 = 8;
const BYTE_MASK: u32 = 255;

fn byte_of(word: u32, index: u32) -> f32 {
    return f32((word >> ((index % BYTES_PER_WORD) * BITS_PER_BYTE)) & BYTE_MASK);
}

// Selected, not branched around: a software adapter compiles four of these in a third of the time.
fn normalized(value: f32, channel: u32) -> f32 {
    let is_first = channel == 0u;
    let is_second = channel == 1u;
    let is_third = channel == 2u;
    let scale = select(select(select(params.scale_3, params.scale_2, is_third), params.scale_1, is_second), params.scale_0, is_first);
    let shift = select(select(select(params.shift_3, params.shift_2, is_third), params.shift_1, is_second), params.shift_0, is_first);
    return value * scale + shift;
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    let groups_per_image = (params.image_elems + PIXELS - 1u) / PIXELS;
    let row = index / groups_per_image;
    let first = (index % groups_per_image) * PIXELS;
    if row >= params.batch_size {
        return;
    }
    let position = min(min(start, params.num_positions) + row, params.num_positions - 1u);
    let image = min(permutation[position], params.num_images - 1u);
    if first == 0u {
        batch_labels[row] = labels[image];
    }
    let in_first = image < params.num_first;
    let base = select(image - params.num_first, image, in_first) * params.image_elems;
    for (var element = first; element < min(first + PIXELS, params.image_elems); element += 1u) {
        let at = base + element;
        var word: u32;
        if in_first {
            word = images_0[at / BYTES_PER_WORD];
        } else {
            word = images_1[at / BYTES_PER_WORD];
        }
        batch[row * params.image_elems + element] = normalized(byte_of(word, at), element / params.plane_elems);
    }
}

@compute @workgroup_size(WG)
fn forward_vec4(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = flat_index(id, groups.x * WG);
    let words_per_image = params.image_elems / BYTES_PER_WORD;
    let row = index / words_per_image;
    let place = index % words_per_image;
    if row >= params.batch_size {
        return;
    }
    let position = min(min(start, params.num_positions) + row, params.num_positions - 1u);
    let image = min(permutation[position], params.num_images - 1u);
    if place == 0u {
        batch_labels[row] = labels[image];
    }
    var word: u32;
    if image < params.num_first {
        word = images_0[image * words_per_image + place];
    } else {
        word = images_1[(image - params.num_first) * words_per_image + place];
    }
    let first = place * BYTES_PER_WORD;
    batch_vec4[index] = vec4<f32>(
        normalized(byte_of(word, 0u), first / params.plane_elems),
        normalized(byte_of(word, 1u), (first + 1u) / params.plane_elems),
        normalized(byte_of(word, 2u), (first + 2u) / params.plane_elems),
        normalized(byte_of(word, 3u), (first + 3u) / params.plane_elems),
    );
}
