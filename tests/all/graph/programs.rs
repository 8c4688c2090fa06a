//! What a program keeps from run to run.

use super::*;

/// Every row of a table reaches its own step, beyond the rows that a GPU holds at once, and the last one is what an
/// output shows, however the steps are cut into runs.
#[test]
fn the_last_row_of_a_table_is_what_an_output_shows() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", TensorType::f32([3])).expect("a new name");
    let scale = graph.scalar("scale", DType::F32).expect("a new name");
    let shift = graph.scalar("shift", DType::F32).expect("a new name");
    let y = graph.mul(x, scale).expect("scalars broadcast");
    let y = graph.add(y, shift).expect("scalars broadcast");
    graph.output("y", y).expect("a new name");
    for device in devices() {
        let mut program = compile(&device, &[&graph]);
        program.write("x", &vector(&[1.0, 2.0, 3.0])).expect("the input exists");
        for num_steps in [1, 2, 7, 1023, 1024, 1025, 2050] {
            let table = StepTable::new(num_steps)
                .column("scale", |step| step as f64)
                .column("shift", |step| 0.5 * step as f64)
                .column("not asked for", |_| f64::NAN);
            let mut seen = 0;
            let mut progress = |done: usize| {
                assert!(done > seen && done <= num_steps, "progress {done} after {seen}");
                seen = done;
                ControlFlow::Continue(())
            };
            let done = program.run_with_progress("g", &table, &mut progress).expect("the entry exists");
            assert_eq!((seen, done), (num_steps, num_steps), "on {device}");
            let last = (num_steps - 1) as f64;
            let got = program.output("g", "y").expect("the output exists").to_f64_vec();
            assert_eq!(got, [1.5 * last, 2.5 * last, 3.5 * last], "{num_steps} steps on {device}");
        }
        program.run("g", &StepTable::new(0).constant("scale", 0.0).constant("shift", 0.0)).expect("nothing to do");
    }
}

/// Training from a schedule of learning rates, `cuts` steps at a run: the bits of the parameter and of its velocity.
fn train(device: &Device, optimizer: &Optimizer, cuts: &[usize]) -> Vec<Vec<u64>> {
    let mut graph = Graph::new("train");
    let x = graph.parameter("x", [5], Init::Uniform { bound: 1.0 }).expect("a new name");
    let y = graph.tanh(x).expect("a float");
    let y = graph.square(y).expect("a float");
    let loss = graph.mean_all(y).expect("there are elements");
    let gradients = graph.backward(loss).expect("a differentiable loss");
    optimizer.update(&mut graph, &gradients).expect("a parameter with a gradient");
    let mut program = compile(device, &[&graph]);
    let mut done = 0;
    for &num_steps in cuts {
        let table = optimizer.steps_with(num_steps, |step| 0.5 / (1 + done + step) as f64);
        program.run("train", &table).expect("the entry exists");
        done += num_steps;
    }
    let states = program.state_dict(&[StateKind::Parameter, StateKind::Optimizer]).expect("states can be read");
    states.values().map(|state| state.to_f64_vec().into_iter().map(f64::to_bits).collect()).collect()
}

/// How steps are cut into runs changes no bit, whatever the steps' own scalars and whatever the states they update.
#[test]
fn training_does_not_depend_on_how_steps_are_cut_into_runs() {
    for device in devices() {
        for optimizer in [Optimizer::sgd(0.9), Optimizer::adam()] {
            let whole = train(&device, &optimizer, &[60]);
            let start = train(&device, &optimizer, &[]);
            assert!(whole.len() > 1 && whole != start, "training changes the states");
            for cuts in [&[1; 60][..], &[7, 7, 7, 7, 7, 7, 7, 7, 4], &[59, 1], &[0, 1, 0, 59]] {
                assert_eq!(train(&device, &optimizer, cuts), whole, "{optimizer:?} cut into {cuts:?} on {device}");
            }
        }
    }
}

/// Memory is flat: everything is made when a program is compiled, or in its first run at the latest.
#[test]
fn nothing_is_made_after_warm_up() {
    // A device of its own: the count is the device's, and other tests compile at the same time.
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let device = Device::select(&wanted).expect("tests need an adapter");
    let mut graph = Graph::new("g");
    let x = graph.parameter("x", [257, 5], Init::Uniform { bound: 1.0 }).expect("a new name");
    let scale = graph.scalar("scale", DType::F32).expect("a new name");
    let y = graph.mul(x, scale).expect("scalars broadcast");
    let y = graph.tanh(y).expect("a float");
    let loss = graph.mean_all(y).expect("there are elements");
    let gradient = graph.backward(loss).expect("a differentiable loss").get(x).expect("x is on the path");
    graph.output("loss", loss).expect("a new name");
    graph.output("gradient", gradient).expect("a new name");
    let mut program = compile(&device, &[&graph]);
    let mut epoch = |num_steps: usize| {
        program.run("g", &StepTable::new(num_steps).constant("scale", 0.5)).expect("the entry exists");
        program.output("g", "loss").expect("the output exists");
        program.output("g", "gradient").expect("the output exists");
        let values = program.read("x").expect("the state exists");
        program.write("x", &values).expect("the state exists");
        let dict = program.state_dict(&MODEL_KINDS).expect("states can be read");
        program.load_state_dict(&dict, &MODEL_KINDS).expect("the same states");
        program.keep_model().expect("there is memory");
        program.restore_model().expect("kept before");
        program.num_objects()
    };
    let warm = epoch(3);
    assert!(warm > 0, "the count counts something");
    for num_steps in [1, 50, 3, 2000] {
        assert_eq!(epoch(num_steps), warm, "objects after a run of {num_steps} steps");
    }
}

/// A model of every kind of state.
fn model() -> Graph {
    let mut graph = Graph::new("model");
    let mut state = |name: &str, kind, init| {
        let spec = StateSpec { name: name.to_owned(), ty: TensorType::f32([3]), kind, init };
        graph.state(spec).expect("a new name")
    };
    let values = [
        state("weight", StateKind::Parameter, Init::Uniform { bound: 1.0 }),
        state("mean", StateKind::Buffer, Init::Constant(0.25)),
        state("momentum", StateKind::Optimizer, Init::Zeros),
        state("batch", StateKind::Input, Init::Zeros),
    ];
    let sum = values[1..].iter().try_fold(values[0], |sum, &value| graph.add(sum, value)).expect("equal shapes");
    graph.output("sum", sum).expect("a new name");
    graph
}

#[test]
fn a_state_dict_goes_out_and_back_in() {
    for device in devices() {
        let mut program = compile(&device, &[&model()]);
        let dict = program.state_dict(&MODEL_KINDS).expect("states can be read");
        assert_eq!(dict.keys().map(String::as_str).collect::<Vec<_>>(), ["mean", "weight"]);
        assert_eq!(dict["mean"].to_f64_vec(), [0.25; 3]);
        assert!(dict["weight"].to_f64_vec().iter().all(|x| *x != 0.0 && x.abs() < 1.0));

        let mut changed = dict.clone();
        changed.insert("weight".to_owned(), vector(&[1.0, -2.0, 3.5]));
        program.load_state_dict(&changed, &MODEL_KINDS).expect("shapes fit");
        assert_eq!(program.read("weight").expect("the state exists").to_f64_vec(), [1.0, -2.0, 3.5]);
        assert_eq!(program.state_dict(&[StateKind::Optimizer]).expect("states can be read").len(), 1);
        program.run_once("model").expect("the entry exists");
        assert_eq!(program.output("model", "sum").expect("the output exists").to_f64_vec(), [1.25, -1.75, 3.75]);

        program.initialize(0).expect("the device is there");
        assert_eq!(program.state_dict(&MODEL_KINDS).expect("states can be read"), dict, "the seed decides");
    }
}

#[test]
fn a_state_dict_that_does_not_fit_changes_nothing() {
    let mut program = compile(&Device::Cpu, &[&model()]);
    let good = program.state_dict(&MODEL_KINDS).expect("states can be read");
    let mut missing = good.clone();
    missing.remove("weight");
    let mut wrong_shape = good.clone();
    wrong_shape.insert("weight".to_owned(), vector(&[1.0]));
    let mut wrong_type = good.clone();
    wrong_type.insert("weight".to_owned(), Tensor::u32([3], vec![1, 2, 3]).expect("three elements"));
    let mut too_many = good.clone();
    too_many.insert("bias".to_owned(), vector(&[1.0]));
    let table = [
        (missing, "tensor \"weight\": expected f32 (3), got nothing of that name"),
        (wrong_shape, "tensor \"weight\": expected f32 (3), got f32 (1)"),
        (wrong_type, "tensor \"weight\": expected f32 (3), got u32 (3)"),
        (too_many, "tensor \"bias\": expected one of this model's tensors, got f32 (1)"),
    ];
    for (mut dict, expected) in table {
        // Fits, and comes before the one that does not.
        dict.insert("mean".to_owned(), vector(&[9.0; 3]));
        let result = program.load_state_dict(&dict, &MODEL_KINDS);
        assert!(matches!(result, Err(Error::State { .. })));
        assert_eq!(message(result), expected);
        assert_eq!(program.state_dict(&MODEL_KINDS).expect("states can be read"), good, "after: {expected}");
    }
}

#[test]
fn the_model_kept_last_comes_back_and_nothing_else() {
    for device in devices() {
        let mut program = compile(&device, &[&model()]);
        let write_all = |program: &mut Program, value: f32| {
            for name in ["weight", "mean", "momentum", "batch"] {
                program.write(name, &vector(&[value; 3])).expect("the state exists");
            }
        };
        let read_all = |program: &mut Program| {
            ["weight", "mean", "momentum", "batch"].map(|name| {
                let values = program.read(name).expect("the state exists").to_f64_vec();
                assert!(values.iter().all(|value| *value == values[0]));
                values[0]
            })
        };
        write_all(&mut program, 1.0);
        program.restore_model().expect("nothing was kept, so nothing is done");
        assert_eq!(read_all(&mut program), [1.0; 4]);
        program.keep_model().expect("there is memory");
        write_all(&mut program, 2.0);
        program.keep_model().expect("there is memory");
        write_all(&mut program, 3.0);
        program.restore_model().expect("kept before");
        assert_eq!(read_all(&mut program), [2.0, 2.0, 3.0, 3.0], "on {device}");
        write_all(&mut program, 4.0);
        program.restore_model().expect("kept before");
        assert_eq!(read_all(&mut program), [2.0, 2.0, 4.0, 4.0], "what was kept can be restored again");
    }
}

/// Entries share states by name: what is written once is seen by all.
#[test]
fn entries_share_states() {
    let graph = |name: &str, factor: f64| {
        let mut graph = Graph::new(name);
        let weight = graph.parameter("weight", [2], Init::Constant(3.0)).expect("a new name");
        let y = graph.mul_scalar(weight, factor).expect("a float");
        graph.output("y", y).expect("a new name");
        graph
    };
    for device in devices() {
        let mut program = compile(&device, &[&graph("train", 2.0), &graph("test", -1.0)]);
        let mut run = |entry: &str| {
            program.run_once(entry).expect("the entry exists");
            program.output(entry, "y").expect("the output exists").to_f64_vec()
        };
        assert_eq!((run("train"), run("test")), (vec![6.0; 2], vec![-3.0; 2]));
        program.write("weight", &vector(&[1.0, 5.0])).expect("the state exists");
        let mut run = |entry: &str| {
            program.run_once(entry).expect("the entry exists");
            program.output(entry, "y").expect("the output exists").to_f64_vec()
        };
        assert_eq!((run("train"), run("test")), (vec![2.0, 10.0], vec![-1.0, -5.0]));
    }
}
