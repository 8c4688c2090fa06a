// The images that a convolution, or with TRANSPOSED = 1 its gradient by the input, is computed from, and those that it makes.
//
// Needs lib/conv2d.wgsl.

override TRANSPOSED: u32 = 0u;

// Channels, height and width of images.
struct Extents {
    channels: u32,
    height: u32,
    width: u32,
}

fn source_extents() -> Extents {
    if TRANSPOSED == 1u {
        return Extents(params.out_channels, params.out_h, params.out_w);
    }
    return Extents(params.in_channels, params.in_h, params.in_w);
}

fn result_extents() -> Extents {
    if TRANSPOSED == 1u {
        return Extents(params.in_channels, params.in_h, params.in_w);
    }
    return Extents(params.out_channels, params.out_h, params.out_w);
}
