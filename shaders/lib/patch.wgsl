// What lies under a tile of outputs, in workgroup memory, so that a strip of four outputs finds what a tap meets in one or two
// vec4s whatever the stride: a row of the patch is PHASES times PATCH_QUADS quads, and quad q of phase f has the columns
// f + X_STEP * 4q to f + X_STEP * (4q + 3) of the tile. Tap j reaches d = j * DILATION_W columns, and meets phase d % X_STEP from
// d / X_STEP columns on, which are at most 4.
//
// Needs conv2d.wgsl, row_window.wgsl and the shader's own X_STEP, PATCH_QUADS and `under`, the quads. KERNEL_W <= 5.

override REACH_H: u32 = (KERNEL_H - 1u) * DILATION_H;
override REACH_W: u32 = (KERNEL_W - 1u) * DILATION_W;
override PHASES: u32 = select(REACH_W + 1u, X_STEP, X_STEP < REACH_W + 1u);

// The values under each tap, for four outputs.
struct UnderTaps {
    v_0: vec4<f32>,
    v_1: vec4<f32>,
    v_2: vec4<f32>,
    v_3: vec4<f32>,
    v_4: vec4<f32>,
}

// Those of tap j, for the strip whose quad of phase 0 is at `at`.
fn under_tap(at: u32, j: u32) -> vec4<f32> {
    let first = at + j * DILATION_W % X_STEP * PATCH_QUADS;
    switch j * DILATION_W / X_STEP {
        case 0u: { return under[first]; }
        case 1u: { return window_at_1(RowWindow(under[first], under[first + 1u])); }
        case 2u: { return window_at_2(RowWindow(under[first], under[first + 1u])); }
        case 3u: { return window_at_3(RowWindow(under[first], under[first + 1u])); }
        default: { return under[first + 1u]; }
    }
}

fn under_taps(at: u32) -> UnderTaps {
    if X_STEP == 1u {
        let window = RowWindow(under[at], under[at + 1u]);
        return UnderTaps(
            window.low,
            window_under(window, DILATION_W),
            window_under(window, 2u * DILATION_W),
            window_under(window, 3u * DILATION_W),
            window_under(window, 4u * DILATION_W),
        );
    }
    var all = UnderTaps();
    all.v_0 = under_tap(at, 0u);
    if KERNEL_W > 1u { all.v_1 = under_tap(at, 1u); }
    if KERNEL_W > 2u { all.v_2 = under_tap(at, 2u); }
    if KERNEL_W > 3u { all.v_3 = under_tap(at, 3u); }
    if KERNEL_W > 4u { all.v_4 = under_tap(at, 4u); }
    return all;
}
