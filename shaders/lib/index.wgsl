// Flat indices from grids that may be folded to two dimensions, since one dimension takes at most 65,535 workgroups.

// The flat index of an invocation; `row_invocations` is the number of workgroups in x times the workgroup's size.
fn flat_index(invocation: vec3<u32>, row_invocations: u32) -> u32 {
    return invocation.y * row_invocations + invocation.x;
}

// The flat index of a workgroup.
fn workgroup_index(group: vec3<u32>, num_groups: vec3<u32>) -> u32 {
    return group.y * num_groups.x + group.x;
}
