// What lies under a tile of outputs, in workgroup memory, so that a strip of four outputs finds what a tap meets in one or two
// vec4s whatever the stride: a row of the patch is PHASES times PATCH_QUADS quads, and quad q of phase f has the columns
// f + X_STEP * 4q to f + X_STEP * (4q + 3) of the tile. Tap j meets phase j % X_STEP from j / X_STEP columns on.
//
// Needs conv2d.wgsl, row_window.wgsl and the shader's own X_STEP, PATCH_QUADS and `under`, the quads. KERNEL_W <= 5.

override PHASES: u32 = select(KERNEL_W, X_STEP, X_STEP < KERNEL_W);

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
    let first = at + j % X_STEP * PATCH_QUADS;
    switch j / X_STEP {
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
        return UnderTaps(window.low, window_at_1(window), window_at_2(window), window_at_3(window), window.high);
    }
    var all = UnderTaps();
    all.v_0 = under_tap(at, 0u);
    if KERNEL_W > 1u { all.v_1 = under_tap(at, 1u); }
    if KERNEL_W > 2u { all.v_2 = under_tap(at, 2u); }
    if KERNEL_W > 3u { all.v_3 = under_tap(at, 3u); }
    if KERNEL_W > 4u { all.v_4 = under_tap(at, 4u); }
    return all;
}
