use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::{AddResult, IpConfig};

#[derive(Default)]
struct Probe {
    seen: Mutex<Vec<String>>,
    only: Vec<Version>,
}

#[derive(serde::Deserialize)]
struct Own {
    #[serde(default)]
    mode: String,
}

impl Probe {
    fn note(&self, what: impl Into<String>, config: &Own) -> Result<(), CniError> {
        self.seen.lock().unwrap().push(what.into());
        match config.mode.as_str() {
            "panic" => panic!("asked to"),
            "fail" => Err(CniError::new(123, "asked to")),
            number if number.parse::<u32>().is_ok() => {
                Err(CniError::new(number.parse().unwrap_or(0), "asked to"))
            }
            _ => Ok(()),
        }
    }
}

impl Plugin for Probe {
    type Config = Own;

    fn add(&self, call: Call<Own>) -> Result<AddResult, CniError> {
        self.note(
            format!("add {} {:?}", call.attachment, call.netns),
            &call.config,
        )?;
        Ok(AddResult::new().ip(IpConfig::new("10.0.0.1/32".parse().unwrap())))
    }

    fn del(&self, call: Call<Own>) -> Result<(), CniError> {
        self.note(
            format!("del {} {:?}", call.attachment, call.netns),
            &call.config,
        )
    }

    fn check(&self, call: Call<Own>) -> Result<(), CniError> {
        self.note("check", &call.config)
    }

    fn gc(&self, call: GcCall<Own>) -> Result<(), CniError> {
        self.note(format!("gc {:?}", call.keep), &call.config)
    }

    fn status(&self, call: StatusCall<Own>) -> Result<(), CniError> {
        self.note("status", &call.config)
    }

    fn versions(&self) -> &[Version] {
        if self.only.is_empty() {
            Version::ALL
        } else {
            &self.only
        }
    }
}

fn environment(command: &str, without: &str) -> Environment {
    Environment::from_fn(|name| {
        let value = match name {
            _ if name == without => return None,
            "CNI_COMMAND" => command,
            "CNI_CONTAINERID" => "box",
            "CNI_NETNS" => "/run/netns/a",
            "CNI_IFNAME" => "eth0",
            "CNI_PATH" => "/opt/cni/bin:relative:/usr/lib/cni",
            _ => return None,
        };
        Some(value.to_owned())
    })
}

fn config(version: &str) -> Value {
    json!({"cniVersion": version, "name": "n", "type": "t"})
}

fn call(plugin: &Probe, environment: &Environment, input: &str) -> (ExitCode, String) {
    let mut stdout = Vec::new();
    let code = run(plugin, environment, input.as_bytes(), &mut stdout);
    (code, String::from_utf8(stdout).unwrap())
}

fn error_code(plugin: &Probe, environment: &Environment, input: &str) -> u64 {
    let (code, stdout) = call(plugin, environment, input);
    assert_eq!(code, ExitCode::FAILURE, "{stdout}");
    let value: Value = serde_json::from_str(&stdout).unwrap();
    assert!(value["cniVersion"].is_string(), "{stdout}");
    assert!(!value["msg"].as_str().unwrap().is_empty(), "{stdout}");
    value["code"].as_u64().unwrap()
}

#[test]
fn version_validates_nothing() {
    let dummies = Environment {
        command: Some("VERSION".into()),
        container_id: Some("/dummy/".into()),
        netns: Some("dummy".into()),
        ifname: Some("a name that is too long".into()),
        args: Some("no pair".into()),
        path: Some("dummy".into()),
    };
    for (input, said) in [
        (r#"{"cniVersion":"1.0.0"}"#, "1.0.0"),
        ("", "1.1.0"),
        ("x", "1.1.0"),
    ] {
        let (code, stdout) = call(&Probe::default(), &dummies, input);
        assert_eq!(code, ExitCode::SUCCESS);
        let value: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(value["cniVersion"], said);
        let all = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(value["supportedVersions"], all);
    }
}

#[test]
fn commands_reach_the_plugin_and_print_only_their_answer() {
    let mut with_keep = config("1.1.0");
    with_keep["cni.dev/valid-attachments"] = json!([{"containerID": "a", "ifname": "eth0"}]);
    with_keep["prevResult"] = json!({});
    let answer = "{\"cniVersion\":\"1.1.0\",\"dns\":{},\"ips\":[{\"address\":\"10.0.0.1/32\"}]}\n";
    for (command, seen, stdout) in [
        ("ADD", "add box/eth0 Some(\"/run/netns/a\")", answer),
        ("DEL", "del box/eth0 Some(\"/run/netns/a\")", ""),
        ("CHECK", "check", ""),
        (
            "GC",
            "gc [AttachmentId { container_id: ContainerId(\"a\"), ifname: InterfaceName(\"eth0\") }]",
            "",
        ),
        ("STATUS", "status", ""),
    ] {
        let plugin = Probe::default();
        let outcome = call(&plugin, &environment(command, ""), &with_keep.to_string());
        assert_eq!(outcome, (ExitCode::SUCCESS, stdout.to_owned()));
        assert_eq!(*plugin.seen.lock().unwrap(), [seen]);
    }
}

#[test]
fn every_missing_variable_is_named() {
    let input = config("1.1.0").to_string();
    for (command, needed) in [
        (
            "ADD",
            &["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..],
        ),
        (
            "CHECK",
            &["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
        ),
        ("DEL", &["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME"]),
    ] {
        for name in needed {
            let plugin = Probe::default();
            let (code, stdout) = call(&plugin, &environment(command, name), &input);
            assert_eq!(code, ExitCode::FAILURE);
            assert!(
                stdout.contains("\"code\":4") && stdout.contains(name),
                "{stdout}"
            );
            assert!(plugin.seen.lock().unwrap().is_empty());
        }
    }
    let (code, _) = call(&Probe::default(), &environment("DEL", "CNI_NETNS"), &input);
    assert_eq!(code, ExitCode::SUCCESS);
}

#[test]
fn every_fault_has_its_number() {
    let good = config("1.1.0").to_string();
    let with = |key: &str, value: Value| {
        let mut config = config("1.1.0");
        config[key] = value;
        config.to_string()
    };
    let changed = |name: &str, value: &str| {
        let base = environment("ADD", "");
        let mut changed = base.clone();
        match name {
            "CNI_CONTAINERID" => changed.container_id = Some(value.into()),
            "CNI_IFNAME" => changed.ifname = Some(value.into()),
            _ => changed.args = Some(value.into()),
        }
        changed
    };
    for (environment, input, code) in [
        (environment("NOPE", ""), good.clone(), 4),
        (environment("add", ""), good.clone(), 4),
        (changed("CNI_CONTAINERID", "../x"), good.clone(), 4),
        (changed("CNI_IFNAME", "a/b"), good.clone(), 4),
        (changed("CNI_IFNAME", "1234567890123456"), good.clone(), 4),
        (changed("CNI_ARGS", "A"), good.clone(), 4),
        (environment("ADD", ""), "{".into(), 6),
        (environment("ADD", ""), config("9.0.0").to_string(), 1),
        (environment("CHECK", ""), config("0.3.1").to_string(), 1),
        (environment("GC", ""), config("1.0.0").to_string(), 1),
        (environment("STATUS", ""), config("1.0.0").to_string(), 1),
        (environment("GC", ""), good.clone(), 7),
        (environment("CHECK", ""), good.clone(), 7),
        (environment("ADD", ""), with("mode", json!(5)), 7),
        (environment("ADD", ""), with("name", json!("")), 7),
        (environment("ADD", ""), with("mode", json!("fail")), 123),
        (environment("DEL", ""), with("mode", json!("panic")), 999),
    ] {
        assert_eq!(
            error_code(&Probe::default(), &environment, &input),
            code,
            "{input}"
        );
    }
    let narrow = Probe {
        only: vec![Version::V1_0_0],
        ..Probe::default()
    };
    assert_eq!(error_code(&narrow, &environment("ADD", ""), &good), 1);
}

#[test]
fn errors_are_written_in_the_version_of_the_configuration() {
    let mut raw = config("0.4.0");
    raw["mode"] = json!("fail");
    let (_, stdout) = call(&Probe::default(), &environment("ADD", ""), &raw.to_string());
    assert_eq!(
        stdout,
        "{\"cniVersion\":\"0.4.0\",\"code\":123,\"msg\":\"asked to\"}\n"
    );
}

#[test]
fn every_number_of_the_specification_reaches_stdout() {
    let plugin = Probe::default();
    for number in [1, 2, 3, 4, 5, 6, 7, 11, 50, 51, 100, 999] {
        for command in ["ADD", "DEL", "STATUS"] {
            let mut raw = config("1.1.0");
            raw["mode"] = json!(number.to_string());
            let code = error_code(&plugin, &environment(command, ""), &raw.to_string());
            assert_eq!(code, number, "{command}");
        }
    }
    assert_eq!(
        CniError::unsupported_field("range", "x").code,
        CniError::UNSUPPORTED_FIELD
    );
    assert_eq!(
        CniError::unknown_container("gone").code,
        CniError::UNKNOWN_CONTAINER
    );
}

#[test]
fn a_stdout_that_is_gone_is_a_failure() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let input = config("1.0.0").to_string();
    let code = run(
        &Probe::default(),
        &environment("ADD", ""),
        input.as_bytes(),
        Gone,
    );
    assert_eq!(code, ExitCode::FAILURE);
}
