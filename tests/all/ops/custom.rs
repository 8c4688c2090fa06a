//! Ops of a user's own, as the course's exercises have them written by hand: gradients, GPU kernels, and what is
//! missing said plainly.

use wgrad::ops::{Array, ArrayMut, CustomKernel, CustomOp};
use wgrad::{Device, Error, Graph, Plan, Program, Result, Shape, Tensor, gradcheck};

use crate::cases::{Case, Fill, input};
use crate::harness::{check, gpu, own_gpu};

/// The mean of (x − target)² over all elements.
#[derive(Debug)]
struct MeanSquaredError;

impl CustomOp for MeanSquaredError {
    fn name(&self) -> &str {
        "my_mse"
    }

    fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        match inputs {
            [x, target] if x == target => Ok(vec![Shape::scalar()]),
            _ => Err(Error::Operand {
                op: self.name().to_owned(),
                expected: "two operands of one shape".to_owned(),
                got: format!("{inputs:?}"),
            }),
        }
    }

    fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]) {
        let (x, target) = (inputs[0].data, inputs[1].data);
        let sum: f64 = x.iter().zip(target).map(|(x, target)| (x - target).powi(2)).sum();
        outputs[0].data[0] = sum / x.len() as f64;
    }

    fn backward(
        &self,
        inputs: &[Array<'_>],
        _outputs: &[Array<'_>],
        grad_outputs: &[Array<'_>],
        grad_inputs: &mut [ArrayMut<'_>],
    ) {
        let (x, target) = (inputs[0].data, inputs[1].data);
        let scale = 2.0 * grad_outputs[0].data[0] / x.len() as f64;
        for i in 0..x.len() {
            grad_inputs[0].data[i] = scale * (x[i] - target[i]);
            grad_inputs[1].data[i] = -scale * (x[i] - target[i]);
        }
    }
}

/// x·Wᵀ + b for x (N, I), W (O, I) and b (O).
#[derive(Debug)]
struct Linear;

impl CustomOp for Linear {
    fn name(&self) -> &str {
        "my_linear"
    }

    fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        Ok(vec![Shape::from([inputs[0][0], inputs[1][0]])])
    }

    fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]) {
        let [x, weight, bias] = inputs else { panic!("three operands") };
        let (num_in, num_out) = (weight.shape[1], weight.shape[0]);
        for (i, y) in outputs[0].data.iter_mut().enumerate() {
            let (row, out) = (i / num_out, i % num_out);
            let products = (0..num_in).map(|k| x.data[row * num_in + k] * weight.data[out * num_in + k]);
            *y = bias.data[out] + products.sum::<f64>();
        }
    }

    fn backward(
        &self,
        inputs: &[Array<'_>],
        _outputs: &[Array<'_>],
        grad_outputs: &[Array<'_>],
        grad_inputs: &mut [ArrayMut<'_>],
    ) {
        let [x, weight, _] = inputs else { panic!("three operands") };
        let [grad_x, grad_weight, grad_bias] = grad_inputs else { panic!("three operands") };
        let (num_in, num_out) = (weight.shape[1], weight.shape[0]);
        for (i, &grad) in grad_outputs[0].data.iter().enumerate() {
            let (row, out) = (i / num_out, i % num_out);
            grad_bias.data[out] += grad;
            for k in 0..num_in {
                grad_x.data[row * num_in + k] += grad * weight.data[out * num_in + k];
                grad_weight.data[out * num_in + k] += grad * x.data[row * num_in + k];
            }
        }
    }
}

/// (x², x³), with kernels for a GPU. The first power is a parameter only to have one.
#[derive(Debug)]
struct Powers {
    scale: f32,
}

const POWERS: &str = "
struct Params { num_elems: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> square: array<f32>;
@group(0) @binding(3) var<storage, read_write> cube: array<f32>;

@group(0) @binding(4) var<storage, read> grad_square: array<f32>;
@group(0) @binding(5) var<storage, read> grad_cube: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_x: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.num_elems {
        square[id.x] = params.scale * x[id.x] * x[id.x];
        cube[id.x] = x[id.x] * x[id.x] * x[id.x];
    }
}

@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.num_elems {
        let slope = params.scale * 2.0 * x[id.x];
        grad_x[id.x] = grad_square[id.x] * slope + grad_cube[id.x] * 3.0 * x[id.x] * x[id.x];
    }
}
";

impl Powers {
    fn kernel(&self, entry_point: &'static str, inputs: &[Shape]) -> Option<CustomKernel> {
        let num_elems = inputs[0].num_elems() as u32;
        Some(CustomKernel {
            source: POWERS.into(),
            entry_point: entry_point.into(),
            params: vec![num_elems, self.scale.to_bits()],
            workgroups: [num_elems.div_ceil(64), 1, 1],
        })
    }
}

impl CustomOp for Powers {
    fn name(&self) -> &str {
        "powers"
    }

    fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        Ok(vec![inputs[0].clone(), inputs[0].clone()])
    }

    fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]) {
        for (i, x) in inputs[0].data.iter().enumerate() {
            outputs[0].data[i] = f64::from(self.scale) * x * x;
            outputs[1].data[i] = x * x * x;
        }
    }

    fn backward(
        &self,
        inputs: &[Array<'_>],
        _outputs: &[Array<'_>],
        grad_outputs: &[Array<'_>],
        grad_inputs: &mut [ArrayMut<'_>],
    ) {
        for (i, x) in inputs[0].data.iter().enumerate() {
            let slope = f64::from(self.scale) * 2.0 * x;
            grad_inputs[0].data[i] = grad_outputs[0].data[i] * slope + grad_outputs[1].data[i] * 3.0 * x * x;
        }
    }

    fn forward_wgsl(&self, inputs: &[Shape]) -> Option<CustomKernel> {
        self.kernel("forward", inputs)
    }

    fn backward_wgsl(&self, inputs: &[Shape]) -> Option<CustomKernel> {
        self.kernel("backward", inputs)
    }
}

#[test]
fn gradients_of_hand_written_ops_hold() -> Result<()> {
    let draw = |shape: &[usize], seed| input(shape.to_vec(), Fill::Uniform).tensor(seed);
    let (x, target) = (draw(&[3, 4], 1), draw(&[3, 4], 2));
    assert_eq!(gradcheck(&[x.clone(), target], |graph, v| graph.custom(MeanSquaredError, v))?, None);
    let (weight, bias) = (draw(&[5, 4], 3), draw(&[5], 4));
    assert_eq!(gradcheck(&[x, weight, bias], |graph, v| graph.custom(Linear, v))?, None);
    Ok(())
}

#[test]
fn a_hand_written_gradient_that_is_wrong_is_found() -> Result<()> {
    /// Halves its input and claims a slope of 1.
    #[derive(Debug)]
    struct Wrong;
    impl CustomOp for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }
        fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
            Ok(inputs.to_vec())
        }
        fn forward(&self, inputs: &[Array<'_>], outputs: &mut [ArrayMut<'_>]) {
            outputs[0].data[0] = inputs[0].data[0] / 2.0;
        }
        fn backward(
            &self,
            _inputs: &[Array<'_>],
            _outputs: &[Array<'_>],
            grad_outputs: &[Array<'_>],
            grad_inputs: &mut [ArrayMut<'_>],
        ) {
            grad_inputs[0].data[0] = grad_outputs[0].data[0];
        }
    }
    assert!(gradcheck(&[Tensor::scalar(1.0)], |graph, v| graph.custom(Wrong, v))?.is_some());
    Ok(())
}

#[test]
fn hand_written_kernels_run() {
    let case = |name: &str, scale: f32, take: &'static [usize]| {
        let inputs = vec![input([5, 13], Fill::Uniform)];
        Case::new(format!("custom {name}"), inputs, move |graph, values| {
            let outputs = graph.custom(Powers { scale }, values)?;
            Ok(take.iter().map(|&output| outputs[output]).collect())
        })
        // WGSL lets a compiler assume that there are neither infinities nor NaN, and a user's kernel says nothing of them:
        // NVIDIA's takes the x of a·x + b·x·x out, so that −∞ gives b·∞ where the sum as written is ∞ − ∞.
        .without_special_values()
    };
    // With only one output in use, the gradient of the other is zero.
    check(vec![case("powers", 1.0, &[0, 1]), case("square", 0.5, &[0]), case("cube", 2.0, &[1])]);
}

#[test]
fn ops_of_one_name_keep_their_own_kernels() -> Result<()> {
    /// x plus a number that stands in the source.
    #[derive(Debug)]
    struct Plus(&'static str);
    impl CustomOp for Plus {
        fn name(&self) -> &str {
            "plus"
        }
        fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
            Ok(inputs.to_vec())
        }
        fn forward(&self, _inputs: &[Array<'_>], _outputs: &mut [ArrayMut<'_>]) {}
        fn backward(&self, _: &[Array<'_>], _: &[Array<'_>], _: &[Array<'_>], _: &mut [ArrayMut<'_>]) {}
        fn forward_wgsl(&self, _inputs: &[Shape]) -> Option<CustomKernel> {
            let source = format!(
                "@group(0) @binding(1) var<storage, read> x: array<f32>;
                 @group(0) @binding(2) var<storage, read_write> y: array<f32>;
                 @compute @workgroup_size(1) fn main() {{ y[0] = x[0] + {}; }}",
                self.0
            );
            let (source, entry_point) = (source.into(), "main".into());
            Some(CustomKernel { source, entry_point, params: Vec::new(), workgroups: [1; 3] })
        }
    }
    let mut graph = Graph::new("twice");
    let x = graph.constant(Tensor::scalar(1.0));
    let once = graph.custom(Plus("10.0"), &[x])?;
    let twice = graph.custom(Plus("200.0"), &once)?;
    graph.output("y", twice[0])?;
    let mut program = Program::compile(gpu(), vec![Plan::new(&graph)?], 0)?;
    program.run_once("twice")?;
    assert_eq!(program.output("twice", "y")?.item()?, 211.0);
    Ok(())
}

#[test]
fn an_op_without_wgsl_says_so_on_a_gpu_and_runs_on_the_cpu() -> Result<()> {
    let mut graph = Graph::new("mse");
    let x = graph.constant(Tensor::f32([2], vec![1.0, 3.0])?);
    let target = graph.constant(Tensor::f32([2], vec![0.0, 1.0])?);
    let loss = graph.custom(MeanSquaredError, &[x, target])?;
    graph.output("loss", loss[0])?;
    let plan = Plan::new(&graph)?;
    assert!(plan.to_string().contains("my_mse"), "{plan}");
    let Err(error) = Program::compile(gpu(), vec![plan.clone()], 0) else { panic!("it has no kernel") };
    assert!(matches!(&error, Error::Unsupported { op, .. } if op == "my_mse"), "{error}");
    assert!(error.to_string().contains("forward_wgsl"), "{error}");
    let mut program = Program::compile(&Device::Cpu, vec![plan], 0)?;
    program.run_once("mse")?;
    assert_eq!(program.output("mse", "loss")?.item()?, 2.5);
    Ok(())
}

/// An op for a GPU alone, of one kernel `main`. Its output is like its input.
#[derive(Debug)]
struct OneKernel {
    name: &'static str,
    source: String,
    params: Vec<u32>,
    workgroups: [u32; 3],
}

impl CustomOp for OneKernel {
    fn name(&self) -> &str {
        self.name
    }

    fn output_shapes(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        Ok(inputs.to_vec())
    }

    fn forward(&self, _inputs: &[Array<'_>], _outputs: &mut [ArrayMut<'_>]) {}

    fn backward(&self, _: &[Array<'_>], _: &[Array<'_>], _: &[Array<'_>], _: &mut [ArrayMut<'_>]) {}

    fn forward_wgsl(&self, _inputs: &[Shape]) -> Option<CustomKernel> {
        let OneKernel { source, params, workgroups, .. } = self;
        let source = source.clone().into();
        Some(CustomKernel { source, entry_point: "main".into(), params: params.clone(), workgroups: *workgroups })
    }
}

#[test]
fn wgsl_that_does_not_compile_is_an_error() -> Result<()> {
    let op = OneKernel { name: "broken", source: "fn main( {".to_owned(), params: Vec::new(), workgroups: [1; 3] };
    let mut graph = Graph::new("broken");
    let x = graph.constant(Tensor::scalar(1.0));
    let y = graph.custom(op, &[x])?;
    graph.output("y", y[0])?;
    let Err(error) = Program::compile(gpu(), vec![Plan::new(&graph)?], 0) else { panic!("it does not compile") };
    assert!(matches!(&error, Error::Kernel { kernel, .. } if kernel == "broken.main"), "{error}");
    Ok(())
}

/// A dispatch that no device takes is an error that says so, and neither it nor a kernel that does not fit its bindings
/// makes the device unusable for others.
#[test]
fn a_device_stays_usable_after_a_dispatch_that_cannot_be() -> Result<()> {
    // So many workgroups, which read a uniform of so many words.
    let odd = |workgroups: [u32; 3], words: usize| {
        let source = format!(
            "@group(0) @binding(0) var<uniform> params: array<vec4<u32>, {}>;
             @group(0) @binding(1) var<storage, read> x: array<f32>;
             @group(0) @binding(2) var<storage, read_write> y: array<f32>;
             @compute @workgroup_size(1) fn main() {{ y[0] = x[0] + f32(params[0].x); }}",
            words / 4
        );
        OneKernel { name: "odd", source, params: vec![0], workgroups }
    };
    let device = own_gpu();
    let run = |op: OneKernel| -> Result<f64> {
        let mut graph = Graph::new("odd");
        let x = graph.constant(Tensor::scalar(1.0));
        let y = graph.custom(op, &[x])?;
        graph.output("y", y[0])?;
        let mut program = Program::compile(&device, vec![Plan::new(&graph)?], 0)?;
        program.run_once("odd")?;
        program.output("odd", "y")?.item()
    };
    let error = run(odd([70_000, 1, 1], 4)).expect_err("too many workgroups").to_string();
    assert!(error.contains("odd.main") && error.contains("65535"), "{error}");
    // Found only as the dispatch is recorded: the uniform is larger than what is bound.
    let error = run(odd([1; 3], 4096)).expect_err("a binding that is too small");
    assert!(!error.to_string().contains("lost"), "{error}");
    assert_eq!(run(odd([1; 3], 4))?, 1.0);
    Ok(())
}

/// Two invocations store to one word of workgroup memory. `tests/run.sh --validation` sees that the layer says so.
#[test]
#[ignore = "a fault on purpose, for tests/run.sh --validation"]
fn a_race_for_the_validation_layer() -> Result<()> {
    let source = "
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        var<workgroup> shared_words: array<f32, 32>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
            shared_words[lane / 2u] = x[lane];
            workgroupBarrier();
            y[lane] = shared_words[lane / 2u];
        }";
    let op = OneKernel { name: "race", source: source.to_owned(), params: Vec::new(), workgroups: [1; 3] };
    let mut graph = Graph::new("race");
    let x = graph.constant(Tensor::f32([64], vec![1.0; 64])?);
    let y = graph.custom(op, &[x])?;
    graph.output("y", y[0])?;
    let mut program = Program::compile(&own_gpu(), vec![Plan::new(&graph)?], 0)?;
    program.run_once("race")?;
    assert_eq!(program.output("race", "y")?.to_f64_vec(), [1.0; 64]);
    Ok(())
}
