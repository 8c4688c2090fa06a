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

// The four values that tap `tap` multiplies.
fn window_under(window: RowWindow, tap: u32) -> vec4<f32> {
    switch tap {
        case 0u: { return window.low; }
        case 1u: { return window_at_1(window); }
        case 2u: { return window_at_2(window); }
        case 3u: { return window_at_3(window); }
        default: { return window.high; }
    }
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

// A window that a loop carries on. As eight numbers: wherever a component of a carried vec4 is used, Mesa's software adapter
// writes out loads of all four, which then take longer to compile than the sums.
struct CarriedWindow {
    v_0: f32,
    v_1: f32,
    v_2: f32,
    v_3: f32,
    v_4: f32,
    v_5: f32,
    v_6: f32,
    v_7: f32,
}

fn carried(window: RowWindow) -> CarriedWindow {
    let low = window.low;
    let high = window.high;
    return CarriedWindow(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
}

fn window_from(carried: CarriedWindow) -> RowWindow {
    return RowWindow(
        vec4<f32>(carried.v_0, carried.v_1, carried.v_2, carried.v_3),
        vec4<f32>(carried.v_4, carried.v_5, carried.v_6, carried.v_7),
    );
}
