//! `lenet sweep --side-by-side`: trials in the same dispatches come out as they do one after another, also after a kill, and
//! what cannot be is refused.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{Done, Place, succeeds};
use crate::cli_sweep::{folders, num_epochs, result, table, write};

/// Two forms of three trials each, which train at most three at a time.
const SPACE: &str = "lr = { choices = [0.02, 0.1, 0.2] }\nnetwork.batch_norm = { choices = [false, true] }";
const SEARCH: &str = "method = \"grid\"";
const BASE: &str =
    "epochs = 3\nnetwork = { kind = \"lenet5\", dropout = 0.2 }\nearly_stopping = { patience = 1, min_delta = 0.4 }";

fn sweep(place: &Place, more: &[&str]) -> Done {
    place.lenet(&[&["sweep", "space.toml", "--device", "gpu"], more].concat())
}

fn only_folder(place: &Place) -> PathBuf {
    let [folder] = folders(place).try_into().unwrap();
    folder
}

#[test]
fn trials_in_the_same_dispatches_are_the_same_bytes_as_one_after_another() {
    let outcomes: Vec<_> = ["1", "3"]
        .iter()
        .map(|count| {
            let place = Place::new();
            write(&place, SEARCH, BASE, SPACE);
            let stdout = succeeds(sweep(&place, &["--side-by-side", count]));
            assert_eq!(stdout.contains("up to 3 side by side"), *count == "3", "{stdout}");
            (table(&stdout).join("\n"), result(&only_folder(&place)))
        })
        .collect();
    assert_eq!(outcomes[0].0, outcomes[1].0);
    assert!(outcomes[0] == outcomes[1]);
    assert!(outcomes[0].0.contains("complete"));
}

#[test]
fn a_trial_that_fails_leaves_the_others_alone_and_seeds_have_their_own_images() {
    let outcomes: Vec<_> = ["1", "4"]
        .iter()
        .map(|count| {
            let place = Place::new();
            let space = "lr = { choices = [1e30, 0.05] }\nseed = { choices = [1, 2] }";
            write(&place, SEARCH, "epochs = 2", space);
            table(&succeeds(sweep(&place, &["--quiet", "--side-by-side", count]))).join("\n")
        })
        .collect();
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0].matches("failed").count(), 2, "{}", outcomes[0]);
    assert_eq!(outcomes[0].matches("complete").count(), 2, "{}", outcomes[0]);
}

#[cfg(unix)]
#[test]
fn a_killed_sweep_of_trials_side_by_side_comes_to_the_same_end() {
    let (search, base) = ("num_trials = 4", "epochs = 4\nearly_stopping = false");
    let space = "lr = { min = 1e-3, max = 0.3, log = true }";
    let place = Place::new();
    write(&place, search, base, space);
    let stdout = succeeds(sweep(&place, &["--quiet", "--side-by-side", "3"]));
    let expected = result(&only_folder(&place));

    let place = Place::new();
    write(&place, search, base, space);
    let args = ["sweep", "space.toml", "--device", "gpu", "--side-by-side", "3"];
    let (mut child, folder) =
        place.spawn_until(&args, || folders(&place).pop().filter(|folder| num_epochs(folder) >= 2));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it was killed before its end");
    let resume = ["sweep", "--resume", folder.to_str().unwrap(), "--quiet"];
    let before = num_epochs(&folder);
    place.kill_after(&resume, || num_epochs(&folder) > before, Duration::from_millis(20));
    // The file says how many; and one at a time comes to the same as well.
    let resumed = succeeds(place.lenet(&[&resume[..], &["--side-by-side", "2"]].concat()));
    assert_eq!(table(&resumed), table(&stdout));
    assert!(result(&folder) == expected, "the ledger or the trials differ from those of a sweep never stopped");
}

#[test]
fn what_cannot_be_side_by_side_is_a_usage_error_that_trains_nothing() {
    let place = Place::new();
    write(&place, "", "", SPACE);
    let cases: [(&[&str], &str); 4] = [
        (&["--side-by-side", "0"], "--side-by-side: expected at least 1, got 0"),
        (&["--side-by-side", "2", "--device", "cpu"], "--side-by-side: expected a GPU"),
        (&["--side-by-side", "2", "--jobs", "2"], "cannot be used with"),
        (&["--side-by-side", "two"], "--side-by-side"),
    ];
    for (more, part) in cases {
        let Done { code, stderr, .. } = place.lenet(&[&["sweep", "space.toml"], more].concat());
        assert!(code == 2 && stderr.contains(part), "{more:?}: {stderr}");
    }
    write(&place, "side_by_side = 2\njobs = 2", "", SPACE);
    let Done { code, stderr, .. } = sweep(&place, &[]);
    assert!(code == 2 && stderr.contains("search.side_by_side"), "{stderr}");
    write(&place, "side_by_side = 2", "", SPACE);
    let Done { code, stderr, .. } = place.lenet(&["sweep", "space.toml", "--device", "cpu"]);
    assert!(code == 2 && stderr.contains("search.side_by_side: expected a GPU"), "{stderr}");
    assert!(folders(&place).is_empty(), "nothing was trained");
}
