//! Planted races; see [`faults`](super::faults) for how they are written.

use wgrad::sanitize::Kind;

use super::faults::check;

#[test]
fn a_race_in_workgroup_memory() {
    let found = check(
        Kind::Race,
        1,
        "var<workgroup> shared_x: array<f32, 64>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            shared_x[lane] = x[lane]; // other
            FAULT(|workgroupBarrier();)TLUAF
            y[lane] = shared_x[63u - lane]; // here
        }",
    );
    assert!(found.detail.contains("shared_x, within a workgroup"), "{found}");
    assert_eq!((found.invocation, found.other.expect("of two").1), (0, Some(63)));
    assert_eq!(found.count, 64);
}

#[test]
fn a_race_of_two_writes() {
    check(
        Kind::Race,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            let at = FAULT(lane / 2u|lane)TLUAF;
            y[at] = x[lane]; // here
        }",
    );
}

/// The tree of a reduction without its barrier: neighbours differ from round to round.
#[test]
fn a_race_in_a_tree() {
    check(
        Kind::Race,
        1,
        "var<workgroup> partial: array<f32, 64>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            partial[lane] = x[lane];
            workgroupBarrier();
            for (var half = 32u; half > 0u; half /= 2u) {
                if lane < half {
                    partial[lane] += partial[lane + half]; // here
                }
                FAULT(|workgroupBarrier();)TLUAF
            }
            if lane == 0u { y[0] = partial[0]; }
        }",
    );
}

#[test]
fn a_race_between_workgroups() {
    let found = check(
        Kind::Race,
        4,
        "@compute @workgroup_size(16) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            y[id.x] = 1.0;
            let at = FAULT((id.x + 1u) % 64u|id.x)TLUAF;
            x[id.x] = x[at]; // here
        }",
    );
    assert!(found.detail.contains("x, "), "{found}");
}

#[test]
fn a_read_of_what_another_workgroup_writes_later() {
    let found = check(
        Kind::Race,
        2,
        "@compute @workgroup_size(1) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x == 0u {
                y[0] = FAULT(x[1]|x[0])TLUAF; // other
            } else {
                x[1] = 2.0; // here
            }
        }",
    );
    assert!(found.detail.contains("between workgroups"), "{found}");
}

/// A barrier of workgroup memory does not order accesses to storage buffers.
#[test]
fn the_wrong_barrier() {
    check(
        Kind::Race,
        1,
        "@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            x[lane] = 1.0; // other
            FAULT(workgroupBarrier|storageBarrier)TLUAF();
            y[lane] = x[63u - lane]; // here
        }",
    );
}

#[test]
fn an_atomic_that_races_with_a_plain_read() {
    check(
        Kind::Race,
        1,
        "var<workgroup> total: atomic<u32>;
        var<workgroup> seen: u32;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            if lane == 0u { atomicStore(&total, 0u); seen = 0u; }
            workgroupBarrier();
            atomicAdd(&total, 1u);
            FAULT(seen += 1u; // here|)TLUAF
            workgroupBarrier();
            y[lane] = f32(atomicLoad(&total) + seen);
        }",
    );
}
