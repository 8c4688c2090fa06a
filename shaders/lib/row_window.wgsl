// Eight consecutive values of an image row: what a strip of four outputs needs for up to five taps at stride 1.

struct RowWindow {
    low: vec4<f32>,
    high: vec4<f32>,
}

// The four values that tap 1, 2 or 3 multiplies; tap 0 takes `low` and tap 4 takes `high` as they are.
fn window_at_1(window: RowWindow) -> vec4<f32> {
    return vec4<f32>(window.low.yzw, window.high.x);
}

fn window_at_2(window: RowWindow) -> vec4<f32> {
    return vec4<f32>(window.low.zw, window.high.xy);
}

fn window_at_3(window: RowWindow) -> vec4<f32> {
    return vec4<f32>(window.low.w, window.high.xyz);
}

// The window that starts `shift` (0 to 3) values into twelve consecutive ones.
fn shifted_window(first: vec4<f32>, second: vec4<f32>, third: vec4<f32>, shift: u32) -> RowWindow {
    let low = RowWindow(first, second);
    let high = RowWindow(second, third);
    switch shift {
        case 1u: { return RowWindow(window_at_1(low), window_at_1(high)); }
        case 2u: { return RowWindow(window_at_2(low), window_at_2(high)); }
        case 3u: { return RowWindow(window_at_3(low), window_at_3(high)); }
        default: { return low; }
    }
}
