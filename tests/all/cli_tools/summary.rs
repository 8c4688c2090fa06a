use crate::cli::{Place, lines, succeeds};

#[test]
fn the_network_is_summed_up_layer_by_layer() {
    let place = Place::new();
    let stdout = succeeds(place.lenet(&["summary"]));
    for part in ["(64, 1, 28, 28)", "(64, 6, 24, 24)", "44,426 parameters", "a multiply-add counts as 2"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let args = ["summary", "--dataset=cifar10", "--batch-norm", "--dropout=0.5", "--batch-size=7", "--json"];
    let object = lines(&succeeds(place.lenet(&args))).remove(0);
    assert_eq!((&object["num_parameters"], &object["num_buffers"]), (&62_018.into(), &12.into()));
    assert_eq!(object["input"], serde_json::json!([7, 3, 32, 32]));
    let layers = object["layers"].as_array().unwrap();
    let sum = |key: &str| layers.iter().map(|layer| layer[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("flops"), sum("num_parameters")), (object["flops"].as_u64().unwrap(), 62_018));
    assert!(layers.iter().any(|layer| layer["ops"][0] == "dropout"), "{object}");
    assert_eq!(place.lenet(&["summary", "--batch-size=0"]).code, 2);
}

/// The column that a word begins or, for numbers, ends in is the same in all lines of a table.
#[test]
fn tables_keep_their_columns_under_long_names() {
    let place = Place::new();
    let stdout = succeeds(place.lenet(&["summary", "--network=resnet", "--depth=8"]));
    let table: Vec<&str> = stdout.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    assert!(table.len() > 20 && table.iter().any(|line| line.starts_with("layer3.0.downsample")), "{stdout}");
    let ends = |line: &&str| line.chars().count();
    assert!(table.iter().all(|line| ends(line) == ends(&table[0])), "{stdout}");
    let column = table[0].find("output").unwrap();
    let shapes = table[1..].iter().filter(|line| !line.starts_with("total"));
    assert!(shapes.clone().all(|line| line[column..].starts_with('(')), "{stdout}");

    let stdout = succeeds(place.lenet(&["networks"]));
    assert!(stdout.contains("\nall-conv  ") && !stdout.contains("all_conv"), "names as flags have them: {stdout}");
}

#[test]
fn the_kernels_of_a_plan_are_written_as_they_are_compiled() {
    let place = Place::new();
    for more in [&[][..], &["--software"]] {
        let folder = if more.is_empty() { "gpu" } else { "software" };
        let stdout = succeeds(place.lenet(&[&["plan", "--wgsl", folder], more].concat()));
        let mut files: Vec<_> =
            std::fs::read_dir(place.path(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(stdout.contains(&format!("{} kernels written to {folder}", files.len())), "{stdout}");
        assert!(files.len() > 10, "{files:?}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            // The line that browsers want and naga does not know yet.
            let module = naga::front::wgsl::parse_str(&text.replacen("enable subgroups;", "", 1)).unwrap();
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let entry_point = name.split('.').nth(1).unwrap();
            assert!(module.entry_points.iter().any(|entry| entry.name == entry_point), "{name}");
        }
    }
    std::fs::write(place.path("taken"), "").unwrap();
    let done = place.lenet(&["plan", "--wgsl", "taken"]);
    assert!(done.code == 1 && done.stderr.contains("taken"), "{}", done.stderr);
}
