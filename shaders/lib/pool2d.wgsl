// Where the windows of a pooling op lie.

struct Params {
    num_elems: u32,
    input_height: u32,
    input_width: u32,
    output_height: u32,
    output_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    padding_y: u32,
    padding_x: u32,
    dilation_y: u32, // of maxima
    dilation_x: u32,
    count_padding: u32, // of means
    divisor: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

override WG: u32 = 64;
