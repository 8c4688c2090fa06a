//! What a real GPU's compiler makes of the kernels of the networks, pinned in a file: `benches/gpu/registers.py` asks Mesa's
//! compiler for AMD's GPUs, which needs none. Where another version of it is installed, or none, nothing is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use naga::ShaderStage;
use naga::back::{pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::{Value, json};
use wgrad::data::DataSource;
use wgrad::nn::Network;
use wgrad::ops::kernel::{GpuTraits, Kernel};
use wgrad::ops::{Conv2d, Matmul};
use wgrad::run::{RunConfig, setup};
use wgrad::{Graph, Plan, TensorType};

use crate::harness::plan_with_gradients;
use crate::ops::conv2d_gemm;

const PINNED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/registers.md");
const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/gpu/registers.py");

/// The tool's exit status where Mesa's compiler is not installed.
const MISSING: i32 = 77;

/// Instructions for 64 multiply-adds in the loop of the matrix product of large, aligned operands.
const MAX_GEMM_INSTRUCTIONS: u32 = 75;
/// The same where one of them is the patches of a convolution, which have to be found.
const MAX_PATCH_INSTRUCTIONS: u32 = 84;

/// The same where the other one is read eight pixels at a time, as it is stored, as well.
const MAX_WEIGHT_INSTRUCTIONS: u32 = 90;

/// Training steps and evaluation of 64 images.
fn plans() -> Vec<Plan> {
    let networks = [("lenet5", "mnist"), ("mlp", "mnist"), ("vgg", "cifar10"), ("resnet", "cifar10")];
    let of_network = |(network, dataset)| {
        let (network, dataset) = (Network::named(network).unwrap(), DataSource::named(dataset).unwrap());
        setup::plans(&RunConfig { network, dataset, batch_size: 64, ..RunConfig::default() }).unwrap()
    };
    networks.into_iter().flat_map(of_network).collect()
}

/// Matrix products of the shapes that networks do not have: large ones, and as many slices of a small one.
fn product([m, n, k]: [usize; 3], [trans_a, trans_b]: [bool; 2]) -> Plan {
    let mut graph = Graph::new("product");
    let shape = |is_transposed: bool, rows, columns| if is_transposed { [columns, rows] } else { [rows, columns] };
    let a = graph.input("a", TensorType::f32(shape(trans_a, m, k))).unwrap();
    let b = graph.input("b", TensorType::f32(shape(trans_b, k, n))).unwrap();
    let product = graph.matmul_with(a, b, None, Matmul { trans_a, trans_b, ..Matmul::default() }).unwrap();
    graph.output("product", product).unwrap();
    Plan::new(&graph).unwrap()
}

/// A convolution of many channels and its gradients, as `benches/gpu/run` has them.
fn convolution([from, to]: [usize; 2], extent: usize, kernel: usize, stride: usize) -> Plan {
    let mut graph = Graph::new("convolution");
    let x = graph.input_with_grad("x", [32, from, extent, extent]).unwrap();
    let weight = graph.input_with_grad("weight", [to, from, kernel, kernel]).unwrap();
    let conv = Conv2d { stride: [stride; 2], padding: [kernel / 2; 2], ..Conv2d::default() };
    let y = graph.conv2d(x, weight, None, conv).unwrap();
    let sum = graph.sum_all(y).unwrap();
    let grads = graph.backward(sum).unwrap();
    for (name, value) in [("by x", x), ("by weight", weight)] {
        graph.output(name, grads.get(value).unwrap()).unwrap();
    }
    Plan::new(&graph).unwrap()
}

/// Products that store what batch normalizations merge; of 64 images the networks have them in slices alone.
fn between_normalizations() -> Vec<Kernel> {
    let cases = conv2d_gemm::moment_cases().into_iter().chain(conv2d_gemm::sum_cases());
    let plans: Vec<Plan> = cases.map(|case| plan_with_gradients(&case).unwrap()).collect();
    let dispatches = plans.iter().flat_map(|plan| plan.dispatches(GpuTraits::GPU).unwrap());
    let kernels = dispatches.flat_map(|dispatches| dispatches.list).map(|dispatch| dispatch.kernel);
    kernels.filter(|kernel| kernel.label().starts_with("conv2d_gemm.gemm_")).collect()
}

/// Each kernel once, under its label and, where it differs from others in its constants alone, what these are.
fn kernels() -> BTreeMap<String, Kernel> {
    let sizes = [[2048, 2048, 2048], [512, 512, 256], [64, 64, 2048]];
    let products = sizes.map(|size| [[false, false], [false, true], [true, false]].map(|trans| product(size, trans)));
    let convolutions = [([64, 64], 56, 3, 1), ([128, 256], 28, 3, 1), ([256, 256], 28, 1, 1), ([128, 256], 56, 3, 2)];
    let convolutions =
        convolutions.map(|(channels, extent, kernel, stride)| convolution(channels, extent, kernel, stride));
    let others = products.into_iter().flatten().chain(convolutions);
    let plans: Vec<Plan> = plans().into_iter().chain(others).collect();
    let dispatches = plans.iter().flat_map(|plan| plan.dispatches(GpuTraits::GPU).unwrap());
    let of_plans = dispatches.flat_map(|dispatches| dispatches.list).map(|dispatch| dispatch.kernel);
    let kernels: Vec<Kernel> = of_plans.chain(between_normalizations()).collect();
    let mut values: BTreeMap<(String, &str), BTreeSet<String>> = BTreeMap::new();
    for kernel in &kernels {
        for (name, value) in &kernel.constants {
            values.entry((kernel.label(), name)).or_default().insert(value.to_string());
        }
    }
    let name = |kernel: &Kernel| {
        let differing = kernel.constants.iter().filter(|(name, _)| values[&(kernel.label(), *name)].len() > 1);
        let differing: Vec<String> = differing.map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{}{}", kernel.label(), differing.concat())
    };
    kernels.iter().map(|kernel| (name(kernel), kernel.clone())).collect()
}

/// A kernel as a release build gives it to Vulkan, without naga's checks, and the numbers of its uniforms.
fn compile(kernel: &Kernel) -> (Vec<u32>, Vec<u32>) {
    let module = naga::front::wgsl::parse_str(&kernel.source).unwrap();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator.validate(&module).unwrap();
    let constants = kernel.constants.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let entry_point = Some((ShaderStage::Compute, &*kernel.entry_point));
    let (module, info) = process_overrides(&module, &info, entry_point, &constants).unwrap();
    let options = spv::Options { lang_version: (1, 3), force_loop_bounding: false, ..spv::Options::default() };
    let words = spv::write_vec(&module, &info, &options, None).unwrap();
    let uniforms = module.global_variables.iter().filter(|(_, global)| global.space == naga::AddressSpace::Uniform);
    (words, uniforms.filter_map(|(_, global)| global.binding.map(|binding| binding.binding)).collect())
}

/// The tool's table of all kernels; `None` where it finds no compiler.
fn table() -> Option<String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("registers");
    std::fs::create_dir_all(&folder).unwrap();
    let kernels = kernels();
    assert!(kernels.len() > 40, "{} kernels", kernels.len());
    let mut index = Vec::new();
    for (place, (name, kernel)) in kernels.iter().enumerate() {
        let (words, uniforms) = compile(kernel);
        let (file, bytes) =
            (format!("{place}.spv"), words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
        std::fs::write(folder.join(&file), bytes).unwrap();
        index.push(json!([name, file, kernel.entry_point, uniforms]));
    }
    std::fs::write(folder.join("index.json"), Value::from(index).to_string()).unwrap();
    let run = Command::new("python3").arg(TOOL).arg("--modules").arg(&folder).output();
    let output = match run {
        Ok(output) if output.status.code() != Some(MISSING) => output,
        Ok(output) => return skip(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => return skip(&format!("python3: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn skip(reason: &str) -> Option<String> {
    println!("registers were not compared: {reason}");
    None
}

#[test]
fn registers_and_instructions_are_those_that_are_pinned() {
    let Some(table) = table() else { return };
    let limits = [
        ("| matmul_tiled.staged", MAX_GEMM_INSTRUCTIONS),
        ("| matmul_large.large", MAX_GEMM_INSTRUCTIONS),
        ("| conv2d_gemm.gemm", MAX_PATCH_INSTRUCTIONS),
        ("| conv2d_gemm.slices", MAX_PATCH_INSTRUCTIONS),
        ("| conv2d_grad_weight_gemm.gemm", MAX_WEIGHT_INSTRUCTIONS),
    ];
    for (name, most) in limits {
        for row in table.lines().filter(|row| row.starts_with(name)) {
            let loop_instructions: u32 = row.trim_matches([' ', '|']).rsplit(' ').next().unwrap().parse().unwrap();
            assert!(loop_instructions <= most, "{row}");
        }
    }
    if std::env::var_os("WGRAD_PIN").is_some() {
        std::fs::write(PINNED, &table).unwrap();
    }
    let pinned = std::fs::read_to_string(PINNED).unwrap();
    let (compiler, wanted) = (table.lines().next(), pinned.lines().next());
    if compiler != wanted {
        println!("registers were not compared: {compiler:?} is installed, and {PINNED} is {wanted:?}");
        return;
    }
    assert_eq!(table, pinned, "what a GPU's compiler makes of kernels changed; WGRAD_PIN=1 writes {PINNED} anew");
}
