//! A sweep whose trials other ranks train, threads here in the place of processes: the same ledger as by one process.

#![expect(clippy::unwrap_used, reason = "a failing test says where by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use wgrad::dist::{Comm, Threads, Transfer};
use wgrad::sweep::{
    Finish, RunOptions, Sweep, SweepConfig, SweepFolder, SweepObserver, TrialRecord, WorkOptions, work,
};
use wgrad::{Device, Result};

use crate::cli::{DATA, Done, Place, done, succeeds};

const SPACE: &str = "lr = { choices = [0.05, 1e30] }\noptimizer.momentum = { choices = [0.0, 0.5, 0.9] }";

fn sweep(place: &Path, method: &str) -> Sweep {
    sweep_over(place, method, SPACE)
}

fn sweep_over(place: &Path, method: &str, space: &str) -> Sweep {
    let base =
        format!("data = \"{DATA}\"\ntrain_limit = 96\nval_limit = 100\ntest_limit = 100\nbatch_size = 32\nepochs = 2");
    let text = format!("[search]\n{method}\n[base]\n{base}\n[space]\n{space}\n");
    let path = place.join("space.toml");
    std::fs::write(&path, text).unwrap();
    Sweep::new(SweepConfig::load(&path).unwrap()).unwrap()
}

/// Counts what it is told.
#[derive(Default)]
struct Count {
    apart: usize,
    started: usize,
    ended: usize,
    epochs: usize,
}

impl SweepObserver for Count {
    fn apart(&mut self, _rank: usize) {
        self.apart += 1;
    }

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
    let worker = |comm: &mut Threads| {
        let work_options = WorkOptions { jobs, ..WorkOptions::new(&Device::Cpu, Path::new("/nowhere")) };
        work(comm as &mut dyn Comm, work_options)
    };
    hand_out(size, folder, worker, stop)
}

/// The same with workers of any kind.
fn hand_out(
    size: usize,
    folder: &mut SweepFolder,
    worker: impl Fn(&mut Threads) -> Result<()> + Sync,
    stop: impl Fn(usize) -> bool + Sync,
) -> (Finish, Count) {
    let mut ranks = Threads::group(size);
    let mut first = ranks.remove(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = ranks
            .into_iter()
            .map(|mut comm| {
                let worker = &worker;
                scope.spawn(move || worker(&mut comm))
            })
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
        let options = RunOptions { device: &Device::Cpu, jobs: 1, side_by_side: None, stop: &|| false };
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
fn ranks_train_trials_side_by_side_as_they_come_out_alone() {
    let place = tempfile::tempdir().unwrap();
    // Trials of two forms: those of the one that came second train by themselves.
    let space = "lr = { choices = [0.02, 0.05, 0.1] }\nbatch_size = { choices = [32, 24] }";
    let sweep = sweep_over(place.path(), "method = \"grid\"", space);
    let gpu = Device::select(&std::env::var("WGRAD_DEVICE").unwrap_or_else(|_| "gpu".to_owned())).unwrap();
    let mut alone = SweepFolder::create(place.path(), "alone", sweep.clone()).unwrap();
    alone.run(RunOptions { device: &gpu, jobs: 1, side_by_side: Some(1), stop: &|| false }, &mut ()).unwrap();
    let mut folder = SweepFolder::create(place.path(), "among", sweep).unwrap();
    let worker = |comm: &mut Threads| {
        let elsewhere = WorkOptions::new(&gpu, Path::new("/nowhere"));
        work(comm as &mut dyn Comm, WorkOptions { side_by_side: Some(2), ..elsewhere })
    };
    assert_eq!(hand_out(3, &mut folder, worker, never).0, Finish::Complete);
    assert_eq!(folder.records(), alone.records());
}

#[test]
fn a_stopped_sweep_resumes_with_another_number_of_ranks() {
    let place = tempfile::tempdir().unwrap();
    let sweep = sweep(place.path(), "method = \"grid\"");
    let mut alone = SweepFolder::create(place.path(), "alone", sweep.clone()).unwrap();
    alone.run(RunOptions { device: &Device::Cpu, jobs: 2, side_by_side: None, stop: &|| false }, &mut ()).unwrap();
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

/// A rank on a host of its own, on which rank 0's path leads nowhere.
struct Elsewhere<'a>(&'a mut Threads);

impl Comm for Elsewhere<'_> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn all_gather(&mut self, mine: &[u8], all: &mut Vec<u8>) -> Result<()> {
        self.0.all_gather(mine, all)?;
        if let Ok(text) = String::from_utf8(all.clone()) {
            *all = text.replace("-among", "-nomga").into_bytes();
        }
        Ok(())
    }

    fn send(&mut self, to: usize, message: &[u8]) -> Result<()> {
        self.0.send(to, message)
    }

    fn poll(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        self.0.poll()
    }

    fn start(&mut self, transfer: Transfer) -> Result<()> {
        self.0.start(transfer)
    }

    fn test(&mut self) -> Result<Option<Transfer>> {
        self.0.test()
    }

    fn wait(&mut self) -> Result<Option<Transfer>> {
        self.0.wait()
    }
}

/// The files of every trial, but for the speed in the metrics, by their paths.
fn files(sweep: &Path) -> BTreeMap<String, Vec<u8>> {
    let trials = std::fs::read_dir(sweep).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = trials.flat_map(|trial| std::fs::read_dir(trial).unwrap().map(|entry| entry.unwrap().path()));
    let files = files.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    let read = |path: std::path::PathBuf| {
        let mut bytes = std::fs::read(&path).unwrap();
        if path.ends_with("metrics.jsonl") {
            let text = String::from_utf8(bytes).unwrap();
            let lines = text.lines().map(|line| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                line.as_object_mut().unwrap().remove("images_per_second");
                line.to_string()
            });
            bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
        }
        (path.strip_prefix(sweep).unwrap().to_str().unwrap().to_owned(), bytes)
    };
    files.map(read).collect()
}

/// Ranks on hosts with disks of their own. They are stopped in between, so that trials resume on other ranks than those
/// which began them.
#[test]
fn what_ranks_without_the_sweeps_folder_train_is_brought_to_rank_0() {
    for (method, interval) in
        [("method = \"grid\"", 0), ("method = \"asha\"\nnum_trials = 4\nreduction_factor = 2", 3600)]
    {
        let place = tempfile::tempdir().unwrap();
        let sweep = sweep(place.path(), method);
        let mut alone = SweepFolder::create(place.path(), "alone", sweep.clone()).unwrap();
        alone.run(RunOptions { device: &Device::Cpu, jobs: 1, side_by_side: None, stop: &|| false }, &mut ()).unwrap();
        let expected = files(alone.path());
        assert!(expected.keys().any(|name| name.ends_with("model.safetensors")), "{:?}", expected.keys());
        let hosts = tempfile::tempdir().unwrap();
        let mut folder = SweepFolder::create(place.path(), "among", sweep).unwrap();
        let worker = |comm: &mut Threads| {
            let out = hosts.path().join(comm.rank().to_string());
            let collect_every = std::time::Duration::from_secs(interval);
            work(&mut Elsewhere(comm), WorkOptions { collect_every, ..WorkOptions::new(&Device::Cpu, &out) })
        };
        // One worker, so that successive halving decides in the same order.
        let (finish, count) = hand_out(2, &mut folder, worker, |asked| asked >= 6);
        assert_eq!((finish, count.apart), (Finish::Stopped, 1));
        assert_eq!(hand_out(2, &mut folder, worker, never).0, Finish::Complete);
        assert_eq!(folder.records(), alone.records());
        let got = files(folder.path());
        assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert!(got == expected, "a trial's files differ");
        let left = std::fs::read_dir(hosts.path().join("1")).unwrap().count();
        assert_eq!(left, 0, "nothing is left on the host");
        assert!(!folder.path().join(".ranks").exists());
    }
}

#[test]
fn processes_that_cannot_reach_each_other_are_refused_before_there_is_a_folder() {
    let place = Place::new();
    for command in [&["train", "--device", "cpu", "--data", DATA][..], &["sweep", "space.toml"]] {
        // What a launcher leaves that this build knows nothing of, or is none of its library's.
        for variable in ["PMI_SIZE", "SLURM_STEP_NUM_TASKS"] {
            let Done { code, stderr, .. } = done(place.command(command).env(variable, "3").output().unwrap());
            assert_eq!(code, 1, "{stderr}");
            assert!(stderr.contains("a program of 3 processes cannot run on"), "{stderr}");
        }
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
    for part in [
        "steps of 8 images pay up to",
        "4 images a rank pay up to",
        "1 GB/s from each rank, 0.2 µs of a CPU a message",
        "each rank has a CPU",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(place.path("scaling.png").metadata().unwrap().len() > 1000);
    let Done { code, stderr, .. } = place.lenet(&["plan", "--ranks", "8", "--bandwidth", "0"]);
    assert!(code == 2 && stderr.contains("--bandwidth: expected a number above 0"), "{stderr}");
}
