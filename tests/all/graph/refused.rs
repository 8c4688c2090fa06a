//! What is refused, and in which words.

use wgrad::{Shape, nn, ops};

use super::*;

type Use = fn(&mut Graph, Value) -> Result<()>;
type Large = Box<dyn Fn(&mut Graph) -> Result<Value>>;
type Mistake = fn(&mut Graph, Mistakes) -> Result<Value>;

/// What mistakes are made with.
#[derive(Clone, Copy)]
struct Mistakes {
    /// f32 (2, 3)
    x: Value,
    /// f32 (4)
    y: Value,
    /// u32 (2)
    labels: Value,
}

#[test]
fn wrong_operands_are_refused_in_plain_words() {
    let table: [(Mistake, &str); 19] = [
        (|g, v| g.add(v.x, v.y), "add: expected shapes that broadcast (equal extents, or 1), got (2, 3) and (4)"),
        (|g, v| g.mul(v.x, v.labels), "mul: expected a f32 operand, got u32 (2)"),
        (|g, v| g.relu(v.labels), "relu: expected a f32 operand, got u32 (2)"),
        (|g, v| g.sum(v.x, &[2], false), "sum: expected an axis below 2, got axis 2 of shape (2, 3)"),
        (|g, v| g.mean(v.x, &[1, 1], true), "mean: expected distinct axes in rising order, got [1, 1]"),
        (|g, v| g.amax(v.labels, &[0], false), "amax: expected a f32 operand, got u32 (2)"),
        (|g, v| g.reshape(v.x, [4, 2]), "reshape: expected a shape of 6 elements for (2, 3), got (4, 2)"),
        (|g, v| g.flatten(v.x, 3), "flatten: expected a first axis of at most 2, got 3"),
        (|g, v| g.permute(v.x, &[0, 0]), "permute: expected each axis of (2, 3) once, got [0, 0]"),
        (|g, v| g.permute(v.x, &[0]), "permute: expected each axis of (2, 3) once, got [0]"),
        (|g, v| g.transpose(v.x, 0, 2), "transpose: expected axes below 2, got 0 and 2"),
        (|g, v| g.broadcast_to(v.x, [3, 3]), "broadcast_to: expected a shape that (2, 3) broadcasts to, got (3, 3)"),
        (|g, v| g.broadcast_to(v.x, [3]), "broadcast_to: expected a shape that (2, 3) broadcasts to, got (3)"),
        (|g, v| g.sum_to(v.x, [2]), "sum_to: expected a shape that broadcasts to (2, 3), got (2)"),
        (|g, v| g.sum_to(v.x, [1, 2, 3]), "sum_to: expected a shape that broadcasts to (2, 3), got (1, 2, 3)"),
        (|g, v| g.slice(v.x, &[(0..1).into()]), "slice: expected one range for each axis of (2, 3), got 1"),
        (
            |g, v| g.slice(v.x, &[(0..3).into(), (0..1).into()]),
            "slice: expected ranges within (2, 3) and steps of at least 1, got SliceRange { start: 0, stop: 3, step: 1 }",
        ),
        (
            |g, v| g.slice(v.x, &[SliceRange { start: 0, stop: 2, step: 0 }, (0..1).into()]),
            "slice: expected ranges within (2, 3) and steps of at least 1, got SliceRange { start: 0, stop: 2, step: 0 }",
        ),
        (
            |g, v| g.backward(v.x).map(|_| v.x),
            "backward: expected a float loss of one element; reduce it first, for example with mean, got f32 (2, 3)",
        ),
    ];
    let mut graph = Graph::new("g");
    let operands = Mistakes {
        x: graph.input_with_grad("x", [2, 3]).expect("a new name"),
        y: graph.input("y", TensorType::f32([4])).expect("a new name"),
        labels: graph.input("labels", TensorType::u32([2])).expect("a new name"),
    };
    for (mistake, expected) in table {
        assert_eq!(message(mistake(&mut graph, operands)), expected);
    }
    assert!(!graph.requires_grad(operands.y), "nothing above depends on y");
    let loss = graph.sum_all(operands.y).expect("there are elements");
    let expected = "backward: expected a loss that depends on a parameter, got one that depends on none";
    assert_eq!(message(graph.backward(loss)), expected);
}

/// Wherever a value goes in, one of another graph is refused, and never indexes this graph's nodes.
#[test]
fn a_value_of_another_graph_is_refused() {
    let mut other = Graph::new("other");
    for index in 0..9 {
        other.input(&format!("{index}"), TensorType::f32([2, 3])).expect("a new name");
    }
    let stranger = other.input_with_grad("stranger", [2, 3]).expect("a new name");
    let uses: [(&str, Use); 32] = [
        ("relu", |g, v| g.relu(v).map(drop)),
        ("add", |g, v| g.add(v, v).map(drop)),
        ("sum", |g, v| g.sum(v, &[0], false).map(drop)),
        ("sum_all", |g, v| g.sum_all(v).map(drop)),
        ("mean_all", |g, v| g.mean_all(v).map(drop)),
        ("sum_to", |g, v| g.sum_to(v, [3]).map(drop)),
        ("reshape", |g, v| g.reshape(v, [6]).map(drop)),
        ("flatten", |g, v| g.flatten(v, 0).map(drop)),
        ("transpose", |g, v| g.transpose(v, 0, 1).map(drop)),
        ("permute", |g, v| g.permute(v, &[1, 0]).map(drop)),
        ("broadcast_to", |g, v| g.broadcast_to(v, [5, 2, 3]).map(drop)),
        ("detach", |g, v| g.detach(v).map(drop)),
        ("matmul", |g, v| g.matmul(v, v).map(drop)),
        ("linear", |g, v| g.linear(v, v, None).map(drop)),
        ("conv2d", |g, v| g.conv2d(v, v, None, Conv2d::default()).map(drop)),
        ("softmax", |g, v| g.softmax(v, 0).map(drop)),
        ("log_softmax", |g, v| g.log_softmax(v, 0).map(drop)),
        ("cross_entropy", |g, v| g.cross_entropy(v, v, None, CrossEntropy::default()).map(drop)),
        ("nll_loss", |g, v| g.nll_loss(v, v, None, NllLoss::default()).map(drop)),
        ("mse_loss", |g, v| g.mse_loss(v, v, Reduction::Mean).map(drop)),
        ("l1_loss", |g, v| g.l1_loss(v, v, Reduction::Mean).map(drop)),
        ("bce_with_logits", |g, v| g.bce_with_logits(v, v, Reduction::Mean).map(drop)),
        ("max_pool2d", |g, v| g.max_pool2d(v, MaxPool2d::new([1, 1])).map(drop)),
        ("avg_pool2d", |g, v| g.avg_pool2d(v, AvgPool2d::new([1, 1])).map(drop)),
        ("adaptive_avg_pool2d", |g, v| g.adaptive_avg_pool2d(v, [1, 1]).map(drop)),
        ("global_avg_pool2d", |g, v| g.global_avg_pool2d(v).map(drop)),
        ("slice", |g, v| g.slice(v, &[(0..1).into(), (0..1).into()]).map(drop)),
        ("argmax", |g, v| g.argmax(v, 0).map(drop)),
        ("concat", |g, v| g.concat(&[v, v], 0).map(drop)),
        ("pad", |g, v| g.pad(v, &[(1, 1), (0, 0)]).map(drop)),
        ("output", |g, v| g.output("out", v)),
        ("backward", |g, v| g.backward(v).map(drop)),
    ];
    for (name, f) in uses {
        let mut graph = Graph::new("mine");
        let got = message(f(&mut graph, stranger));
        let expected = "graph: expected a value of graph \"mine\", got a value of another graph";
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn a_name_means_one_thing() {
    let mut graph = Graph::new("g");
    let weight = graph.parameter("weight", [2], Init::Zeros).expect("a new name");
    let again = graph.share(|graph| graph.parameter("weight", [2], Init::Zeros));
    assert_eq!(again.expect("the same again"), weight);
    let lr = graph.scalar("lr", DType::F32).expect("a new name");
    assert_eq!(graph.scalar("lr", DType::F32).expect("the same again"), lr);
    let advice = "; give one of them another name";
    let weight_as = |second: &str| {
        format!("\"weight\" is declared twice: Parameter f32 (2) starting as Zeros and {second}{advice}")
    };
    let ones = Init::Constant(1.0);
    let shared = "the same again, which would share its values (Graph::share allows it)";
    let table = [
        (message(graph.parameter("weight", [2], Init::Zeros)), weight_as(shared)),
        (message(graph.parameter("weight", [3], Init::Zeros)), weight_as("Parameter f32 (3) starting as Zeros")),
        (message(graph.parameter("weight", [2], ones)), weight_as("Parameter f32 (2) starting as Constant(1.0)")),
        (message(graph.input("weight", TensorType::f32([2]))), weight_as("Input f32 (2) starting as Zeros")),
        (
            message(graph.scalar("weight", DType::F32)),
            format!("\"weight\" is declared twice: f32 (2) and a scalar, f32 (){advice}"),
        ),
        (
            message(graph.input("lr", TensorType::f32([]))),
            format!("\"lr\" is declared twice: a scalar and Input f32 () starting as Zeros{advice}"),
        ),
        (
            message(graph.scalar("lr", DType::U32)),
            format!("\"lr\" is declared twice: f32 () and a scalar, u32 (){advice}"),
        ),
    ];
    for (got, expected) in table {
        assert_eq!(got, expected);
    }
    graph.output("out", weight).expect("a new name");
    graph.output("out", weight).expect("the same again");
    let expected = format!("\"out\" is declared twice: output f32 (2) and output f32 (){advice}");
    assert_eq!(message(graph.output("out", lr)), expected);
    // The refusal left the first in place.
    assert_eq!(message(graph.output("out", weight)), "no error");
}

#[test]
fn plans_of_a_program_agree_on_states_and_differ_in_name() {
    let graph = |name: &str, extent: usize| {
        let mut graph = Graph::new(name);
        let weight = graph.parameter("weight", [extent], Init::Zeros).expect("a new name");
        graph.output("weight", weight).expect("a new name");
        Plan::new(&graph).expect("the graph is sound")
    };
    for device in devices() {
        let clash = Program::compile(&device, vec![graph("a", 2), graph("b", 3)], 0).map(drop);
        assert_eq!(
            message(clash),
            "\"weight\" is declared twice: Parameter f32 (2) starting as Zeros and Parameter f32 (3) starting as \
             Zeros; give one of them another name"
        );
        let clash = Program::compile(&device, vec![graph("a", 2), graph("a", 2)], 0).map(drop);
        let expected =
            "\"a\" is declared twice: an entry of 0 steps and an entry of 0 steps; give one of them another name";
        assert_eq!(message(clash), expected);
    }
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let mut graph = Graph::new("train");
    let x = graph.input("x", TensorType::f32([2])).expect("a new name");
    let lr = graph.scalar("lr", DType::F32).expect("a new name");
    let y = graph.mul(x, lr).expect("scalars broadcast");
    graph.output("y", y).expect("a new name");
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        let table = StepTable::new(1).constant("lr", 1.0);
        let answers = [
            (message(program.run("test", &table)), "no entry is called \"test\"; there is: train"),
            (message(program.output("test", "y")), "no entry is called \"test\"; there is: train"),
            (message(program.output("train", "z")), "no output is called \"z\"; there is: y"),
            (message(program.read("w")), "no state is called \"w\"; there is: x"),
            (message(program.write("w", &vector(&[0.0]))), "no state is called \"w\"; there is: x"),
            (message(program.run_once("train")), "no scalar is called \"lr\"; there is: nothing"),
            (
                message(program.run("train", &StepTable::new(1).constant("momentum", 1.0))),
                "no scalar is called \"lr\"; there is: momentum",
            ),
            (message(program.write("x", &vector(&[0.0; 3]))), "tensor \"x\": expected f32 (2), got f32 (3)"),
            (
                message(program.write("x", &Tensor::u32([2], vec![1, 2]).expect("two elements"))),
                "tensor \"x\": expected f32 (2), got u32 (2)",
            ),
        ];
        for (got, expected) in answers {
            assert_eq!(got, expected, "on {device}");
        }
    }
    let none = message(Device::select("no such adapter").map(drop));
    assert!(none.starts_with("no GPU adapter matches \"no such adapter\"; found: "), "{none}");
}

#[test]
fn a_count_in_a_table_is_a_whole_number_in_range() {
    let mut graph = Graph::new("g");
    let start = graph.scalar("start", DType::U32).expect("a new name");
    let copy = graph.reshape(start, [1]).expect("one element");
    graph.output("start", copy).expect("a new name");
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        for (value, word) in [(0.5, "0.5"), (-1.0, "-1"), (4_294_967_296.0, "4294967296"), (f64::NAN, "NaN")] {
            let expected = format!("tensor \"start\": expected whole numbers from 0 to 4294967295, got {word}");
            assert_eq!(message(program.run("g", &StepTable::new(1).constant("start", value))), expected);
        }
        // Too large for f32 to hold exactly.
        program.run("g", &StepTable::new(1).constant("start", 4_294_967_295.0)).expect("the largest u32");
        let got = program.output("g", "start").expect("the output exists");
        assert_eq!(got, Tensor::u32([1], vec![u32::MAX]).expect("one element"), "on {device}");
    }
}

/// A value has elements: nothing can be declared, computed or cut out of a value without any.
#[test]
fn values_without_elements_are_refused() {
    let mut graph = Graph::new("g");
    let expected = "tensor \"x\": expected at least one element, got f32 (2, 0)";
    assert_eq!(message(graph.input("x", TensorType::f32([2, 0]))), expected);
    let x = graph.input("x", TensorType::f32([2, 3])).expect("the refusal left no trace");
    let expected = "slice: expected operands that give at least one element, got f32 (0, 3)";
    assert_eq!(message(graph.slice(x, &[(1..1).into(), (0..3).into()])), expected);
    let wrong = Init::Values(vector(&[1.0]));
    assert_eq!(message(graph.parameter("w", [2], wrong)), "tensor \"w\": expected f32 (2), got f32 (1)");
}

/// Nor has one more elements than can be counted in bytes: a count that wrapped would pass for a small one, and kernels
/// would reach beyond the memory.
#[test]
fn values_with_too_many_elements_are_refused() {
    const MOST: &str = "at most 1099511627776 elements";
    // Times 4 this wraps to 4.
    let large = (1 << 62) + 1;
    let mut graph = Graph::new("g");
    for shape in [[4, large], [large, 4], [1 << 32, 1 << 31], [1, (1 << 40) + 1]] {
        let got = format!("f32 {}", Shape::from(shape));
        let expected = format!("tensor \"x\": expected {MOST}, got {got}");
        assert_eq!(message(graph.input("x", TensorType::f32(shape))), expected);
        assert_eq!(message(graph.parameter("x", shape, Init::Zeros)), expected);
    }
    let wrapped = Tensor::f32([4, large], vec![1.0; 4]);
    assert_eq!(message(wrapped), "tensor: expected a shape whose elements can be counted, got 4");

    let x = graph.input_with_grad("x", [1, 1, 4, 4]).expect("small");
    let column = graph.input("column", TensorType::f32([1 << 21, 1])).expect("small");
    let row = graph.input("row", TensorType::f32([1, 1 << 21])).expect("small");
    let one = graph.input("one", TensorType::f32([1])).expect("small");
    let conv = ops::Conv2d::default();
    let pool = ops::MaxPool2d::new([2, 2]);
    let far = usize::MAX / 2;
    let padded = move |padding: usize| ops::Conv2d { padding: [padding; 2], ..conv };
    let mistakes: [(&str, Large); 17] = [
        ("matmul", Box::new(move |g| g.matmul(column, row))),
        ("add", Box::new(move |g| g.add(column, row))),
        ("broadcast_to", Box::new(move |g| g.broadcast_to(one, [4, large]))),
        ("reshape", Box::new(move |g| g.reshape(one, [4, large]))),
        ("pad", Box::new(move |g| g.pad(one, &[(usize::MAX, 2)]))),
        ("pad", Box::new(move |g| g.pad(one, &[(1 << 40, 0)]))),
        ("conv2d", Box::new(move |g| g.conv2d(x, x, None, padded(usize::MAX)))),
        ("conv2d", Box::new(move |g| g.conv2d(x, x, None, padded(far)))),
        ("conv2d", Box::new(move |g| g.conv2d(x, x, None, padded(1 << 29)))),
        ("conv2d", Box::new(move |g| g.conv2d(x, x, None, ops::Conv2d { stride: [1, far], ..conv }))),
        ("conv2d", Box::new(move |g| g.conv2d(x, x, None, ops::Conv2d { dilation: [usize::MAX; 2], ..conv }))),
        ("max_pool2d", Box::new(move |g| g.max_pool2d(x, ops::MaxPool2d::new([usize::MAX, 2])))),
        ("max_pool2d", Box::new(move |g| g.max_pool2d(x, ops::MaxPool2d { padding: [far; 2], ..pool }))),
        ("max_pool2d", Box::new(move |g| g.max_pool2d(x, ops::MaxPool2d { dilation: [far; 2], ..pool }))),
        (
            "max_pool2d",
            Box::new(move |g| g.max_pool2d(x, ops::MaxPool2d { stride: [usize::MAX; 2], ceil_mode: true, ..pool })),
        ),
        ("avg_pool2d", Box::new(move |g| g.avg_pool2d(x, ops::AvgPool2d::new([usize::MAX, 2])))),
        ("adaptive_avg_pool2d", Box::new(move |g| g.adaptive_avg_pool2d(x, [large, 4]))),
    ];
    for (op, mistake) in mistakes {
        let message = message(mistake(&mut graph));
        assert!(message.starts_with(&format!("{op}: expected ")), "{op}: {message}");
    }
    // The largest that there may be is only declared here.
    graph.input("most", TensorType::f32([1 << 20, 1 << 20])).expect("as many elements as there may be");
}

/// Layers and networks whose sizes cannot be counted.
#[test]
fn layers_that_are_too_large_are_refused() {
    let large = (1 << 62) + 1;
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([1, 4, 8, 8])).expect("small");
    let linear = message(nn::Linear::new("fc", large).forward(&mut graph, x));
    assert!(linear.starts_with("tensor \"fc.weight\": expected at most "), "{linear}");
    let conv = message(nn::Conv2d::new("conv", 4, large).forward(&mut graph, x));
    assert!(conv.starts_with("tensor \"conv.weight\": expected at most "), "{conv}");
    let networks: [nn::Network; 3] = [
        nn::ResNet { width: 1 << 62, ..nn::ResNet::default() }.into(),
        nn::AllConv { width: usize::MAX, ..nn::AllConv::default() }.into(),
        nn::Mlp { hidden: vec![large], ..nn::Mlp::default() }.into(),
    ];
    for network in networks {
        let refused = message(nn::Summary::of(&nn::Classifier::new(network, 10), [3, 32, 32], 1));
        assert!(refused.contains(".weight\": expected at most "), "{refused}");
    }
}
