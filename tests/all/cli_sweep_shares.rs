//! A sweep divided among processes that know nothing of each other, and merged: the same as by one process.

use std::path::PathBuf;

use crate::cli::{Done, Place, read, succeeds};
use crate::cli_sweep::{SPACE, folders, result, sweep, table, write};

/// `lenet sweep --merge` of these folders, the merged one going below `merged/`.
fn merge(place: &Place, parts: &[PathBuf]) -> Done {
    let parts: Vec<&str> = parts.iter().map(|part| part.to_str().unwrap()).collect();
    place.lenet(&[&["sweep", "--quiet", "--out", "merged", "--merge"], &parts[..]].concat())
}

fn merged(place: &Place) -> PathBuf {
    let entries = std::fs::read_dir(place.path("merged")).unwrap();
    entries.map(|entry| entry.unwrap().path()).max().unwrap()
}

fn train_share(place: &Place, share: &str) -> PathBuf {
    let before = folders(place);
    succeeds(sweep(place, &["--quiet", "--jobs", "1", "--only", share]));
    folders(place).into_iter().find(|folder| !before.contains(folder)).unwrap()
}

#[test]
fn merged_shares_are_the_sweep_of_one_process() {
    let grid = "lr = { min = 0.01, max = 0.1, count = 2 }\noptimizer = { choices = [\"sgd\", \"adam\"] }";
    for (search, space) in [("num_trials = 5", SPACE), ("method = \"grid\"", grid)] {
        let place = Place::new();
        write(&place, search, "epochs = 2", space);
        let whole = succeeds(sweep(&place, &["--quiet", "--jobs", "1"]));
        let expected = result(&folders(&place)[0]);
        let parts: Vec<PathBuf> = ["2/3", "1/3", "3/3"].iter().map(|share| train_share(&place, share)).collect();
        assert!(parts[0].file_name().unwrap().to_str().unwrap().ends_with("-space-2-of-3"), "{parts:?}");
        let printed = succeeds(merge(&place, &parts));
        assert_eq!(table(&printed), table(&whole));
        let folder = merged(&place);
        assert!(result(&folder) == expected, "the ledger or the trials differ from those of one process");
        assert!(folder.file_name().unwrap().to_str().unwrap().ends_with("-space"), "{folder:?}");
        assert!(!read(&folder.join("sweep.toml")).contains("only"));
        for file in ["best.toml", "parallel.png", "report.html"] {
            assert!(folder.join(file).exists(), "{file}");
        }
    }
}

#[test]
fn what_no_share_has_trained_is_named_and_can_be_trained_after_merging() {
    let place = Place::new();
    write(&place, "num_trials = 4", "epochs = 1", SPACE);
    let whole = succeeds(sweep(&place, &["--quiet", "--jobs", "1"]));
    let part = train_share(&place, "2/2");
    // A share has its own trials left to do, and no others.
    succeeds(place.lenet(&["sweep", "--quiet", "--resume", part.to_str().unwrap()]));
    let Done { code, stderr, .. } = merge(&place, &[part]);
    assert!(code == 0 && stderr.contains("trials not done: 1, 3;"), "{code}: {stderr}");
    let resumed = succeeds(place.lenet(&["sweep", "--quiet", "--resume", merged(&place).to_str().unwrap()]));
    assert_eq!(table(&resumed), table(&whole));
}

#[test]
fn shares_that_do_not_go_together_are_refused() {
    let place = Place::new();
    write(&place, "num_trials = 3", "epochs = 1", SPACE);
    let (first, again) = (train_share(&place, "1/2"), train_share(&place, "1/2"));
    write(&place, "num_trials = 3\nseed = 1", "epochs = 1", SPACE);
    let other = train_share(&place, "2/2");
    let cases = [
        (vec![first.clone(), again], "trial 1 in"),
        (vec![first, other], "another sweep in"),
        (vec![place.path("nowhere")], "cannot read"),
    ];
    for (parts, part) in cases {
        let Done { code, stderr, .. } = merge(&place, &parts);
        assert!(code != 0 && stderr.contains(part), "{code}: {stderr}");
    }
    assert!(!place.path("merged").exists(), "nothing was merged");
    let before = folders(&place);
    for (more, part) in [
        (&["--only", "3/2"][..], "--only: expected a part of the trials"),
        (&["--only", "1/2", "--method", "asha"], "grid or random"),
    ] {
        let Done { code, stderr, .. } = sweep(&place, more);
        assert!(code == 2 && stderr.contains(part), "{code}: {stderr}");
    }
    assert_eq!(folders(&place), before, "nothing was trained");
}
