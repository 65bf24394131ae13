use std::process::Output;
use std::sync::Mutex;

use super::*;

/// Plugins that are closures: the program's name decides, every call is noted.
struct Fake {
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

fn fake(
    answer: impl Fn(&str, &str, &Value) -> Result<Value, CniError> + Send + Sync + 'static,
) -> Fake {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let calls = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&calls);
    let exec = move |invocation: &Invocation| {
        let config: Value = serde_json::from_slice(&invocation.stdin)?;
        let plugin = invocation.program.file_name().unwrap().to_str().unwrap();
        let command = invocation.variables["CNI_COMMAND"].as_str();
        noted
            .lock()
            .unwrap()
            .push((format!("{plugin} {command}"), config.clone()));
        let (code, stdout) = match answer(plugin, command, &config) {
            Ok(value) => (0, value.to_string()),
            Err(error) => (1, error.to_value(crate::Version::LATEST).to_string()),
        };
        let status = std::os::unix::process::ExitStatusExt::from_raw(code << 8);
        Ok(Output {
            status,
            stdout: stdout.into_bytes(),
            stderr: Vec::new(),
        })
    };
    let runtime = Runtime::new([folder.path()], folder.path().join("cache")).exec(exec);
    Fake {
        calls,
        runtime,
        folder,
    }
}

impl Fake {
    fn take(&self) -> Vec<String> {
        self.calls
            .lock()
            .unwrap()
            .drain(..)
            .map(|(call, _)| call)
            .collect()
    }
}

fn list(version: &str) -> Conflist {
    let json = json!({"cniVersion": version, "name": "net", "plugins": [
        {"type": "first", "capabilities": {"ips": true, "mac": false}},
        {"type": "second", "capabilities": {"portMappings": true}, "own": 1},
    ]});
    Conflist::from_value(json).unwrap()
}

fn pod(id: &str) -> Attachment {
    Attachment::new(id, "eth0")
        .unwrap()
        .netns("/run/netns/x")
        .capability("ips", json!(["10.0.0.1"]))
}

fn addresses(plugin: &str, command: &str, config: &Value) -> Result<Value, CniError> {
    match (plugin, command) {
        ("first", "ADD") => Ok(json!({"ips": [{"address": "10.0.0.1/24"}]})),
        ("second", "ADD") => {
            let mut result = config["prevResult"].clone();
            result["dns"]["domain"] = "x".into();
            Ok(result)
        }
        _ => Ok(Value::Null),
    }
}

#[test]
fn a_chain_passes_results_on_and_forgets_them_after_del() {
    let fake = fake(addresses);
    let (list, pod) = (list("1.0.0"), pod("a"));
    let result = fake.runtime.add(&list, &pod).unwrap();
    assert_eq!(result.dns.domain.as_deref(), Some("x"));
    assert_eq!(result.ips.len(), 1);
    {
        let calls = fake.calls.lock().unwrap();
        assert_eq!(calls[0].1["runtimeConfig"], json!({"ips": ["10.0.0.1"]}));
        assert_eq!(calls[0].1["name"], "net");
        assert_eq!(calls[0].1.get("prevResult"), None);
        assert_eq!(calls[1].1.get("runtimeConfig"), None);
        assert_eq!(calls[1].1["own"], 1);
        assert_eq!(calls[1].1["prevResult"]["cniVersion"], "1.0.0");
    }
    assert!(matches!(
        fake.runtime.add(&list, &pod),
        Err(RuntimeError::Attached { .. })
    ));
    assert_eq!(fake.runtime.cached(&list, &pod.id).unwrap(), Some(result));
    fake.runtime.check(&list, &pod).unwrap();
    fake.runtime.del(&list, &pod).unwrap();
    let del = fake.calls.lock().unwrap().last().cloned().unwrap();
    assert_eq!(del.1["prevResult"]["dns"]["domain"], "x");
    fake.runtime.del(&list, &pod).unwrap();
    let del = fake.calls.lock().unwrap().last().cloned().unwrap();
    assert_eq!(del.1.get("prevResult"), None);
    assert_eq!(
        fake.take(),
        [
            "first ADD",
            "second ADD",
            "first CHECK",
            "second CHECK",
            "second DEL",
            "first DEL",
            "second DEL",
            "first DEL"
        ]
    );
    assert!(matches!(
        fake.runtime.check(&list, &pod),
        Err(RuntimeError::NotAttached { .. })
    ));
}

#[test]
fn a_failed_add_is_undone_and_a_failed_del_does_not_stop() {
    let failing = fake(|plugin, command, config| match (plugin, command) {
        ("second", "ADD" | "DEL") => Err(CniError::try_again("later")),
        _ => addresses(plugin, command, config),
    });
    let error = failing.runtime.add(&list("1.0.0"), &pod("a")).unwrap_err();
    assert_eq!(
        error.plugin_error().unwrap().code,
        CniError::TRY_AGAIN_LATER
    );
    assert!(matches!(error, RuntimeError::Undo { .. }), "{error}");
    assert_eq!(
        failing.take(),
        ["first ADD", "second ADD", "second DEL", "first DEL"]
    );
    assert!(
        failing
            .runtime
            .attachments(&list("1.0.0"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn garbage_is_what_is_cached_and_not_kept() {
    let fake = fake(addresses);
    let list = list("1.1.0");
    let keep = pod("keep");
    for pod in [&keep, &pod("drop")] {
        fake.runtime.add(&list, pod).unwrap();
    }
    let mut other = list.raw().clone();
    other["name"] = "other".into();
    let other = Conflist::from_value(other).unwrap();
    fake.runtime.add(&other, &pod("drop")).unwrap();
    fake.take();
    fake.runtime
        .gc(&list, std::slice::from_ref(&keep.id))
        .unwrap();
    let config = fake.calls.lock().unwrap().last().cloned().unwrap().1;
    assert_eq!(
        config["cni.dev/valid-attachments"],
        json!([{"containerID": "keep", "ifname": "eth0"}])
    );
    assert_eq!(
        config["cni.dev/attachments"],
        config["cni.dev/valid-attachments"]
    );
    assert_eq!(
        fake.take(),
        ["second DEL", "first DEL", "first GC", "second GC"]
    );
    assert_eq!(fake.runtime.attachments(&list).unwrap(), [keep.id]);
    assert_eq!(fake.runtime.attachments(&other).unwrap().len(), 1);
    fake.runtime.status(&list).unwrap();
    assert_eq!(fake.take(), ["first STATUS", "second STATUS"]);
}

#[test]
fn versions_and_switches() {
    let fake = fake(addresses);
    let old = list("0.3.1");
    for error in [
        fake.runtime.check(&old, &pod("a")),
        fake.runtime.status(&list("1.0.0")),
    ] {
        let error = error.unwrap_err();
        assert_eq!(
            error.plugin_error().unwrap().code,
            CniError::INCOMPATIBLE_VERSION
        );
    }
    fake.runtime.add(&old, &pod("a")).unwrap();
    fake.runtime.gc(&old, &[]).unwrap();
    assert_eq!(
        fake.take(),
        ["first ADD", "second ADD", "second DEL", "first DEL"]
    );
    let mut raw = list("1.1.0").raw().clone();
    raw["disableCheck"] = "true".into();
    raw["disableGC"] = true.into();
    raw["cniVersions"] = json!(["0.4.0", "1.0.0", "7.0.0"]);
    let off = Conflist::from_value(raw).unwrap();
    assert_eq!(off.version(), crate::Version::V1_1_0);
    fake.runtime.add(&off, &pod("b")).unwrap();
    fake.take();
    fake.runtime.check(&off, &pod("b")).unwrap();
    fake.runtime.gc(&off, &[]).unwrap();
    assert!(fake.take().is_empty());
}

#[test]
fn many_threads_share_a_runtime() {
    let fake = fake(addresses);
    let list = list("1.0.0");
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (fake, list) = (&fake, &list);
            scope.spawn(move || {
                for i in 0..10 {
                    let pod = pod(&format!("c{worker}-{i}"));
                    fake.runtime.add(list, &pod).unwrap();
                    if i % 2 == 0 {
                        fake.runtime.del(list, &pod).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(fake.runtime.attachments(&list).unwrap().len(), 40);
    assert!(fake.runtime.cache_folder().starts_with(fake.folder.path()));
}

#[test]
fn lists_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, value: &Value| std::fs::write(path(name), value.to_string()).unwrap();
    write(
        "20-b.conf",
        &json!({"cniVersion": "0.4.0", "name": "b", "type": "bridge", "x": 1}),
    );
    write("10-a.conflist", list("1.1.0").raw());
    write(
        "bad.conflist",
        &json!({"cniVersion": "1.0.0", "name": "net", "plugins": []}),
    );
    write("ignored.txt", &json!({}));
    std::fs::create_dir(path("net")).unwrap();
    write("net/50-more.conf", &json!({"type": "more"}));
    let files = Conflist::files(folder.path()).unwrap();
    assert_eq!(
        files,
        [
            path("10-a.conflist"),
            path("20-b.conf"),
            path("bad.conflist")
        ]
    );
    let names: Vec<_> = Conflist::load(&files[0])
        .unwrap()
        .plugins()
        .iter()
        .map(|p| p.name().to_string())
        .collect();
    assert_eq!(names, ["first", "second", "more"]);
    assert_eq!(Conflist::load(&files[1]).unwrap().plugins().len(), 1);
    let error = Conflist::load(&files[2]).unwrap_err().to_string();
    assert!(error.contains("bad.conflist: plugins: is empty"), "{error}");
    assert!(matches!(
        Conflist::load(path("none")),
        Err(RuntimeError::Read { .. })
    ));
    assert!(Conflist::files(path("none")).unwrap().is_empty());
}

#[test]
fn a_real_process_and_one_that_fails_without_an_answer() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\n[ \"$CNI_COMMAND\" = DEL ] && exit 0\n[ \"$CNI_IFNAME\" = eth1 ] && { echo oops >&2; exit 3; }\ncat >/dev/null\necho '{\"ips\":[{\"address\":\"10.9.9.9/32\"}]}'\n";
    let program = folder.path().join("first");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = Runtime::new([folder.path()], folder.path().join("cache"));
    let list = Conflist::parse(br#"{"cniVersion":"1.0.0","name":"n","type":"first"}"#).unwrap();
    let result = runtime.add(&list, &pod("a")).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.9.9.9/32");
    let error = runtime
        .add(&list, &Attachment::new("a", "eth1").unwrap())
        .unwrap_err();
    let error = error.plugin_error().unwrap();
    assert_eq!(error.code, CniError::INTERNAL);
    assert!(error.to_string().contains("oops"), "{error}");
    let missing = Conflist::parse(br#"{"cniVersion":"1.0.0","name":"n","type":"absent"}"#).unwrap();
    assert!(
        runtime
            .add(&missing, &pod("b"))
            .unwrap_err()
            .to_string()
            .contains("absent")
    );
}

#[test]
fn a_program_that_hangs_is_killed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("first");
    // The child of the program keeps the pipes open, as a plugin's plugin would.
    std::fs::write(
        &program,
        "#!/bin/sh\n[ \"$CNI_COMMAND\" = DEL ] && exit 0\nsleep 20\n",
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = Runtime::new([folder.path()], folder.path().join("cache"))
        .timeout(Some(Duration::from_millis(300)));
    let list = Conflist::parse(br#"{"cniVersion":"1.0.0","name":"n","type":"first"}"#).unwrap();
    let start = std::time::Instant::now();
    match runtime.add(&list, &pod("a")).unwrap_err() {
        RuntimeError::Exec { source, .. } => {
            assert_eq!(source.kind(), std::io::ErrorKind::TimedOut)
        }
        other => panic!("{other}"),
    }
    assert!(start.elapsed() < Duration::from_secs(15));
}
