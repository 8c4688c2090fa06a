//! One planted fault of each kind and more. A line that ends in `// here` is where the fault has to be reported, one in
//! `// other` the other access; where a source has `FAULT(…|…)`, the first text has the fault and the second has none.

use wgrad::sanitize::{Finding, Kind, Options, Report};

use super::{HEADER, run};

/// The texts with the fault and without.
fn twins(source: &str) -> [String; 2] {
    let (mut faulty, mut mended) = (HEADER.to_owned(), HEADER.to_owned());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("FAULT(") {
        let (pair, after) = after.split_once(")TLUAF").expect("it is closed");
        let (fault, mend) = pair.split_once('|').expect("two texts");
        faulty += before;
        faulty += fault;
        mended += before;
        mended += mend;
        rest = after;
    }
    [faulty + rest, mended + rest]
}

fn line_of(source: &str, marker: &str) -> Option<u32> {
    source.lines().position(|line| line.ends_with(marker)).map(|at| at as u32 + 1)
}

fn text(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// Checks that the fault is found where it is, alone, and that the mended twin is clean. Gives the finding.
pub fn check(kind: Kind, workgroups: u32, source: &str) -> Finding {
    let [faulty, mended] = twins(source);
    let options = Options { max_iterations: 100_000, ..Options::default() };
    let (report, _) = run(&mended, workgroups, &options);
    assert!(report.findings.is_empty(), "the mended twin:\n{}", text(&report));
    let (report, _) = run(&faulty, workgroups, &options);
    let here = line_of(&faulty, "// here").expect("the line is marked");
    let found = report.findings.iter().find(|finding| finding.kind == kind && finding.site.line == here);
    let found = found.unwrap_or_else(|| panic!("no {kind:?} in line {here}:\n{faulty}\n{}", text(&report)));
    let others: Vec<_> = report.findings.iter().filter(|finding| finding.kind != kind).collect();
    assert!(others.is_empty(), "other kinds:\n{}", text(&report));
    if let Some(line) = line_of(&faulty, "// other") {
        let (site, _) = found.other.as_ref().expect("a race has two accesses");
        assert_eq!(site.line, line, "the other access:\n{found}");
    }
    found.clone()
}

#[test]
fn an_index_beyond_the_binding() {
    let found = check(
        Kind::OutOfBounds,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            y[lane] = x[FAULT(lane + 1u|lane)TLUAF]; // here
        }",
    );
    assert_eq!((found.invocation, found.count), (63, 1));
    assert!(found.detail.contains("index 64 into 64 elements of x"), "{found}");
}

#[test]
fn an_index_beyond_an_array_of_an_invocation() {
    check(
        Kind::OutOfBounds,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            var a = array<f32, 4>(1.0, 2.0, 3.0, 4.0);
            let at = lane % FAULT(5u|4u)TLUAF;
            y[lane] = a[at]; // here
        }",
    );
}

#[test]
fn an_index_beyond_a_vector() {
    check(
        Kind::OutOfBounds,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let v = vec3<f32>(x[lane], 1.0, 2.0);
            y[lane] = v[lane % FAULT(4u|3u)TLUAF]; // here
        }",
    );
}

#[test]
fn a_write_beyond_workgroup_memory() {
    check(
        Kind::OutOfBounds,
        1,
        "var<workgroup> a: array<f32, 32>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            if lane < FAULT(64u|32u)TLUAF {
                a[lane] = x[lane]; // here
            }
            workgroupBarrier();
            y[lane] = a[lane % 32u];
        }",
    );
}

#[test]
fn a_read_of_workgroup_memory_that_nobody_wrote() {
    check(
        Kind::Unwritten,
        1,
        "var<workgroup> a: array<f32, 64>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            if lane < FAULT(63u|64u)TLUAF { a[lane] = x[lane]; }
            workgroupBarrier();
            y[lane] = a[63u - lane]; // here
        }",
    );
}

/// Each workgroup has its own, whatever an earlier one left.
#[test]
fn workgroup_memory_is_new_in_every_workgroup() {
    let found = check(
        Kind::Unwritten,
        2,
        "var<workgroup> a: f32;
        @compute @workgroup_size(1) fn main(@builtin(workgroup_id) group: vec3<u32>) {
            if group.x == FAULT(0u|group.x)TLUAF { a = 1.0; }
            y[group.x] = a; // here
        }",
    );
    assert_eq!(found.workgroup, [1, 0, 0]);
}

#[test]
fn a_read_of_an_output() {
    check(
        Kind::Unwritten,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            FAULT(|y[lane] = 0.0;)TLUAF
            y[lane] += x[lane]; // here
        }",
    );
}

#[test]
fn a_read_of_a_private_variable() {
    check(
        Kind::Unwritten,
        1,
        "var<private> kept: f32;
        fn kept_value() -> f32 {
            return kept; // here
        }
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            FAULT(|kept = x[lane];)TLUAF
            y[lane] = kept_value();
        }",
    );
}

#[test]
fn a_read_of_a_local_variable() {
    let found = check(
        Kind::Unwritten,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            var best: f32;
            if lane > 0u { best = x[lane]; }FAULT(| else { best = 0.0; })TLUAF
            y[lane] = best; // here
        }",
    );
    assert_eq!((found.invocation, found.count), (0, 1));
}

#[test]
fn a_barrier_that_some_do_not_reach() {
    let found = check(
        Kind::NonUniform,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            y[lane] = 0.0;
            if lane < FAULT(n[60]|n[0] + 64u)TLUAF {
                workgroupBarrier(); // here
            }
        }",
    );
    assert_eq!(found.invocation, 60);
}

#[test]
fn a_barrier_after_a_return() {
    check(
        Kind::NonUniform,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            if lane >= n[FAULT(60|1)TLUAF] + n[63] { return; }
            y[lane] = 0.0;
        }
        "
        .replace("n[FAULT(60|1)TLUAF] + n[63]", "n[FAULT(60|63)TLUAF] + 1u")
        .replace("y[lane] = 0.0;", "workgroupBarrier(); // here\n y[lane] = 0.0;")
        .as_str(),
    );
}

#[test]
fn a_barrier_in_a_loop_of_different_length() {
    check(
        Kind::NonUniform,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            for (var i = 0u; i < FAULT(lane|4u)TLUAF; i += 1u) {
                workgroupBarrier(); // here
            }
            y[lane] = 0.0;
        }",
    );
}

#[test]
fn a_shuffle_from_a_lane_that_is_not_active() {
    check(
        Kind::NonUniform,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            y[lane] = 0.0;
            if lane < FAULT(40u|64u)TLUAF {
                y[lane] = subgroupShuffle(x[lane], 31u - lane % 32u); // here
            }
        }",
    );
}

#[test]
fn a_product_that_overflows_into_an_index() {
    let found = check(
        Kind::IndexOverflow,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let stride = FAULT(0x10000000u|0x08000000u)TLUAF;
            let far = n[16] * stride; // other
            y[lane] = x[far / 0x80000000u + lane / 2u]; // here
        }"
        .replace("n[16]", "(n[15] + 1u)")
        .as_str(),
    );
    assert!(found.detail.contains("without overflow"), "{found}");
}

#[test]
fn a_difference_below_zero_that_becomes_an_index() {
    check(
        Kind::IndexOverflow,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let back = FAULT(lane - 4u|max(lane, 4u) - 4u)TLUAF; // other
            y[lane] = x[min(back, 63u + n[0]) * 0u + (back + 4u) / 8u - min(back, 0u) + (back - lane + 4u) % 2u]; // here
        }"
        .replace(
            "x[min(back, 63u + n[0]) * 0u + (back + 4u) / 8u - min(back, 0u) + (back - lane + 4u) % 2u]",
            "x[back / 0x08000000u + n[0]]",
        )
        .as_str(),
    );
}

/// What wraps on purpose is no fault: a hash, a sum that comes back, a difference that a comparison guards.
#[test]
fn wrapping_that_is_meant() {
    let source = "
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            var hash = (lane ^ 0x9E3779B9u) * 0x85EBCA6Bu;
            hash = (hash ^ (hash >> 13u)) * 0xC2B2AE35u;
            let back = lane - 5u;
            let row = back + 5u;
            var sum = x[hash % 64u] + x[row];
            if back < 64u { sum += x[back]; }
            let signed_back = i32(lane) - 5;
            if signed_back >= 0 { sum += x[signed_back] + x[u32(signed_back)]; }
            y[lane] = sum;
        }";
    let (report, _) = run(&format!("{HEADER}{source}"), 1, &Options::default());
    assert!(report.findings.is_empty(), "{}", text(&report));
}

#[test]
fn a_division_by_zero() {
    let found = check(
        Kind::DivisionByZero,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let d = n[lane] + FAULT(0u|1u)TLUAF;
            y[lane] = f32(100u / d); // here
        }",
    );
    assert_eq!((found.invocation, found.count), (0, 1));
}

#[test]
fn a_remainder_by_zero() {
    check(
        Kind::DivisionByZero,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let d = i32(n[lane]) FAULT(- 3|+ 1)TLUAF;
            y[lane] = f32(100 % d); // here
        }",
    );
}

#[test]
fn a_shift_too_far() {
    check(
        Kind::ShiftTooFar,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let by = FAULT(n[lane]|n[lane] % 32u)TLUAF;
            y[lane] = f32(0xFFFFFFFFu >> by); // here
        }",
    );
}

#[test]
fn a_nan_from_finite_operands() {
    let found = check(
        Kind::NanFromFinite,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let a = x[lane] - FAULT(1.0|0.0)TLUAF;
            y[lane] = sqrt(a); // here
        }",
    );
    assert!(found.detail.contains("[-1.0]"), "{found}");
    check(
        Kind::NanFromFinite,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let a = x[lane] + FAULT(0.0|1.0)TLUAF;
            y[lane] = a / a; // here
        }",
    );
}

#[test]
fn a_loop_without_end() {
    check(
        Kind::EndlessLoop,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            var i = lane;
            loop { // here
                if i FAULT(!=|>=)TLUAF 65u { break; }
                i += 2u;
            }
            y[lane] = f32(i);
        }"
        .replace("if i FAULT(!=|>=)TLUAF 65u", "if i FAULT(==|>=)TLUAF 65u")
        .as_str(),
    );
}

/// The number that llvmpipe ends loops by.
#[test]
fn iterations_are_counted() {
    let source = "
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            var sum = 0.0;
            for (var i = 0u; i < lane * 10u; i += 1u) {
                for (var j = 0u; j < 3u; j += 1u) { sum += 1.0; }
            }
            y[lane] = sum;
        }";
    let (report, y) = run(&format!("{HEADER}{source}"), 1, &Options::default());
    // The tries at which a loop ends count as well.
    let (outer, inner) = (630 + 1, 3 + 1);
    assert_eq!(report.loops.iter().map(|&(_, count)| count).collect::<Vec<_>>(), [outer, inner]);
    assert_eq!((report.max_iterations, report.max_tries), (630 + 630 * 3, outer + 630 * inner));
    assert_eq!(f32::from_bits(y[63]), 1890.0);
}
