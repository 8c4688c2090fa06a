//! How types are laid out: dense in registers, one for each scalar; padded as WGSL has it in memory, in words.

use naga::proc::IndexableLength;
use naga::{ArraySize, Handle, Module, ScalarKind, Type, TypeInner, VectorSize};

/// What a pointer points to, or a value is: a type of the module or a part of a vector or matrix.
pub(super) type Inner = TypeInner;

/// The number of scalars of a type of fixed size.
pub(super) fn num_scalars(module: &Module, inner: &Inner) -> u32 {
    match inner {
        TypeInner::Scalar(_) | TypeInner::Atomic(_) => 1,
        TypeInner::Vector { size, .. } => u32::from(*size),
        TypeInner::Matrix { columns, rows, .. } => u32::from(*columns) * u32::from(*rows),
        TypeInner::Array { base, size, .. } => {
            fixed(module, *size).unwrap_or(0) * num_scalars(module, &module.types[*base].inner)
        }
        TypeInner::Struct { members, .. } => {
            members.iter().map(|member| num_scalars(module, &module.types[member.ty].inner)).sum()
        }
        _ => 0,
    }
}

/// The length of an array, where it is fixed.
fn fixed(module: &Module, size: ArraySize) -> Option<u32> {
    // Overrides were settled before, so that their values are known.
    match size.resolve(module.to_ctx()) {
        Ok(IndexableLength::Known(len)) => Some(len),
        Ok(IndexableLength::Dynamic) | Err(_) => None,
    }
}

/// Words in memory and alignment in words. A bool, which has no layout in WGSL, takes a word.
pub(super) fn memory_size(module: &Module, inner: &Inner) -> (u32, u32) {
    match inner {
        TypeInner::Vector { size, .. } => (u32::from(*size), vector_align(*size)),
        TypeInner::Matrix { columns, rows, .. } => (u32::from(*columns) * vector_align(*rows), vector_align(*rows)),
        TypeInner::Array { base, size, .. } => {
            let (_, align) = memory_size(module, &module.types[*base].inner);
            (fixed(module, *size).unwrap_or(0) * stride(module, inner), align)
        }
        TypeInner::Struct { members, .. } => {
            let mut align = 1;
            let mut end = 0;
            for (index, member) in members.iter().enumerate() {
                let (size, member_align) = memory_size(module, &module.types[member.ty].inner);
                align = align.max(member_align);
                end = member_offset(module, inner, index) + size;
            }
            (end.next_multiple_of(align), align)
        }
        _ => (1, 1),
    }
}

fn vector_align(size: VectorSize) -> u32 {
    if size == VectorSize::Bi { 2 } else { 4 }
}

/// Words from one element of an array, or column of a matrix, to the next.
pub(super) fn stride(module: &Module, inner: &Inner) -> u32 {
    match inner {
        TypeInner::Array { base, .. } => {
            let (size, align) = memory_size(module, &module.types[*base].inner);
            size.next_multiple_of(align)
        }
        TypeInner::Matrix { rows, .. } => vector_align(*rows),
        _ => 1,
    }
}

/// Words from the start of a struct to a member. Attributes of the source may have moved it; bools have no place there.
pub(super) fn member_offset(module: &Module, inner: &Inner, index: usize) -> u32 {
    let TypeInner::Struct { members, .. } = inner else { return 0 };
    if !has_bool(module, inner) {
        return members[index].offset / 4;
    }
    let mut offset = 0;
    for member in &members[..index] {
        let (size, align) = memory_size(module, &module.types[member.ty].inner);
        offset = u32::next_multiple_of(offset, align) + size;
    }
    let (_, align) = memory_size(module, &module.types[members[index].ty].inner);
    offset.next_multiple_of(align)
}

fn has_bool(module: &Module, inner: &Inner) -> bool {
    match inner {
        TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => scalar.kind == ScalarKind::Bool,
        TypeInner::Array { base, .. } => has_bool(module, &module.types[*base].inner),
        TypeInner::Struct { members, .. } => {
            members.iter().any(|member| has_bool(module, &module.types[member.ty].inner))
        }
        _ => false,
    }
}

/// The part of a composite at a constant index.
pub(super) fn part(module: &Module, inner: &Inner, index: u32) -> Inner {
    match inner {
        TypeInner::Struct { members, .. } => module.types[members[index as usize].ty].inner.clone(),
        _ => element(module, inner),
    }
}

/// What the elements of a vector, matrix or array are.
pub(super) fn element(module: &Module, inner: &Inner) -> Inner {
    match inner {
        TypeInner::Vector { scalar, .. } => TypeInner::Scalar(*scalar),
        TypeInner::Matrix { rows, scalar, .. } => TypeInner::Vector { size: *rows, scalar: *scalar },
        TypeInner::Array { base, .. } => module.types[*base].inner.clone(),
        other => other.clone(),
    }
}

/// Words from the start of a composite to a part, in memory.
pub(super) fn part_offset(module: &Module, inner: &Inner, index: u32) -> u32 {
    match inner {
        TypeInner::Struct { .. } => member_offset(module, inner, index as usize),
        _ => index * stride(module, inner),
    }
}

/// Scalars before a part of a composite, in registers.
pub(super) fn part_scalars(module: &Module, inner: &Inner, index: u32) -> u32 {
    match inner {
        TypeInner::Struct { members, .. } => {
            members[..index as usize].iter().map(|member| num_scalars(module, &module.types[member.ty].inner)).sum()
        }
        _ => index * num_scalars(module, &element(module, inner)),
    }
}

/// The number of elements that an index may choose from; `None` for an array of a length known at run time alone.
pub(super) fn num_elements(module: &Module, inner: &Inner) -> Option<u32> {
    match inner {
        TypeInner::Vector { size, .. } => Some(u32::from(*size)),
        TypeInner::Matrix { columns, .. } => Some(u32::from(*columns)),
        TypeInner::Array { size, .. } => fixed(module, *size),
        _ => Some(0),
    }
}

/// Where each scalar lies in memory, in words from `base` on.
pub(super) fn scalar_offsets(module: &Module, inner: &Inner, base: u32, offsets: &mut Vec<u32>) {
    let parts = match inner {
        TypeInner::Struct { members, .. } => members.len() as u32,
        TypeInner::Vector { .. } | TypeInner::Matrix { .. } | TypeInner::Array { .. } => {
            num_elements(module, inner).unwrap_or(0)
        }
        _ => return offsets.push(base),
    };
    for index in 0..parts {
        let offset = base + part_offset(module, inner, index);
        scalar_offsets(module, &part(module, inner, index), offset, offsets);
    }
}

/// The scalar kind of a scalar, vector or matrix.
pub(super) fn kind(inner: &Inner) -> Option<ScalarKind> {
    match inner {
        TypeInner::Scalar(scalar)
        | TypeInner::Atomic(scalar)
        | TypeInner::Vector { scalar, .. }
        | TypeInner::Matrix { scalar, .. } => Some(scalar.kind),
        _ => None,
    }
}

/// The first type in an inner one that registers of 32 bits cannot hold.
pub(super) fn unsupported(module: &Module, ty: Handle<Type>) -> Option<String> {
    match &module.types[ty].inner {
        TypeInner::Scalar(scalar)
        | TypeInner::Vector { scalar, .. }
        | TypeInner::Matrix { scalar, .. }
        | TypeInner::Atomic(scalar) => {
            let fits = scalar.width == 4 || scalar.kind == ScalarKind::Bool;
            (!fits).then(|| format!("scalars of {} bytes", scalar.width))
        }
        TypeInner::Array { base, .. } => unsupported(module, *base),
        TypeInner::Struct { members, .. } => members.iter().find_map(|member| unsupported(module, member.ty)),
        TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => None,
        other => Some(format!("values of type {other:?}")),
    }
}
