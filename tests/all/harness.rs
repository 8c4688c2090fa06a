//! Runs a case in every way: gradients against finite differences in f64, every op of forward and backward on an
//! adapter, and on the CPU in f32, against the f64 reference.

use std::sync::OnceLock;

use wgrad::exec::Kernels;
use wgrad::exec::verify::{verify, verify_kinds};
use wgrad::{Device, Graph, Plan, Program, StateDict, StepTable, Tensor, Value, gradcheck};

use crate::cases::Case;

/// The adapter that kernels are tested on: `WGRAD_DEVICE`, else the best there is. Never skipped: a machine without
/// one has to install a software adapter (`tests/run.sh` does).
pub fn gpu() -> &'static Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(own_gpu)
}

/// The same adapter, opened anew: for a test that makes errors on purpose, which another one on the same device may be
/// told of.
pub fn own_gpu() -> Device {
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let (device, reason) = Device::select_with_reason(&wanted).expect("tests need an adapter; run tests/run.sh");
    eprintln!("testing on {device}: {reason}");
    device
}

/// The same adapter within WebGPU's default limits and without any feature, once with the kernels of a real GPU and
/// once with those of a software adapter: what the tests' own adapter would not choose by itself.
pub fn portable() -> [&'static Device; 2] {
    static DEVICES: OnceLock<[Device; 2]> = OnceLock::new();
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let open = |kernels| Device::select_portable(&wanted, kernels).expect("tests need an adapter; run tests/run.sh");
    DEVICES.get_or_init(|| [Kernels::ForGpu, Kernels::ForSoftware].map(open)).each_ref()
}

/// Checks cases in every way and reports all that fail.
pub fn check(cases: Vec<Case>) {
    check_on(&[gpu(), &Device::Cpu], cases);
}

/// [`check`], and on adapters that get other kernels.
pub fn check_every_kernel(cases: Vec<Case>) {
    let [like_gpu, like_software] = portable();
    check_on(&[gpu(), like_gpu, like_software, &Device::Cpu], cases);
}

/// Checks the kernels of a real GPU alone.
pub fn check_gpu_kernels(cases: Vec<Case>) {
    check_on(&portable()[..1], cases.into_iter().map(Case::without_gradient_check).collect());
}

/// Checks the CPU's kernels alone, in f32 against f64.
pub fn check_cpu(cases: Vec<Case>) {
    check_on(&[&Device::Cpu], cases.into_iter().map(Case::without_gradient_check).collect());
}

/// Checks whole runs on the CPU, where ops run image by image, against whole runs of the reference.
pub fn check_cpu_runs(cases: Vec<Case>) {
    assert!(!cases.is_empty());
    let failures: Vec<String> = cases.iter().filter_map(|case| check_cpu_run(case).err()).collect();
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// The most outputs or inputs of a case.
const MAX_OUTPUTS: usize = 8;

fn check_cpu_run(case: &Case) -> Result<(), String> {
    let plan = plan_with_gradients(case).map_err(|error| format!("{}: {error}", case.name))?;
    let inputs = inputs_of(case.tensors(), &plan);
    let run = |device: &Device| -> wgrad::Result<Vec<Vec<f64>>> {
        let mut program = Program::compile(device, vec![plan.clone()], 0)?;
        inputs.iter().try_for_each(|(name, tensor)| program.write(name, tensor))?;
        program.run("case", &scalars())?;
        // Those that the plan has.
        let names = (0..MAX_OUTPUTS).flat_map(|index| [format!("output {index}"), format!("grad {index}")]);
        Ok(names.filter_map(|name| Some(program.output("case", &name).ok()?.to_f64_vec())).collect())
    };
    let both = run(&Device::Cpu).and_then(|got| Ok((got, run(&Device::CpuF64)?)));
    let (got, want) = both.map_err(|error| format!("{}: {error}", case.name))?;
    if want.is_empty() || got.len() != want.len() {
        return Err(format!("{}: {} and {} outputs", case.name, got.len(), want.len()));
    }
    for (index, (got, want)) in got.iter().zip(&want).enumerate() {
        let largest = want.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        // `verify` holds each op to its own bound; here rows must be at their places, through a few ops.
        // A difference that is not a number is one, too.
        let is_close = |got: f64, want: f64| (got - want).abs() <= 1e-3 * largest + 1e-6;
        let differs = |(got, want): (&f64, &f64)| !is_close(*got, *want) && got != want;
        let is_both_nan = |(got, want): (&f64, &f64)| got.is_nan() && want.is_nan();
        if let Some(at) = got.iter().zip(want).position(|pair| differs(pair) && !is_both_nan(pair)) {
            return Err(format!("{}: output {index} at {at}: {} and {}", case.name, got[at], want[at]));
        }
    }
    Ok(())
}

fn check_on(devices: &[&Device], cases: Vec<Case>) {
    assert!(!cases.is_empty());
    let failures: Vec<String> = cases.iter().filter_map(|case| check_case_on(devices, case).err()).collect();
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Checks one case in every way and says what failed.
pub fn check_case(case: &Case) -> Result<(), String> {
    check_case_on(&[gpu(), &Device::Cpu], case)
}

fn check_case_on(devices: &[&Device], case: &Case) -> Result<(), String> {
    let fail = |what: &str, error: &dyn std::fmt::Display| format!("{}: {what}: {error}", case.name);
    let tensors = case.tensors();
    if case.check_gradient {
        let mismatch = gradcheck(&tensors, &case.build).map_err(|error| fail("gradcheck", &error))?;
        if let Some(mismatch) = mismatch {
            return Err(format!("{}: gradient differs: {mismatch:?}", case.name));
        }
    }
    let plan = plan_with_gradients(case).map_err(|error| fail("build", &error))?;
    let mut runs = vec![("".to_owned(), tensors)];
    if takes_special_values(case) {
        runs.extend(SPECIAL.map(|special| (format!(", with {special:?}"), case.special_tensors(special))));
    }
    let table = scalars();
    for (with, tensors) in runs {
        let inputs = inputs_of(tensors, &plan);
        for device in devices {
            let verify = if with.is_empty() { verify } else { verify_kinds };
            let report = verify(device, &plan, &inputs, &table, 0).map_err(|error| fail("verify", &error))?;
            if let Some(difference) = report.difference {
                return Err(fail(&format!("{device} against f64{with}"), &difference));
            }
            if report.ops.is_empty() {
                return Err(format!("{}: no op was run", case.name));
            }
        }
    }
    Ok(())
}

/// Values that each case is run with once more, on every device, forward and backward, since a NaN or an infinity has to
/// come out where it should and nowhere else. Subnormals and the largest floats are not among them, nor are cases with
/// large inputs: devices may flush the former, and f32 and f64 part over what overflows, or vanishes and is multiplied by
/// infinity; `special` has those.
pub const SPECIAL: [&[f32]; 3] =
    [&[f32::NAN], &[f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY], &[-0.0, 0.0, f32::NEG_INFINITY, f32::NAN]];

/// Up to this many elements, so that the suite stays short; every kernel has a case below it.
const MAX_SPECIAL_ELEMS: usize = 20_000;

/// Whether a case is run with special values.
pub fn takes_special_values(case: &Case) -> bool {
    case.takes_special_values && case.num_elems() <= MAX_SPECIAL_ELEMS && !case.has_large_inputs()
}

/// The inputs of a case by name, but for those that nothing reads, which are not in the plan.
pub fn inputs_of(tensors: Vec<Tensor>, plan: &Plan) -> StateDict {
    let named = tensors.into_iter().enumerate().map(|(index, tensor)| (format!("input {index}"), tensor));
    named.filter(|(name, _)| plan.states().iter().any(|spec| spec.name == *name)).collect()
}

/// The scalars that cases use; those that a plan does not read are left out.
pub fn scalars() -> StepTable {
    StepTable::new(1).constant("start", 3.0).constant("step", 5.0)
}

/// The plan of a case's outputs and, where it has gradients, of all of those under random output gradients.
pub fn plan_with_gradients(case: &Case) -> wgrad::Result<Plan> {
    let mut graph = Graph::new("case");
    let values = case
        .tensors()
        .iter()
        .enumerate()
        .map(|(index, tensor)| match tensor.dtype() {
            wgrad::DType::F32 => graph.input_with_grad(&format!("input {index}"), tensor.shape()),
            _ => graph.input(&format!("input {index}"), tensor.ty()),
        })
        .collect::<wgrad::Result<Vec<Value>>>()?;
    let outputs = (case.build)(&mut graph, &values)?;
    let mut loss: Option<Value> = None;
    for (index, &output) in outputs.iter().enumerate() {
        graph.output(&format!("output {index}"), output)?;
        if !graph.requires_grad(output) || graph.ty(output).dtype != wgrad::DType::F32 {
            continue;
        }
        let weights = crate::cases::input(graph.shape(output), crate::cases::Fill::Positive).tensor(99 + index as u64);
        let weights = graph.constant(Tensor::f32(weights.shape(), weights.to_f32_vec())?);
        let weighted = graph.mul(output, weights)?;
        let sum = graph.sum_all(weighted)?;
        loss = Some(match loss {
            Some(loss) => graph.add(loss, sum)?,
            None => sum,
        });
    }
    if let Some(loss) = loss {
        let grads = graph.backward(loss)?;
        for (index, &value) in values.iter().enumerate() {
            if let Some(grad) = grads.get(value) {
                graph.output(&format!("grad {index}"), grad)?;
            }
        }
    }
    Plan::new(&graph)
}
