// Logits of a row, up to 32 on their way at a time. Needs the shader's own params.num_classes and x (N, C).

// Whether loops over a row's classes have 32 loads on their way. A software adapter gains nothing, and takes longer to
// compile them.
override AHEAD: u32 = 1u;

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// The logits of the class `c` and seven after it; beyond the last class the last one's.
fn eight_logits(base: u32, c: u32) -> Eight {
    let last = params.num_classes - 1u;
    return Eight(
        vec4<f32>(x[base + c], x[base + min(c + 1u, last)], x[base + min(c + 2u, last)], x[base + min(c + 3u, last)]),
        vec4<f32>(
            x[base + min(c + 4u, last)], x[base + min(c + 5u, last)], x[base + min(c + 6u, last)], x[base + min(c + 7u, last)]),
    );
}

struct ThirtyTwo {
    e_0: Eight,
    e_1: Eight,
    e_2: Eight,
    e_3: Eight,
}

// The logits of the class `c` and 31 after it; eights that begin beyond the last class are not loaded.
fn logits_ahead(base: u32, c: u32) -> ThirtyTwo {
    let left = params.num_classes - c;
    var all = ThirtyTwo();
    all.e_0 = eight_logits(base, c);
    if left > 8u { all.e_1 = eight_logits(base, c + 8u); }
    if left > 16u { all.e_2 = eight_logits(base, c + 16u); }
    if left > 24u { all.e_3 = eight_logits(base, c + 24u); }
    return all;
}

// The first logits of a loop over all classes, and the next ones, if there are any.
fn first_ahead(base: u32) -> ThirtyTwo {
    if AHEAD == 0u {
        return ThirtyTwo();
    }
    return logits_ahead(base, 0u);
}

fn more_ahead(base: u32, c: u32) -> ThirtyTwo {
    if c < params.num_classes {
        return logits_ahead(base, c);
    }
    return ThirtyTwo();
}
