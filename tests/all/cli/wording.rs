//! What the program says of wrong or odd calls: the right usage, numbers in good English, nothing that a terminal obeys.

use std::path::Path;

use super::{DATA, Place, succeeds};

/// A data set of two classes, one of them with this name; 16×16 pixels.
fn images(place: &Place, class: &str) {
    for (shade, class) in [(40, class), (200, "plain")] {
        let folder = place.path("images").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..20 {
            let image = image::GrayImage::from_pixel(16, 16, image::Luma([shade + index]));
            image.save(folder.join(format!("{index}.png"))).unwrap();
        }
    }
}

const IMAGES: [&str; 6] =
    ["--dataset=folder", "--data=images", "--size=16", "--channels=1", "--network=mlp", "--device=cpu"];

fn train(place: &Place, more: &[&str]) -> String {
    succeeds(place.lenet(&[&["train", "--epochs=1", "--no-report"], &IMAGES[..], more].concat()))
}

#[test]
fn errors_show_the_usage_of_the_subcommand() {
    let place = Place::new();
    let cases: [(&[&str], &str); 3] = [
        (
            &["train", "--no-early-stopping", "--early-stopping-patience=3"],
            "'--early-stopping-patience'\n\nUsage: lenet train",
        ),
        (&["train", "--no-diagnostics", "--pre-activations"], "'--pre-activations'\n\nUsage: lenet train"),
        (&["--no-diagnostics", "--pre-activations"], "'--pre-activations'\n\nUsage: lenet [OPTIONS]\n"),
    ];
    for (args, part) in cases {
        let refused = place.lenet(args);
        assert_eq!(refused.code, 2, "{args:?}");
        assert!(refused.stderr.contains(part), "{args:?}: {}", refused.stderr);
    }
    let help = |args: &[&str]| succeeds(place.lenet(args));
    assert_eq!(help(&["help", "--help"]), help(&["help"]));
    assert_eq!(help(&["help", "eval", "-h"]), help(&["help", "eval"]));
    assert_eq!(help(&["data", "help", "--help"]), help(&["data", "help"]));
}

#[test]
fn values_that_do_not_fit_are_told_what_would() {
    let place = Place::new();
    images(&place, "other");
    let folder = ["--dataset=folder", "--data=images", "--channels=1", "--size=4", "--device=cpu"];
    let cases: [(&[&str], &str); 7] = [
        (&["--seed=18446744073709551615"], "'--seed <N>': expected a number below 2^63"),
        (&["--optimizer=adam", "--betas=0.9"], "--betas: expected 2 values, got 1"),
        (&["predict", "--run=x", "--top=99999999999999999999", "x.png"], "expected a smaller number"),
        (&[&["train"], &folder[..]].concat(), "--size: expected at least "),
        (&[&["lr-find"], &folder[..]].concat(), "pixels for this network (conv2d: "),
        (&["data", "fetch", "emnist"], "[possible values: fashion-mnist, mnist, kmnist, cifar10, cifar100]"),
        (&["data", "fetch", "folder"], "invalid value 'folder' for '<NAME>'"),
    ];
    for (args, part) in cases {
        let refused = place.lenet(args);
        assert_eq!(refused.code, 2, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{args:?}: {}", refused.stderr);
    }
    let least = place.lenet(&[&["train"], &folder[..]].concat()).stderr;
    let least = least.split("at least ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let summary = ["summary", "--dataset=folder", "--data=images", "--channels=1", "--size", &least];
    succeeds(place.lenet(&summary));
}

#[test]
fn a_run_in_which_nothing_can_learn_is_refused() {
    let place = Place::new();
    std::fs::write(place.path("frozen.toml"), "[[groups]]\nmatching = [\"*\"]\nlr_scale = 0.0\n").unwrap();
    let refused = place.train(&["--config=frozen.toml"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("a parameter with a learning rate above 0"), "{}", refused.stderr);
    assert!(place.runs().is_empty());
}

#[test]
fn one_is_singular() {
    let place = Place::new();
    let args = ["--device=cpu", "--data", DATA, "--train-limit=64", "--val-limit=64", "--no-report", "--epochs=1"];
    let stdout = succeeds(place.lenet(&[&args[..], &["--test-limit=1", "--early-stopping-patience=0"]].concat()));
    for part in
        ["and 1 test image\n", "at most 1 epoch; stops after 1 epoch without", "its one epoch is done", "on 1 image\n"]
    {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    std::fs::write(
        place.path("one.toml"),
        "[search]\nnum_trials = 1\n[base]\nepochs = 1\n[space]\nlr = { choices = [1e30] }\n",
    )
    .unwrap();
    let failed = place.lenet(&["sweep", "one.toml", "--device=cpu"]);
    assert!(
        failed.stdout.contains("1 trial of at most 1 epoch,") && failed.stdout.contains("lr: 1e30\n"),
        "{}",
        failed.stdout
    );
}

#[cfg(unix)]
#[test]
fn control_characters_in_names_are_printed_as_escapes() {
    let place = Place::new();
    images(&place, "\u{1b}[31mred\tand\nmore");
    train(&place, &[]);
    let run = place.runs().remove(0);
    let run = run.to_str().unwrap();
    std::fs::copy(place.path("images/plain/0.png"), place.path("\u{1b}[2J.png")).unwrap();
    let printed = [
        succeeds(place.lenet(&["eval", "--device=cpu", run])),
        succeeds(place.lenet(&["predict", "--device=cpu", "--run", run, "images/plain/0.png", "\u{1b}[2J.png"])),
        succeeds(place.lenet(&["data", "show", "folder", "--data=images"])),
    ];
    for text in printed {
        assert!(text.contains(r"\u{1b}[31mred\tand\nmore"), "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    let refused = place.lenet(&["predict", "--device=cpu", "--run", run, "\u{1b}[2Jnone.png"]);
    assert!(refused.stderr.contains(r"\u{1b}[2Jnone.png"), "{:?}", refused.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_not_utf8_are_text_in_json() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::{done, lines};

    let place = Place::new();
    images(&place, "other");
    let odd = |name: &[u8]| place.path("").join(OsStr::from_bytes(name));
    let args = [&["train", "--epochs=1", "--no-report", "--json", "--out"], &[][..]].concat();
    let trained = done(place.command(&args).arg(odd(b"o\xffut")).args(IMAGES).output().unwrap());
    let last = lines(&succeeds(trained)).pop().unwrap();
    assert!(last["run"].as_str().unwrap().contains("o\u{fffd}ut/"), "{last}");
    let run = std::fs::read_dir(odd(b"o\xffut")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(place.path("images/plain/0.png"), odd(b"1\xff.png")).unwrap();
    let mut predict = place.command(&["predict", "--device=cpu", "--json", "--run"]);
    let predicted = done(predict.arg(&run).args([odd(b"1\xff.png"), odd(b"none\xff.png")]).output().unwrap());
    let [good, bad] = lines(&predicted.stdout).try_into().unwrap();
    assert!(good["image"].as_str().unwrap().ends_with("1\u{fffd}.png") && good["top"].is_array(), "{good}");
    assert!(bad["image"].as_str().unwrap().ends_with("none\u{fffd}.png") && bad["error"].is_string(), "{bad}");
}

#[test]
fn pictures_are_png_files_and_never_replace_an_input() {
    let place = Place::new();
    images(&place, "other");
    train(&place, &[]);
    let run = place.runs().remove(0);
    let run = run.to_str().unwrap();
    let image = "images/plain/0.png";
    let before = std::fs::read(place.path(image)).unwrap();
    let weights = Path::new(run).join("model.safetensors");
    let weights = weights.to_str().unwrap();
    let wrong_ends: [&[&str]; 6] = [
        &["predict", "--device=cpu", "--run", run, image, "--picture=x.jpg"],
        &["eval", "--device=cpu", run, "--picture=x.svg"],
        &["data", "show", "fashion-mnist", "--picture=x"],
        &["schedule", "--steps=3", "--picture=x.jpeg"],
        &["compare", run, "--picture=x.gif"],
        &["lr-find", "--device=cpu", "--picture=x.pdf"],
    ];
    for args in wrong_ends {
        let refused = place.lenet(args);
        assert_eq!(refused.code, 2, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("expected a name that ends in .png"), "{args:?}: {}", refused.stderr);
    }
    let inputs: [&[&str]; 5] = [
        &["predict", "--device=cpu", "--run", run, image, "--picture=images/../images/plain/0.png"],
        &["eval", "--device=cpu", run, "--picture", image],
        &["data", "show", "folder", "--data=images", "--picture", image],
        &["lr-find", "--device=cpu", "--dataset=folder", "--data=images", "--picture", image],
        &["export", "--run", run, "--onnx", weights],
    ];
    for args in inputs {
        let bytes = std::fs::read(weights).unwrap();
        let refused = place.lenet(args);
        assert_eq!(refused.code, 2, "{args:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("not an input of the command"), "{args:?}: {}", refused.stderr);
        assert!(std::fs::read(place.path(image)).unwrap() == before && std::fs::read(weights).unwrap() == bytes);
    }
    // A picture of an earlier call is replaced.
    for _ in 0..2 {
        succeeds(place.lenet(&["predict", "--device=cpu", "--run", run, image, "--picture=p.PNG"]));
    }
}
