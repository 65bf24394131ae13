//! A whole call of a plugin: variables and configuration in, one JSON object or nothing out, and never a panic.
//!
//! The input is the variables by line (command, container id, namespace, interface, arguments), then the configuration.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ocicat_cni::{AddResult, Call, CniError, Environment, Plugin, run};
use serde_json::Value;

/// Answers with what came before it in the chain.
struct Echo;

impl Plugin for Echo {
    type Config = Value;

    fn add(&self, call: Call<Value>) -> Result<AddResult, CniError> {
        let labels = call.network.labels();
        let addresses = call
            .network
            .runtime_config
            .addresses()
            .map_err(CniError::config)?;
        let _ = (
            labels.len(),
            addresses.len(),
            call.attachment.host_link("v", &call.network.name),
        );
        Ok(call.network.prev_result.unwrap_or_default())
    }

    fn del(&self, _: Call<Value>) -> Result<(), CniError> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(6, '\n');
    let mut line = || {
        lines
            .next()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
    };
    let environment = Environment {
        command: line(),
        container_id: line(),
        netns: line(),
        ifname: line(),
        args: line(),
        path: None,
    };
    // The one command that would run other programs finds none without CNI_PATH.
    let config = line().unwrap_or_default();
    let mut stdout = Vec::new();
    run(&Echo, &environment, config.as_bytes(), &mut stdout);
    if stdout.is_empty() {
        return;
    }
    let answer: Value = serde_json::from_slice(&stdout).expect("one JSON value");
    assert!(answer["cniVersion"].is_string(), "{answer}");
    assert_ne!(answer["code"], 999, "a panic: {answer}");
    if environment.command.as_deref() == Some("ADD") && answer.get("code").is_none() {
        let again = AddResult::from_value(&answer).expect("a result that reads as one");
        let version = answer["cniVersion"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a version");
        assert_eq!(again.to_value(version), answer);
    }
});
