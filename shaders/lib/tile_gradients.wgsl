// What a convolution's gradient by its input hands on to the gradient of the batch normalization before it: it goes through the
// activation in between as it is stored, and is summed with the distances from the mean over each channel of a tile.
//
// activated  f32, as the result: what the activation gave; not read when GRADIENT_OF = 0
// x          f32, as the result: what was normalized
// mean       f32 (channels)
// moments    f32 (channels, tiles, 4): sum of the gradients, sum of their products with x - mean, number of values, mean
//
// Needs lib/tile_moments.wgsl and lib/activation_gradient.wgsl.

@group(0) @binding(7) var<storage, read> activated: array<f32>;
@group(0) @binding(8) var<storage, read> x: array<f32>;
@group(0) @binding(9) var<storage, read> mean: array<f32>;

// Four pixels of a channel, and where they are in the result: those that are there.
struct Pixels {
    at: vec4<u32>,
    inside: vec4<bool>,
}

fn pixels_at(at: vec4<u32>, inside: vec4<bool>) -> Pixels {
    return Pixels(select(vec4<u32>(), at, inside), inside);
}

fn activated_at(pixels: Pixels) -> vec4<f32> {
    if GRADIENT_OF == 0u {
        return vec4<f32>();
    }
    return vec4<f32>(
        activated[pixels.at.x], activated[pixels.at.y], activated[pixels.at.z], activated[pixels.at.w]);
}

fn x_at(pixels: Pixels) -> vec4<f32> {
    return vec4<f32>(x[pixels.at.x], x[pixels.at.y], x[pixels.at.z], x[pixels.at.w]);
}

// The gradient before the activation that gave `outputs`, 0 where there is no pixel.
fn through_activation(pixels: Pixels, grads: vec4<f32>, outputs: vec4<f32>) -> vec4<f32> {
    let values = vec4<f32>(
        activation_gradient(grads.x, outputs.x), activation_gradient(grads.y, outputs.y),
        activation_gradient(grads.z, outputs.z), activation_gradient(grads.w, outputs.w));
    return select(vec4<f32>(), values, pixels.inside);
}

fn through(pixels: Pixels, grads: vec4<f32>) -> vec4<f32> {
    return through_activation(pixels, grads, activated_at(pixels));
}

// Its products with the distances from the mean.
fn products_at(pixels: Pixels, grads: vec4<f32>, center: f32) -> vec4<f32> {
    return select(vec4<f32>(), grads * (x_at(pixels) - center), pixels.inside);
}

fn mean4_at(channel: u32, end: u32) -> vec4<f32> {
    let last = end - 1u;
    return vec4<f32>(
        mean[min(channel, last)], mean[min(channel + 1u, last)], mean[min(channel + 2u, last)], mean[min(channel + 3u, last)]);
}

fn means_of(channels: TileChannels) -> OfChannels {
    return OfChannels(mean4_at(channels.low, channels.end), mean4_at(channels.high, channels.end));
}
