//! Kernels for several models at once. Models side by side lie in the same buffers, each at a fixed distance from the one
//! before, and a dispatch has a workgroup in z for each model that takes part. A kernel is written for one model; here it
//! gets the model axis, whatever it computes:
//!
//! - its model is the one that binding [`MEMBERS`] lists for the workgroup's z;
//! - every index into a storage buffer is moved on by the model times the buffer's distance ([`STRIDES`]; 0 where all models
//!   share what is there);
//! - every uniform becomes an array with an element for each model, and the kernel a copy of its own.
//!
//! Arithmetic on numbers is untouched, so that each model gets the bits that it would get alone.

mod operands;
mod rewrite;

use std::collections::HashMap;
use std::num::NonZeroU32;

use wgpu::naga;

use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{
    AddressSpace, ArraySize, GlobalVariable, Handle, Module, ResourceBinding, Scalar, Span, StructMember, Type,
    TypeInner,
};

use super::bind::{MEMBERS, NUM_STRIDES, STRIDES};
use super::memory::CELL_BYTES;
use crate::ops::kernel::Kernel;
use rewrite::{Offset, Prologue, rewrite};

/// The kernel's module with the model axis, for `num_models` models; or why that cannot be.
pub(in crate::exec::gpu) fn with_models(kernel: &Kernel, num_models: usize) -> Result<Module, String> {
    let mut module = wgsl::parse_str(&kernel.source).map_err(|error| error.emit_to_string(&kernel.source))?;
    module.entry_points.retain(|entry| entry.name == kernel.entry_point);
    if module.entry_points.len() != 1 {
        return Err(format!("there is no entry point {}", kernel.entry_point));
    }
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(&kernel.source))?;
    let models = u32::try_from(num_models).ok().and_then(NonZeroU32::new).ok_or("no models")?;
    let globals = module.global_variables.iter().map(|(global, _)| global);
    let used: Vec<Handle<GlobalVariable>> =
        globals.filter(|&global| !info.get_entry_point(0)[global].is_empty()).collect();
    let mut axis = Axis::new(&mut module, models);
    for global in used {
        match module.global_variables[global].space {
            AddressSpace::Uniform => axis.spread_uniform(&mut module, global)?,
            AddressSpace::Storage { .. } => axis.offset_storage(&mut module, global)?,
            AddressSpace::WorkGroup | AddressSpace::Private => {}
            other => return Err(format!("memory of kind {other:?}")),
        }
    }
    let Axis { offsets, prologue, .. } = axis;
    let types = &module.types;
    for (handle, function) in module.functions.iter_mut() {
        rewrite(function, &info[handle], types, &offsets)?;
    }
    let entry = &mut module.entry_points[0].function;
    rewrite(entry, info.get_entry_point(0), types, &offsets)?;
    prologue.insert(entry);
    Ok(module)
}

/// What the module gets besides what it has.
struct Axis {
    models: NonZeroU32,
    index: Handle<Type>,
    /// For each storage buffer what indices into it are moved on by.
    offsets: HashMap<Handle<GlobalVariable>, Handle<GlobalVariable>>,
    prologue: Prologue,
}

impl Axis {
    fn new(module: &mut Module, models: NonZeroU32) -> Axis {
        let index = add_type(module, TypeInner::Scalar(Scalar::U32));
        let vector = TypeInner::Vector { size: naga::VectorSize::Tri, scalar: Scalar::U32 };
        let vector = add_type(module, vector);
        let cell = add_cell(module, index, CELL_BYTES as u32);
        let num_strides = NonZeroU32::new(NUM_STRIDES as u32).expect("it is not 0");
        let members = add_array(module, cell, models, CELL_BYTES as u32);
        let strides = add_array(module, cell, num_strides, CELL_BYTES as u32);
        let members = add_uniform(module, "members", members, MEMBERS);
        let strides = add_uniform(module, "strides", strides, STRIDES);
        let prologue = Prologue { members, strides, vector, offsets: Vec::new(), copies: Vec::new() };
        Axis { models, index, offsets: HashMap::new(), prologue }
    }

    /// Turns a uniform into an array over models, and what the kernel knows it as into a copy of one element.
    fn spread_uniform(&mut self, module: &mut Module, global: Handle<GlobalVariable>) -> Result<(), String> {
        let GlobalVariable { binding, ty, name, .. } = module.global_variables[global].clone();
        let binding = binding.ok_or("a uniform without a binding")?.binding;
        // Sizes of what a program shares with the host are known.
        let size = module.types[ty].inner.size(module.to_ctx()).next_multiple_of(CELL_BYTES as u32);
        let cell = add_cell(module, ty, size);
        let all = add_array(module, cell, self.models, size);
        let all = add_uniform(module, &format!("{}_of_models", name.as_deref().unwrap_or("scalar")), all, binding);
        let copy = module.global_variables.get_mut(global);
        (copy.space, copy.binding) = (AddressSpace::Private, None);
        self.prologue.copies.push((all, global));
        Ok(())
    }

    /// Gives a storage buffer a number that indices into it are moved on by.
    fn offset_storage(&mut self, module: &mut Module, global: Handle<GlobalVariable>) -> Result<(), String> {
        let GlobalVariable { binding, ty, name, .. } = module.global_variables[global].clone();
        let name = name.unwrap_or_default();
        let TypeInner::Array { stride, .. } = module.types[ty].inner else {
            return Err(format!("{name}, which is not an array"));
        };
        let binding = binding.map_or(NUM_STRIDES as u32, |binding| binding.binding);
        if binding as usize >= NUM_STRIDES || stride % 4 != 0 {
            return Err(format!("{name} in binding {binding}"));
        }
        let first = GlobalVariable {
            name: Some(format!("{name}_first")),
            space: AddressSpace::Private,
            binding: None,
            ty: self.index,
            init: None,
            memory_decorations: Default::default(),
        };
        let first = module.global_variables.append(first, Span::UNDEFINED);
        self.offsets.insert(global, first);
        self.prologue.offsets.push(Offset { first, binding, elem_words: stride / 4 });
        Ok(())
    }
}

fn add_type(module: &mut Module, inner: TypeInner) -> Handle<Type> {
    module.types.insert(Type { name: None, inner }, Span::UNDEFINED)
}

/// A struct around a value that fills `size` bytes.
fn add_cell(module: &mut Module, value: Handle<Type>, size: u32) -> Handle<Type> {
    let member = StructMember { name: Some("value".to_owned()), ty: value, binding: None, offset: 0 };
    let inner = TypeInner::Struct { members: vec![member], span: size };
    module.types.insert(Type { name: Some("Cell".to_owned()), inner }, Span::UNDEFINED)
}

fn add_array(module: &mut Module, base: Handle<Type>, len: NonZeroU32, stride: u32) -> Handle<Type> {
    add_type(module, TypeInner::Array { base, size: ArraySize::Constant(len), stride })
}

fn add_uniform(module: &mut Module, name: &str, ty: Handle<Type>, binding: u32) -> Handle<GlobalVariable> {
    let uniform = GlobalVariable {
        name: Some(name.to_owned()),
        space: AddressSpace::Uniform,
        binding: Some(ResourceBinding { group: 0, binding }),
        ty,
        init: None,
        memory_decorations: Default::default(),
    };
    module.global_variables.append(uniform, Span::UNDEFINED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::shaders;

    #[test]
    fn every_kernel_can_have_a_model_axis() {
        let mut num_kernels = 0;
        for shader in shaders() {
            let parsed = wgsl::parse_str(shader.source).expect("the shaders parse");
            for entry in &parsed.entry_points {
                let kernel = Kernel { entry_point: entry.name.clone().into(), ..Kernel::new(shader, "") };
                let label = kernel.label();
                let module = with_models(&kernel, 3).unwrap_or_else(|error| panic!("{label}: {error}"));
                let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
                let info = validator.validate(&module).unwrap_or_else(|error| panic!("{label}: {error:?}"));
                let is_used = |number: u32| {
                    let mut globals = module.global_variables.iter();
                    let bound = globals.find(|(_, global)| global.binding.is_some_and(|at| at.binding == number));
                    bound.is_some_and(|(handle, _)| !info.get_entry_point(0)[handle].is_empty())
                };
                assert!(is_used(MEMBERS), "{label} asks which model it is for");
                num_kernels += 1;
            }
        }
        assert!(num_kernels > 100, "{num_kernels}");
    }
}
