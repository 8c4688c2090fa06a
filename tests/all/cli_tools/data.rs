use super::check_png;
use super::server::{Manner, Server, nobody};
use crate::cli::{DATA, Place, succeeds};

#[test]
fn data_sets_are_listed_with_where_they_are() {
    let place = Place::new();
    let cache = place.path("cache/wgrad/mnist");
    std::fs::create_dir_all(&cache).unwrap();
    for entry in std::fs::read_dir(DATA).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().ends_with(".gz") {
            std::fs::copy(entry.path(), cache.join(entry.file_name())).unwrap();
        }
    }
    let stdout = succeeds(place.lenet(&["data", "list"]));
    let row = |name: &str| stdout.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("mnist").contains("10,000") && row("mnist").contains("2,000"), "{stdout}");
    assert!(row("mnist").contains("cache/wgrad/mnist (cache), a subset"), "{stdout}");
    assert!(stdout.contains("bundled with the program, a subset"), "{stdout}");
    // One that lost a file is listed with what is wrong, and is no reason to fail.
    std::fs::remove_file(cache.join("t10k-labels-idx1-ubyte.gz")).unwrap();
    let stdout = succeeds(place.lenet(&["data", "list"]));
    assert!(stdout.contains("cannot be used: ") && stdout.contains("t10k-labels-idx1-ubyte.gz"), "{stdout}");
    let stdout = succeeds(place.lenet(&["data", "list", "--data", "nowhere"]));
    assert!(stdout.matches("lenet data fetch").count() >= 3, "{stdout}");
}

#[test]
fn fetching_that_fails_says_what_to_do_and_leaves_the_folder_clean() {
    let place = Place::new();
    let length = 9_912_422;
    let servers = [
        (Server::new(Manner::NotFound, b"").url, "404"),
        (Server::new(Manner::WrongBytes, &vec![0; length]).url, "other bytes than were published"),
        (nobody(), ""),
    ];
    for (url, part) in servers {
        let refused = place.lenet(&["data", "fetch", "mnist", "--from", &url]);
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        let address = format!("{url}/train-images-idx3-ubyte.gz");
        for part in [part, &address, "cache/wgrad/mnist", "--from", "--data", "error: cannot download"] {
            assert!(refused.stderr.contains(part), "{part} in {}", refused.stderr);
        }
        assert!(!refused.stdout.contains(['\u{1b}', '\r']), "{:?}", refused.stdout);
        assert_eq!(std::fs::read_dir(place.path("cache/wgrad/mnist")).unwrap().count(), 0);
    }
    assert_eq!(place.lenet(&["data", "fetch", "imagenet"]).code, 2);
    assert_eq!(place.lenet(&["data", "fetch"]).code, 2);
    let lacking = place.lenet(&["--device=cpu", "--dataset=mnist"]);
    assert!(lacking.stderr.contains("lenet data fetch mnist"), "{}", lacking.stderr);
}

#[test]
fn a_data_set_is_shown_in_numbers_and_images() {
    let place = Place::new();
    let show = ["data", "show", "fashion-mnist", "--data", DATA];
    let stdout = succeeds(place.lenet(&show));
    for part in ["10,000 training images of 28×28 pixels, grey", "mean 0.2", "    8  Bag"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let counts = stdout.lines().skip_while(|line| !line.starts_with("class")).skip(1);
    let counts = counts.map(|line| line.split_whitespace().last().unwrap().replace(',', "").parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), 10_000);

    let draw = |more: &[&str]| {
        let stdout = succeeds(place.lenet(&[&show[..], &["--picture", "made/images.png"], more].concat()));
        assert!(stdout.contains("made/images.png"), "{stdout}");
        check_png(&place.path("made/images.png"));
        std::fs::read(place.path("made/images.png")).unwrap()
    };
    let first = draw(&["--split=test", "--count=8"]);
    assert!(first != draw(&["--split=train", "--count=8"]));
    assert!(draw(&["--seed=1"]) == draw(&["--seed=1"]) && draw(&["--seed=1"]) != draw(&["--seed=2"]));
    assert!(draw(&["--class=bag"]) == draw(&["--class=8"]));
    draw(&["--each-class"]);
    draw(&["--each-class", "--count=3", "--seed=7"]);

    let cases: [(&[&str], i32, &str); 4] = [
        (&["--class=hat", "--picture=x.png"], 2, "T-shirt/top, Trouser"),
        (&["--class=1"], 2, "--picture"),
        (&["--count=0", "--picture=x.png"], 2, "at least 1"),
        (&["--split=validation"], 2, "train, test"),
    ];
    for (more, code, part) in cases {
        let refused = place.lenet(&[&show[..], more].concat());
        assert_eq!(refused.code, code, "{more:?}");
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
}
