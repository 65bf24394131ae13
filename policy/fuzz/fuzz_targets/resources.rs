//! Resources, one JSON object a line: whatever they say, they are converted, computed and judged without a panic, and
//! when all of them are gone, nothing is left.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_dataplane::State;
use ocicat_datastore::Object;
use ocicat_policy::{Flow, Graph, Model, Update, reach};
use serde_json::{Value, json};

fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"node": "n1", "orchestrator": "k8s", "interfaceName": format!("cali{name}"),
                 "profiles": ["kns.shop"], "ipNetworks": [address],
                 "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    })
}

fuzz_target!(|text: &str| {
    let given = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let values: Vec<Value> = [pod("web", "10.0.0.1/32"), pod("db", "10.0.0.2/32")]
        .into_iter()
        .chain(given)
        .collect();
    let (mut graph, mut model, mut state) = (Graph::new("n1"), Model::new(), State::default());
    let mut keys = Vec::new();
    for object in values
        .into_iter()
        .filter_map(|value| Object::from_value(value).ok())
    {
        keys.push(object.key());
        if let Ok(Some(update)) = Update::of(&object) {
            graph.update(update.clone());
            model.update(update);
        }
    }
    graph.flush(&mut state);
    let (web, db) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    for port in [80, 443] {
        let _ = model.evaluate(&Flow::tcp(web, db, port)).to_string();
    }
    let _ = reach(&model, &[]);
    let _ = ocicat_dataplane::nft::render(&state);
    for key in &keys {
        if let Some(update) = Update::gone(key) {
            graph.update(update);
        }
    }
    graph.flush(&mut state);
    assert!(
        state.workloads.is_empty() && state.policies.is_empty() && state.sets.is_empty(),
        "{state:?}"
    );
});
