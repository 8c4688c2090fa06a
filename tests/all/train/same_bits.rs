//! The same bits, however a run is cut, and nothing made after the first epoch.

use super::*;

const EVERYTHING: Classifier =
    Classifier { network: Network::LeNet5(LeNet5 { batch_norm: true, dropout: 0.25 }), num_classes: 10 };

/// Every state and every loss after two epochs, as bits; with a short last batch.
fn bits(device: &Device, seed: u64, steps_per_submission: Option<usize>) -> Vec<(String, Vec<u32>)> {
    let (train, test) = images(20 * 8 + 3, 20);
    let base = options(&EVERYTHING, &train, &test, 8);
    let mut session = Session::new(device, &SessionOptions { seed, ..base }).unwrap();
    session.program().set_steps_per_submission(steps_per_submission);
    let mut losses = Vec::new();
    for epoch in 0..2 {
        session.run_epoch(epoch, &|_| (LR, None), &mut |_| ()).unwrap();
        losses.extend(session.step_losses().unwrap().iter().map(|&loss| (loss as f32).to_bits()));
    }
    let kinds =
        [wgrad::graph::StateKind::Parameter, wgrad::graph::StateKind::Buffer, wgrad::graph::StateKind::Optimizer];
    let states = session.program().state_dict(&kinds).unwrap();
    assert!(states.keys().any(|name| name.ends_with(".momentum")));
    let to_bits = |tensor: &Tensor| tensor.to_f32_vec().iter().map(|x| x.to_bits()).collect();
    let mut all: Vec<(String, Vec<u32>)> =
        states.iter().map(|(name, tensor)| (name.clone(), to_bits(tensor))).collect();
    all.push(("losses".to_owned(), losses));
    all
}

#[test]
fn runs_on_the_cpu_are_the_same_whatever_the_number_of_threads() {
    let with_threads = |num_threads: usize, seed: u64| {
        wgrad::exec::Threads::new(num_threads).install(|| bits(&Device::Cpu, seed, None))
    };
    let one = with_threads(1, 1);
    assert!(one == bits(&Device::Cpu, 1, None), "a run repeats");
    for num_threads in [2, 3, 8] {
        assert!(one == with_threads(num_threads, 1), "{num_threads} threads");
    }
    assert!(one != with_threads(2, 2), "another seed is another run");
}

#[test]
fn runs_on_the_gpu_are_the_same_however_they_are_cut() {
    let one = bits(gpu(), 1, Some(1));
    for steps in [Some(7), Some(1000), None] {
        assert!(one == bits(gpu(), 1, steps), "{steps:?} steps a submission");
    }
    assert!(one != bits(gpu(), 2, Some(7)), "another seed is another run");
}

/// Of a device of its own: objects are counted for each device, and other tests run on theirs.
#[test]
fn nothing_is_made_after_the_first_epoch() {
    let wanted = std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let device = Device::select(&wanted).unwrap();
    let (train, test) = images(8 * 4 + 1, 20);
    let mut session = Session::new(&device, &options(&EVERYTHING, &train, &test, 8)).unwrap();
    session.run_epoch(0, &|_| (LR, None), &mut |_| ()).unwrap();
    let made = session.program().num_objects();
    assert!(made > 0);
    for epoch in 1..4 {
        session.run_epoch(epoch, &|_| (LR, None), &mut |_| ()).unwrap();
        session.program().keep_model().unwrap();
        session.test().unwrap();
        session.program().restore_model().unwrap();
    }
    assert_eq!(session.program().num_objects(), made);
}

/// Dropout drops the same elements, and both train through batch norm: losses part by rounding alone. Ten steps of the
/// batch-norm golden run lose 4e-7 in f32; dropout doubles what is left, and two f32 runs are compared, not one and f64.
#[test]
fn dropout_and_batch_norm_train_alike_on_cpu_and_gpu() {
    let (train, test) = images(160, 20);
    let losses = |device: &Device| {
        let mut session = Session::new(device, &options(&EVERYTHING, &train, &test, 16)).unwrap();
        session.run_epoch(0, &|_| (LR, None), &mut |_| ()).unwrap();
        session.step_losses().unwrap()
    };
    let (cpu, gpu) = (losses(&Device::Cpu), losses(gpu()));
    let distance = distance(&cpu, &gpu);
    println!("with dropout and batch norm: {distance:.1e}");
    assert_eq!(cpu.len(), 10);
    assert!(distance < 3e-6, "{distance:e}: {cpu:?} and {gpu:?}");
}
