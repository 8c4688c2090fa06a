//! Every shader against naga: it validates without any optional feature, every entry point goes through the back ends
//! of Vulkan, Metal and DirectX 12, it stays within the limits that every WebGPU device has, and its `Params` are those
//! of the Rust side. An adapter tests one back end; this tests the ones that are not there.

mod kernels;
mod loops;
mod registers;
mod tint;

use std::collections::BTreeSet;
use std::path::Path;

use naga::back::{hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, ArraySize, Module, ResourceBinding, Scalar, ShaderStage, TypeInner, VectorSize};
use wgrad::ops::kernel::Shader;

/// Limits that every WebGPU device has (`wgpu::Limits::default`).
const MAX_STORAGE_BUFFERS: usize = 8;
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_SIZE: [u32; 3] = [256, 256, 64];
const MAX_WORKGROUP_BYTES: u32 = 16 * 1024;
const MAX_UNIFORM_BYTES: u32 = 64 * 1024;

/// Where the uniform `params` are.
const PARAMS: ResourceBinding = ResourceBinding { group: 0, binding: 0 };

/// The shaders of ops and of optimizers.
fn shaders() -> Vec<&'static Shader> {
    [wgrad::ops::shaders(), wgrad::optim::shaders()].concat()
}

/// Runs a check on every shader and reports all that fail.
fn check_all(check: impl Fn(&Shader, &Module, &ModuleInfo) -> Vec<String>) {
    let shaders = shaders();
    assert!(!shaders.is_empty());
    let failures: Vec<String> = shaders
        .into_iter()
        .flat_map(|shader| {
            let failures = match parse(shader) {
                Ok((module, info)) => check(shader, &module, &info),
                Err(failure) => vec![failure],
            };
            failures.into_iter().map(|failure| format!("{}: {failure}", shader.name))
        })
        .collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn parse(shader: &Shader) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(shader.source).map_err(|error| error.emit_to_string(shader.source))?;
    let capabilities = if shader.needs_subgroups { Capabilities::SUBGROUP } else { Capabilities::empty() };
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|error| error.emit_to_string(shader.source))?;
    Ok((module, info))
}

/// Runs a check on every entry point with its overrides at their defaults: a module of this one entry point alone.
fn check_entry_points(check: impl Fn(&Module, &ModuleInfo) -> Result<(), String>) {
    check_all(|_, module, info| {
        let failure = |name: &str| {
            let entry_point = Some((ShaderStage::Compute, name));
            let settled = process_overrides(module, info, entry_point, &Default::default());
            settled.map_err(|error| error.to_string()).and_then(|(module, info)| check(&module, &info)).err()
        };
        let names = module.entry_points.iter().map(|entry_point| entry_point.name.as_str());
        names.filter_map(|name| failure(name).map(|failure| format!("{name}: {failure}"))).collect()
    });
}

#[test]
fn every_shader_has_entry_points_and_they_are_compute() {
    check_all(|_, module, _| {
        let others = module.entry_points.iter().filter(|entry_point| entry_point.stage != ShaderStage::Compute);
        let mut failures: Vec<String> =
            others.map(|entry_point| format!("{} is no kernel", entry_point.name)).collect();
        if module.entry_points.is_empty() {
            failures.push("no entry point".to_owned());
        }
        failures
    });
}

#[test]
fn every_override_has_a_default() {
    check_all(|_, module, _| {
        let without = module.overrides.iter().filter(|(_, constant)| constant.init.is_none());
        without.map(|(_, constant)| format!("override {:?} has no default", constant.name)).collect()
    });
}

#[test]
fn writes_spirv() {
    check_entry_points(|module, info| {
        // The version that wgpu's Vulkan back end writes where there are subgroups.
        let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        let words = spv::write_vec(module, info, &options, None).map_err(|error| error.to_string())?;
        non_empty(words.len())
    });
}

#[test]
fn writes_metal() {
    check_entry_points(|module, info| {
        // The oldest version that wgpu's Metal back end picks.
        let options = msl::Options { lang_version: (2, 0), ..msl::Options::default() };
        let (source, translation) = msl::write_string(module, info, &options, &msl::PipelineOptions::default())
            .map_err(|error| error.to_string())?;
        for name in translation.entry_point_names {
            name.map_err(|error| error.to_string())?;
        }
        non_empty(source.len())
    });
}

#[test]
fn writes_hlsl() {
    check_entry_points(|module, info| {
        let mut source = String::new();
        let (options, pipeline) = (hlsl::Options::default(), hlsl::PipelineOptions::default());
        let reflection = hlsl::Writer::new(&mut source, &options, &pipeline)
            .write(module, info, None)
            .map_err(|error| error.to_string())?;
        for name in reflection.entry_point_names {
            name.map_err(|error| error.to_string())?;
        }
        non_empty(source.len())
    });
}

fn non_empty(len: usize) -> Result<(), String> {
    if len > 0 { Ok(()) } else { Err("nothing was written".to_owned()) }
}

#[test]
fn params_are_those_of_the_rust_side() {
    check_all(|shader, module, _| params_mismatch(shader, module).into_iter().collect());
}

/// What differs between the WGSL `Params` and the fields that Rust declares: names, types, order or offsets.
fn params_mismatch(shader: &Shader, module: &Module) -> Option<String> {
    let mut at_zero = module.global_variables.iter().filter(|(_, global)| global.binding == Some(PARAMS));
    let (Some((_, params)), None) = (at_zero.next(), at_zero.next()) else {
        return Some("binding 0 is declared once".to_owned());
    };
    if params.space != AddressSpace::Uniform || params.name.as_deref() != Some("params") {
        return Some(format!("binding 0 is {:?} in {:?}, not the uniform params", params.name, params.space));
    }
    let ty = &module.types[params.ty];
    let TypeInner::Struct { members, span } = &ty.inner else {
        return Some("params is no struct".to_owned());
    };
    if ty.name.as_deref() != Some("Params") {
        return Some(format!("the struct of params is called {:?}", ty.name));
    }
    if *span > MAX_UNIFORM_BYTES {
        return Some(format!("{span} bytes of params"));
    }
    let got: Vec<(String, String, u32)> = members
        .iter()
        .map(|member| (member.name.clone().unwrap_or_default(), type_name(module, member.ty), member.offset))
        .collect();
    let mut offset = 0;
    let mut want: Vec<(String, String, u32)> = Vec::new();
    for &(name, ty) in shader.params {
        want.push((name.to_owned(), ty.to_owned(), offset));
        // `#[repr(C)]` with fields that are all aligned to 4 bytes: no padding in between.
        offset += match ty {
            "dims" => 32,
            "quad" => 16,
            _ => 4,
        };
    }
    if got == want {
        return None;
    }
    let row = |(name, ty, offset): &(String, String, u32)| format!("{offset}: {name}: {ty}");
    let list = |rows: &[(String, String, u32)]| rows.iter().map(row).collect::<Vec<_>>().join(", ");
    Some(format!("Params are\n  [{}] in WGSL and\n  [{}] in Rust", list(&got), list(&want)))
}

/// The name that Rust's side gives a field's type.
fn type_name(module: &Module, ty: naga::Handle<naga::Type>) -> String {
    let inner = &module.types[ty].inner;
    match *inner {
        TypeInner::Scalar(Scalar::U32) => "u32".to_owned(),
        TypeInner::Scalar(Scalar::I32) => "i32".to_owned(),
        TypeInner::Scalar(Scalar::F32) => "f32".to_owned(),
        TypeInner::Vector { size: VectorSize::Quad, scalar: Scalar::U32 } => "quad".to_owned(),
        TypeInner::Array { base, size: ArraySize::Constant(size), .. }
            if size.get() == 2
                && module.types[base].inner == (TypeInner::Vector { size: VectorSize::Quad, scalar: Scalar::U32 }) =>
        {
            "dims".to_owned()
        }
        _ => format!("{inner:?}"),
    }
}

#[test]
fn entry_points_stay_within_the_limits_of_every_device() {
    check_entry_points(|module, info| {
        let entry_point = &module.entry_points[0];
        let uses = info.get_entry_point(0);
        let used = || module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty());
        let num_storage = used().filter(|(_, global)| matches!(global.space, AddressSpace::Storage { .. })).count();
        if num_storage > MAX_STORAGE_BUFFERS {
            return Err(format!("{num_storage} storage buffers"));
        }
        let size = entry_point.workgroup_size;
        let num_invocations: u32 = size.iter().product();
        if num_invocations > MAX_INVOCATIONS || size.iter().zip(MAX_WORKGROUP_SIZE).any(|(&got, limit)| got > limit) {
            return Err(format!("workgroups of {size:?}"));
        }
        let workgroup_bytes: u32 = used()
            .filter(|(_, global)| global.space == AddressSpace::WorkGroup)
            .map(|(_, global)| module.types[global.ty].inner.size(module.to_ctx()).next_multiple_of(16))
            .sum();
        if workgroup_bytes > MAX_WORKGROUP_BYTES {
            return Err(format!("{workgroup_bytes} bytes of workgroup memory"));
        }
        Ok(())
    });
}

/// `Dispatch` lists bindings from 1 on without gaps, so the ones an entry point uses have to be of group 0, and what
/// it writes has to be declared so; a `read_write` that is only read would keep two such reads from running at once.
#[test]
fn bindings_are_declared_as_they_are_used() {
    check_all(|_, module, info| {
        let mut failures = Vec::new();
        for (handle, global) in module.global_variables.iter() {
            let name = global.name.clone().unwrap_or_default();
            let uses: Vec<_> =
                (0..module.entry_points.len()).map(|index| info.get_entry_point(index)[handle]).collect();
            if global.binding.is_some_and(|binding| binding.group != 0) {
                failures.push(format!("{name} is not in group 0"));
            }
            if uses.iter().all(|uses| uses.is_empty()) {
                failures.push(format!("{name} is used by no entry point"));
            }
            let writable =
                matches!(global.space, AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE));
            if writable && !uses.iter().any(|uses| uses.contains(naga::valid::GlobalUse::WRITE)) {
                failures.push(format!("{name} is read_write, but only read"));
            }
        }
        failures
    });
}

#[test]
fn every_file_is_in_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut files = BTreeSet::new();
    let read = |folder: &Path| std::fs::read_dir(folder).expect("the crate has shaders");
    for entry in read(&folder).chain(read(&folder.join("optim"))) {
        let path = entry.expect("the folder can be read").path();
        if path.is_file() {
            assert_eq!(path.extension().and_then(|extension| extension.to_str()), Some("wgsl"), "{}", path.display());
            files.insert(path.file_stem().expect("files have names").to_string_lossy().into_owned());
        } else {
            assert!(
                path.ends_with("lib") || path.ends_with("optim"),
                "{} is none of the folders looked into",
                path.display()
            );
        }
    }
    let listed: BTreeSet<String> = shaders().iter().map(|shader| shader.name.to_owned()).collect();
    assert_eq!(listed, files);
    // A file may come in several variants, as what stands in front of it differs.
    let sources: BTreeSet<&str> = shaders().iter().map(|shader| shader.source).collect();
    assert_eq!(sources.len(), shaders().len(), "a shader is listed twice");
}

/// The checks above can fail: a field out of order is noticed.
#[test]
fn a_field_out_of_order_is_noticed() {
    let shader = Shader {
        name: "swapped",
        source: "struct Params { b: f32, a: u32 }
            @group(0) @binding(0) var<uniform> params: Params;
            @compute @workgroup_size(1) fn main() { _ = params.a; }",
        params: &[("a", "u32"), ("b", "f32")],
        needs_subgroups: false,
    };
    let (module, _) = parse(&shader).expect("it is sound but for the order");
    assert!(params_mismatch(&shader, &module).is_some_and(|message| message.contains("0: b: f32")));
}
