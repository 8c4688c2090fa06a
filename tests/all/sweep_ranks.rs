//! A sweep whose trials other ranks train, threads here in the place of processes: the same ledger as by one process.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad::dist::{Comm, Threads};
use wgrad::sweep::{Finish, RunOptions, Sweep, SweepConfig, SweepFolder, SweepObserver, TrialRecord, work};
use wgrad::{Device, Result};

use crate::cli::{DATA, Done, Place, done, succeeds};

const SPACE: &str = "lr = { choices = [0.05, 1e30] }\noptimizer.momentum = { choices = [0.0, 0.5, 0.9] }";

fn sweep(place: &Path, method: &str) -> Sweep {
    let base =
        format!("data = \"{DATA}\"\ntrain_limit = 96\nval_limit = 100\ntest_limit = 100\nbatch_size = 32\nepochs = 2");
    let text = format!("[search]\n{method}\n[base]\n{base}\n[space]\n{SPACE}\n");
    let path = place.join("space.toml");
    std::fs::write(&path, text).unwrap();
    Sweep::new(SweepConfig::load(&path).unwrap()).unwrap()
}

/// Counts what it is told.
#[derive(Default)]
struct Count {
    started: usize,
    ended: usize,
    epochs: usize,
}

impl SweepObserver for Count {
    fn started(&mut self, _trial: usize, _epochs: u64) {
        self.started += 1;
    }

    fn epoch(&mut self, _trial: usize, _report: &wgrad::train::EpochReport) {
        self.epochs += 1;
    }

    fn ended(&mut self, _record: &TrialRecord) -> Result<()> {
        self.ended += 1;
        Ok(())
    }
}

/// Rank 0 hands out, the others train; `stop` is asked with the number of times it was asked before.
fn among(size: usize, jobs: usize, folder: &mut SweepFolder, stop: impl Fn(usize) -> bool + Sync) -> (Finish, Count) {
    let mut ranks = Threads::group(size);
    let mut first = ranks.remove(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = ranks
            .into_iter()
            .map(|mut comm| scope.spawn(move || work(&mut comm as &mut dyn Comm, &Device::Cpu, jobs)))
            .collect();
        let (asked, mut count) = (AtomicUsize::new(0), Count::default());
        let stop = || stop(asked.fetch_add(1, Ordering::Relaxed));
        let finish = folder.run_among(&mut first, &stop, &mut count).unwrap();
        workers.into_iter().for_each(|worker| worker.join().unwrap().unwrap());
        (finish, count)
    })
}

fn never(_: usize) -> bool {
    false
}

#[test]
fn trials_of_other_ranks_are_ranked_as_those_of_one_process() {
    for method in ["method = \"grid\"", "num_trials = 5"] {
        let place = tempfile::tempdir().unwrap();
        let sweep = sweep(place.path(), method);
        let mut alone = SweepFolder::create(place.path(), "alone", sweep.clone()).unwrap();
        let options = RunOptions { device: &Device::Cpu, jobs: 1, stop: &|| false };
        assert_eq!(alone.run(options, &mut ()).unwrap(), Finish::Complete);
        assert!(alone.records().iter().any(|record| record.reason.as_deref().unwrap_or("").contains("not finite")));
        for (size, jobs) in [(2, 1), (3, 2), (8, 1)] {
            let mut folder = SweepFolder::create(place.path(), "among", sweep.clone()).unwrap();
            let (finish, count) = among(size, jobs, &mut folder, never);
            assert_eq!((finish, folder.records()), (Finish::Complete, alone.records()), "{size} ranks");
            assert_eq!((count.started, count.ended), (folder.records().len(), folder.records().len()));
            assert!(count.epochs > 0);
        }
    }
}

#[test]
fn a_stopped_sweep_resumes_with_another_number_of_ranks() {
    let place = tempfile::tempdir().unwrap();
    let sweep = sweep(place.path(), "method = \"grid\"");
    let mut alone = SweepFolder::create(place.path(), "alone", sweep.clone()).unwrap();
    alone.run(RunOptions { device: &Device::Cpu, jobs: 2, stop: &|| false }, &mut ()).unwrap();
    let mut folder = SweepFolder::create(place.path(), "among", sweep).unwrap();
    // Legs have been handed out by the third time it is asked.
    let (finish, _) = among(3, 1, &mut folder, |asked| asked >= 3);
    assert_eq!(finish, Finish::Stopped);
    let path = folder.path().to_owned();
    drop(folder);
    let mut folder = SweepFolder::open(&path).unwrap();
    assert_eq!(among(2, 2, &mut folder, never).0, Finish::Complete);
    assert_eq!(folder.records(), alone.records());
}

#[test]
fn processes_that_cannot_reach_each_other_are_refused_before_there_is_a_folder() {
    let place = Place::new();
    for command in [&["train", "--device", "cpu", "--data", DATA][..], &["sweep", "space.toml"]] {
        // What a launcher leaves that this build knows nothing of, or is none of its library's.
        let Done { code, stderr, .. } = done(place.command(command).env("PMI_SIZE", "3").output().unwrap());
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("a program of 3 processes cannot run on"), "{stderr}");
    }
    assert!(place.runs().is_empty());
}

#[test]
fn the_speed_of_many_ranks_is_predicted_from_a_step_measured_here() {
    let place = Place::new();
    let args = ["plan", "--ranks", "8", "--batch-size", "4", "--bandwidth", "1", "--picture", "scaling.png"];
    let stdout = succeeds(place.lenet(&args));
    let rows: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let of_ranks = |ranks: &str| rows.iter().find(|row| row.first() == Some(&ranks)).unwrap().clone();
    assert_eq!(of_ranks("1")[3], "1.00", "one rank is as fast as itself: {stdout}");
    assert_eq!(of_ranks("8").len(), 5, "{stdout}");
    assert!(stdout.contains("batches of 8 images pay up to") && stdout.contains("1 GB/s from each rank"), "{stdout}");
    assert!(place.path("scaling.png").metadata().unwrap().len() > 1000);
    let Done { code, stderr, .. } = place.lenet(&["plan", "--ranks", "8", "--bandwidth", "0"]);
    assert!(code == 2 && stderr.contains("--bandwidth: expected a number above 0"), "{stderr}");
}
