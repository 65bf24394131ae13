//! Input that nobody would write on purpose: what the fuzz targets do, in short, with every build.

use ocicat_cni::runtime::Conflist;
use ocicat_cni::testing::read_request;
use ocicat_cni::{
    AddResult, Args, Call, CniError, Environment, NetworkConfig, Plugin, Version, run,
};
use proptest::prelude::*;
use serde_json::{Map, Value};

struct Echo;

impl Plugin for Echo {
    type Config = Value;

    fn add(&self, call: Call<Value>) -> Result<AddResult, CniError> {
        call.network
            .runtime_config
            .addresses()
            .map_err(CniError::config)?;
        Ok(call.network.prev_result.unwrap_or_default())
    }

    fn del(&self, _: Call<Value>) -> Result<(), CniError> {
        Ok(())
    }
}

const KEYS: &[&str] = &[
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "ipam",
    "dns",
    "args",
    "cni",
    "labels",
    "key",
    "value",
    "runtimeConfig",
    "ips",
    "mac",
    "portMappings",
    "hostPort",
    "capabilities",
    "prevResult",
    "interfaces",
    "address",
    "gateway",
    "interface",
    "routes",
    "dst",
    "gw",
    "mtu",
    "plugins",
    "disableGC",
    "protocol",
    "command",
    "role",
    "container_id",
    "ifname",
    "config",
    "ipam_result",
    "deadline_ms",
    "cni.dev/attachments",
];

const WORDS: &[&str] = &[
    "1.1.0",
    "1.0.0",
    "0.3.1",
    "0.1.0",
    "net",
    "ptp",
    "../x",
    "",
    "10.0.0.1/24",
    "10.0.0.1",
    "fd00::1/64",
    "::1",
    "0.0.0.0/0",
    "true",
    "ADD",
    "GC",
    "eth0",
    "network",
    "ipam",
    "\u{0}",
    "\u{1F431}",
];

/// JSON whose keys and words are those of the formats, in the wrong places.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just(0_u64), Just(1), Just(u64::MAX)].prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(WORDS).prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let entry = (proptest::sample::select(KEYS), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(entry, 0..8).prop_map(|entries| {
                let map: Map<_, _> = entries
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect();
                Value::from(map)
            }),
        ]
    })
}

/// A configuration that is good but for some keys.
fn nearly_good() -> impl Strategy<Value = Value> {
    let entry = (proptest::sample::select(KEYS), json());
    prop::collection::vec(entry, 0..4).prop_map(|entries| {
        let mut value = serde_json::json!({"cniVersion": "1.1.0", "name": "net", "type": "t", "protocol": 1,
            "command": "ADD", "container_id": "a", "ifname": "eth0",
            "config": {"cniVersion": "1.1.0", "name": "net", "type": "t"}, "plugins": [{"type": "t"}]});
        for (key, wrong) in entries {
            value[key] = wrong;
        }
        value
    })
}

fn call(config: &[u8], command: &str, args: &str) -> Result<Value, CniError> {
    let environment = Environment {
        command: Some(command.to_owned()),
        container_id: Some("a".to_owned()),
        netns: Some("/run/netns/a".to_owned()),
        ifname: Some("eth0".to_owned()),
        args: Some(args.to_owned()),
        path: None,
    };
    let mut stdout = Vec::new();
    run(&Echo, &environment, config, &mut stdout);
    if stdout.is_empty() {
        return Ok(Value::Null);
    }
    let answer: Value = serde_json::from_slice(&stdout).unwrap();
    assert!(answer["cniVersion"].is_string(), "{answer}");
    match answer.get("code") {
        None => Ok(answer),
        Some(_) => Err(serde_json::from_value(answer).unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_plugin_answers_anything_with_a_result_or_an_error(
        config in prop_oneof![json(), nearly_good()],
        command in prop_oneof![Just("ADD"), Just("DEL"), Just("CHECK"), Just("GC"), Just("STATUS")],
        args in ".{0,20}",
    ) {
        match call(config.to_string().as_bytes(), command, &args) {
            Ok(Value::Null) => {}
            Ok(answer) => {
                let result = AddResult::from_value(&answer).unwrap();
                let version: Version = answer["cniVersion"].as_str().unwrap().parse().unwrap();
                prop_assert_eq!(result.to_value(version), answer);
            }
            Err(error) => prop_assert!(error.code != 0 && error.code != CniError::INTERNAL, "{}", error),
        }
    }

    #[test]
    fn bytes_are_a_configuration_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = NetworkConfig::parse(&bytes);
        let _ = Conflist::parse(&bytes);
        let _ = read_request(&bytes);
    }

    #[test]
    fn lists_and_requests(value in prop_oneof![json(), nearly_good()]) {
        if let Ok(list) = Conflist::from_value(value.clone()) {
            let again = Conflist::from_value(list.raw().clone()).unwrap();
            prop_assert_eq!(again, list);
        }
        if let Err(error) = read_request(value.to_string().as_bytes()) {
            prop_assert!(error.code != 0 && !error.msg.is_empty(), "{:?}", error);
        }
    }

    #[test]
    fn arguments_are_read_as_they_are_written(text in ".{0,40}") {
        if let Ok(args) = text.parse::<Args>() {
            let written = args.to_string();
            prop_assert_eq!(written.parse::<Args>(), Ok(args));
        }
    }
}
