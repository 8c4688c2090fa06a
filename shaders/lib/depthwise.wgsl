// Which values of a plane meet which taps of a depthwise convolution, for a thread that has ROWS rows of WIDTH neighbouring
// values of the plane that it computes (or, of the gradient by the weight, that it multiplies by), from (y, x) on. Of the
// other plane, the source, it meets ROWS_UNDER rows of a window of COLUMNS columns each.
//
// The kernel's columns are counted by steps, from one of which to the next the window's columns rise: with TRANSPOSED = 1 the
// kernel's fall. y and x are multiples of the stride then, so that what meets what is constant, and products alone are left.
//
// Needs lib/conv2d.wgsl and the shader's own `source` and `source_quads`, types Kept of what a thread sums and Factors of what it
// multiplies by, one of which is Taps and the other RowValues, and for each row under it:
//
//   fn add_under(kept: ptr<function, Kept>, factors: Factors, origin: Source, row: u32)
//
// ROWS <= 8, WIDTH <= 4, KERNEL_H and KERNEL_W <= 5, ROWS_UNDER <= 12, COLUMNS <= 16.

override TRANSPOSED: u32 = 0u; // the source is the gradient by the output, and the taps run backwards
override MULTIPLIER: u32 = 1u; // output channels of an input channel
override WIDTH: u32 = 4u;
override ROWS: u32 = 4u;
// Whether the source's rows are read four columns at a time: their width and x * X_STEP are multiples of 4, and SPREAD is 1.
override BY_QUADS: u32 = 0u;

// From one row and column to the next in the source, where TRANSPOSED = 0.
override Y_STEP: u32 = select(STRIDE_H, 1u, TRANSPOSED == 1u);
override X_STEP: u32 = select(STRIDE_W, 1u, TRANSPOSED == 1u);
// And where it is 1, of how many rows and columns one meets a tap.
override SPREAD_H: u32 = select(1u, STRIDE_H, TRANSPOSED == 1u);
override SPREAD_W: u32 = select(1u, STRIDE_W, TRANSPOSED == 1u);

// Where TRANSPOSED = 1: row y meets kernel row i in row (y + LIFT_H - i * DILATION_H) / SPREAD_H - KERNEL_H * DILATION_H of the
// source, if the quotient is whole. The last kernel row meets the first of these, at y = 0 in FIRST_H - KERNEL_H * DILATION_H.
override LIFT_H: u32 = PADDING_H + SPREAD_H * KERNEL_H * DILATION_H;
override LIFT_W: u32 = PADDING_W + SPREAD_W * KERNEL_W * DILATION_W;
override FIRST_H: u32 = (LIFT_H - (KERNEL_H - 1u) * DILATION_H + SPREAD_H - 1u) / SPREAD_H;
override FIRST_W: u32 = (LIFT_W - (KERNEL_W - 1u) * DILATION_W + SPREAD_W - 1u) / SPREAD_W;

override ROWS_UNDER: u32 = select(
    (ROWS - 1u) * Y_STEP + (KERNEL_H - 1u) * DILATION_H + 1u,
    (ROWS - 1u + LIFT_H) / SPREAD_H + 1u - FIRST_H,
    TRANSPOSED == 1u,
);
// Columns that a window begins before the first that a tap meets.
override OFFSET: u32 = select(
    0u,
    select(3u * PADDING_W, FIRST_W + 3u * KERNEL_W * DILATION_W, TRANSPOSED == 1u) % 4u,
    BY_QUADS == 1u,
);
override COLUMNS: u32 = OFFSET + select(
    (WIDTH - 1u) * X_STEP + (KERNEL_W - 1u) * DILATION_W + 1u,
    (WIDTH - 1u + LIFT_W) / SPREAD_W + 1u - FIRST_W,
    TRANSPOSED == 1u,
);

// A plane of the source, and the first row and column that a tap may meet, which wrap around above and left of it.
struct Source {
    plane: u32,
    y: u32,
    x: u32,
    height: u32, // 0 where there is nothing to compute
    width: u32,
}

// Columns of one row.
struct Window {
    q_0: vec4<f32>,
    q_1: vec4<f32>,
    q_2: vec4<f32>,
    q_3: vec4<f32>,
}

fn source_at(row: u32, x: u32, is_inside: bool, width: u32) -> f32 {
    let is_there = is_inside & (x < width);
    return select(0.0, source[select(0u, row + x, is_there)], is_there);
}

fn source_quad(row: u32, x: u32, is_inside: bool, width: u32) -> vec4<f32> {
    if BY_QUADS == 1u {
        let is_there = is_inside & (x < width);
        return select(vec4<f32>(), source_quads[select(0u, (row + x) / 4u, is_there)], is_there);
    }
    return vec4<f32>(
        source_at(row, x, is_inside, width), source_at(row, x + 1u, is_inside, width),
        source_at(row, x + 2u, is_inside, width), source_at(row, x + 3u, is_inside, width),
    );
}

// Row `row` of those under the thread.
fn window_of(origin: Source, row: u32) -> Window {
    let y = origin.y + row;
    let is_inside = y < origin.height;
    let first = (origin.plane * origin.height + y) * origin.width;
    let x = origin.x - OFFSET;
    var window = Window();
    window.q_0 = source_quad(first, x, is_inside, origin.width);
    if COLUMNS > 4u { window.q_1 = source_quad(first, x + 4u, is_inside, origin.width); }
    if COLUMNS > 8u { window.q_2 = source_quad(first, x + 8u, is_inside, origin.width); }
    if COLUMNS > 12u { window.q_3 = source_quad(first, x + 12u, is_inside, origin.width); }
    return window;
}

// Which kernel row joins row `row` of those under the thread to its row y; KERNEL_H or more where none does.
fn tap_between(row: u32, y: u32) -> u32 {
    // Wraps around where there is none, and is large.
    let distance = select(row - y * Y_STEP, y + LIFT_H - SPREAD_H * (row + FIRST_H), TRANSPOSED == 1u);
    return select(KERNEL_H, distance / DILATION_H, distance % DILATION_H == 0u);
}

// Where in a window step `step` of the kernel finds the thread's column x, times SPREAD_W.
fn spread_column(x: u32, step: u32) -> u32 {
    if TRANSPOSED == 1u {
        return x + LIFT_W - (KERNEL_W - 1u - step) * DILATION_W;
    }
    return x * X_STEP + step * DILATION_W;
}

fn meets(step: u32) -> vec4<bool> {
    let columns = vec4<u32>(
        spread_column(0u, step), spread_column(1u, step), spread_column(2u, step), spread_column(3u, step));
    return columns % SPREAD_W == vec4<u32>();
}

fn column(window: Window, x: u32, step: u32) -> f32 {
    let at = spread_column(x, step) / SPREAD_W + OFFSET - select(0u, FIRST_W, TRANSPOSED == 1u);
    // Choices instead of branches, which compilers take seconds to find constant.
    let low = select(window.q_1, window.q_0, at < 4u);
    let high = select(window.q_3, window.q_2, at < 12u);
    return select(high, low, at < 8u)[at % 4u];
}

// The values of a window that each step meets, for WIDTH columns.
struct Under {
    v_0: vec4<f32>,
    v_1: vec4<f32>,
    v_2: vec4<f32>,
    v_3: vec4<f32>,
    v_4: vec4<f32>,
    v_5: vec4<f32>,
    v_6: vec4<f32>,
}

fn under_step(window: Window, step: u32) -> vec4<f32> {
    var values = vec4<f32>(column(window, 0u, step), 0.0, 0.0, 0.0);
    if WIDTH > 1u { values.y = column(window, 1u, step); }
    if WIDTH > 2u { values.z = column(window, 2u, step); }
    if WIDTH > 3u { values.w = column(window, 3u, step); }
    return values;
}

fn under_of(window: Window) -> Under {
    var all = Under();
    all.v_0 = under_step(window, 0u);
    if KERNEL_W > 1u { all.v_1 = under_step(window, 1u); }
    if KERNEL_W > 2u { all.v_2 = under_step(window, 2u); }
    if KERNEL_W > 3u { all.v_3 = under_step(window, 3u); }
    if KERNEL_W > 4u { all.v_4 = under_step(window, 4u); }
    if KERNEL_W > 5u { all.v_5 = under_step(window, 5u); }
    if KERNEL_W > 6u { all.v_6 = under_step(window, 6u); }
    return all;
}

// What belongs to the steps of a row of the kernel: its weights, or their sums.
struct TapRow {
    low: vec4<f32>,
    high: vec4<f32>,
}

// The same of all rows.
struct Taps {
    i_0: TapRow,
    i_1: TapRow,
    i_2: TapRow,
    i_3: TapRow,
    i_4: TapRow,
    i_5: TapRow,
    i_6: TapRow,
}

// A number for each of a thread's values: gradients, or sums.
struct RowValues {
    y_0: vec4<f32>,
    y_1: vec4<f32>,
    y_2: vec4<f32>,
    y_3: vec4<f32>,
    y_4: vec4<f32>,
    y_5: vec4<f32>,
    y_6: vec4<f32>,
    y_7: vec4<f32>,
}

// The products with all rows under the thread, of what it keeps in registers.
fn add_all(kept: ptr<function, Kept>, factors: Factors, origin: Source) {
    add_under(kept, factors, origin, 0u);
    if ROWS_UNDER > 1u { add_under(kept, factors, origin, 1u); }
    if ROWS_UNDER > 2u { add_under(kept, factors, origin, 2u); }
    if ROWS_UNDER > 3u { add_under(kept, factors, origin, 3u); }
    if ROWS_UNDER > 4u { add_under(kept, factors, origin, 4u); }
    if ROWS_UNDER > 5u { add_under(kept, factors, origin, 5u); }
    if ROWS_UNDER > 6u { add_under(kept, factors, origin, 6u); }
    if ROWS_UNDER > 7u { add_under(kept, factors, origin, 7u); }
    if ROWS_UNDER > 8u { add_under(kept, factors, origin, 8u); }
    if ROWS_UNDER > 9u { add_under(kept, factors, origin, 9u); }
    if ROWS_UNDER > 10u { add_under(kept, factors, origin, 10u); }
    if ROWS_UNDER > 11u { add_under(kept, factors, origin, 11u); }
}
