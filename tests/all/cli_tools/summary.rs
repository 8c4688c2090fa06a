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
