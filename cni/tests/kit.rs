//! The kit for plugins: a plugin that keeps the rules passes, and each that breaks one is found out.
//!
//! These need root, or a user namespace, and `ip` and `nsenter`. They fail where those are not there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ocicat_cni::testing::plugin_kit::{Kit, Verdict};
use serde_json::json;

/// The example `veth`, which cargo builds beside the tests.
fn veth() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples/veth");
    assert!(
        program.exists(),
        "{} is missing: cargo test --features testing builds it",
        program.display()
    );
    program
}

fn kit(program: &Path, folder: &Path) -> Kit {
    Kit::new(
        program,
        json!({"subnet": "10.66.0", "folder": folder.join("addresses")}),
    )
}

#[test]
fn a_plugin_that_keeps_the_rules_passes() {
    let folder = tempfile::tempdir().unwrap();
    let report = kit(&veth(), folder.path()).run();
    report.assert();
    let passed = report
        .verdicts
        .iter()
        .filter(|(_, verdict)| *verdict == Verdict::Passed)
        .count();
    assert_eq!(passed, Kit::checks().count(), "{report}");
    let left = std::fs::read_dir(folder.path().join("addresses"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "addresses are left");
}

/// What a plugin does before, or instead of, the real one: `real` runs it.
const WRONG: &[(&str, &str)] = &[
    (
        "version",
        r#"[ "$CNI_NETNS" = dummy ] && { fail 4; }; real"#,
    ),
    (
        "version",
        r#"[ "$CNI_COMMAND" = VERSION ] && [ "$CNI_NETNS" = dummy ] && { echo '{}'; exit 0; }; real"#,
    ),
    (
        "commands",
        r#"case "$CNI_COMMAND" in VERSION|ADD|DEL|CHECK|GC|STATUS) real;; *) exit 0;; esac"#,
    ),
    (
        "commands",
        r#"case "$CNI_COMMAND" in VERSION|ADD|DEL|CHECK|GC|STATUS) real;; *) exit 1;; esac"#,
    ),
    (
        "variables",
        r#"[ "$CNI_COMMAND" = DEL ] && [ -z "$CNI_IFNAME" ] && exit 0; real"#,
    ),
    (
        "variables",
        r#"[ -z "$CNI_IFNAME" ] && [ "$CNI_COMMAND" = ADD ] && fail 4; real"#,
    ),
    ("names", r#"[ "$CNI_IFNAME" = . ] && fail 7; real"#),
    (
        "configuration",
        r#"input=$(cat); [ -z "$input" ] && exit 0; printf '%s' "$input" | real"#,
    ),
    (
        "nothing-to-delete",
        r#"[ "$CNI_CONTAINERID" = never ] && fail 3; real"#,
    ),
    (
        "nothing-to-delete",
        r#"[ "$CNI_COMMAND" = DEL ] && [ -z "$CNI_NETNS" ] && fail 4; real"#,
    ),
    ("status", r#"[ "$CNI_COMMAND" = STATUS ] && fail 50; real"#),
    ("add", r#"[ "$CNI_COMMAND" = ADD ] && echo hello; real"#),
    ("add", r#"[ "$CNI_COMMAND" = DEL ] && exit 0; real"#),
    ("add", r#"real | sed s/10.66.0.1/10.66.0.99/"#),
    ("add", r#"real | sed s/eth0/eth7/"#),
    (
        "every-version",
        r#"real | sed 's/"version":"4",*//; s/,}/}/'"#,
    ),
    ("unknown-keys", r#"[ -n "$CNI_ARGS" ] && fail 4; real"#),
    (
        "add-twice",
        r#"[ "$CNI_COMMAND" = ADD ] && nsenter --net="$CNI_NETNS" ip link del eth0 2>/dev/null; real"#,
    ),
    (
        "two-interfaces",
        r#"[ "$CNI_IFNAME" = net1 ] && [ "$CNI_COMMAND" = DEL ] && nsenter --net="$CNI_NETNS" ip link del eth0; real"#,
    ),
    (
        "two-interfaces",
        r#"real; code=$?; [ "$CNI_IFNAME" = net1 ] && [ "$CNI_COMMAND" = DEL ] && rm -f STATE/addresses/*.1; exit $code"#,
    ),
    ("check", r#"[ "$CNI_COMMAND" = CHECK ] && exit 0; real"#),
    ("check", r#"[ "$CNI_COMMAND" = CHECK ] && fail 7; real"#),
    (
        "delete-again",
        r#"[ "$CNI_COMMAND" = DEL ] && [ "$CNI_CONTAINERID" = a ] && ! nsenter --net="$CNI_NETNS" ip link show eth0 >/dev/null 2>&1 && fail 3; real"#,
    ),
    (
        "namespace-gone",
        r#"[ "$CNI_COMMAND" = DEL ] && [ -n "$CNI_NETNS" ] && [ ! -e "$CNI_NETNS" ] && fail 4; real"#,
    ),
    (
        "older-container",
        r#"[ "$CNI_COMMAND" = DEL ] && [ "$CNI_CONTAINERID" = old ] && for l in $(ip -o link | sed -n 's/^[0-9]*: \(v[0-9a-f]*\)@.*/\1/p'); do ip link del $l; done; real"#,
    ),
    ("gc", r#"[ "$CNI_COMMAND" = GC ] && exit 0; real"#),
    (
        "gc",
        r#"[ "$CNI_COMMAND" = GC ] && for l in $(ip -o link | sed -n 's/^[0-9]*: \(v[0-9a-f]*\)@.*/\1/p'); do ip link del $l; done; real"#,
    ),
    (
        "gc-of-another-network",
        r#"[ "$CNI_COMMAND" = GC ] && for l in $(ip -o link | sed -n 's/^[0-9]*: \(v[0-9a-f]*\)@.*/\1/p'); do ip link del $l; done; real"#,
    ),
    (
        "missing-namespace",
        r#"[ "$CNI_COMMAND" = ADD ] && [ ! -e "$CNI_NETNS" ] && ip link add left type veth peer name left2; real"#,
    ),
    (
        "missing-namespace",
        r#"[ "$CNI_COMMAND" = ADD ] && [ ! -e "$CNI_NETNS" ] && { echo '{}'; exit 0; }; real"#,
    ),
    (
        "host-namespace",
        r#"[ "$CNI_NETNS" = /proc/self/ns/net ] && { echo '{}'; exit 0; }; real"#,
    ),
    (
        "interface-taken",
        r#"[ "$CNI_COMMAND" = ADD ] && nsenter --net="$CNI_NETNS" ip link del taken 2>/dev/null; real"#,
    ),
    (
        "many-at-once",
        r##"sed "s#/addresses#/$CNI_CONTAINERID#" | real"##,
    ),
    (
        "two-deletes-at-once",
        r#"[ "$CNI_COMMAND" = DEL ] && { mkdir LOCK 2>/dev/null || fail 5; real; code=$?; rmdir LOCK; exit $code; }; real"#,
    ),
    (
        "killed",
        r#"[ "$CNI_COMMAND" = ADD ] && ip link add left$$ type veth peer name right$$ && [ "$CNI_CONTAINERID" != k3 ] && ip link del left$$; real"#,
    ),
];

#[test]
fn each_broken_rule_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut missed = Vec::new();
    for (i, (check, wrong)) in WRONG.iter().enumerate() {
        let program = folder.path().join(format!("wrong{i}"));
        let lock = folder.path().join("lock");
        let state = folder.path().join(format!("state{i}"));
        let wrong = wrong.replace("LOCK", lock.to_str().unwrap());
        let wrong = wrong.replace("STATE", state.to_str().unwrap());
        let script = format!(
            "#!/bin/sh\nreal() {{ {}; }}\nfail() {{ echo \"{{\\\"code\\\":$1,\\\"msg\\\":\\\"wrong\\\"}}\"; exit 1; }}\n{wrong}\n",
            veth().display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let verdict = kit(&program, &state).run_one(check);
        println!("{check}: {verdict:?}");
        if !matches!(verdict, Some(Verdict::Failed(_))) {
            missed.push(format!("{check}: {wrong}"));
        }
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
    let covered = |check: &str| WRONG.iter().any(|(name, _)| *name == check);
    let uncovered: Vec<_> = Kit::checks().filter(|check| !covered(check)).collect();
    assert!(
        uncovered.is_empty(),
        "checks without a plugin that they must fail: {uncovered:?}"
    );
}

#[test]
fn exceptions_and_programs_that_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let kit = kit(&folder.path().join("absent"), folder.path()).except("gc", "not written yet");
    assert!(matches!(kit.run_one("add"), Some(Verdict::Failed(_))));
    assert_eq!(
        kit.run_one("gc"),
        Some(Verdict::NotApplicable("not written yet".into()))
    );
    assert_eq!(kit.run_one("nope"), None);
}
