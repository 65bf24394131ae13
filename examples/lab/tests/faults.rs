//! Mistakes at the command line: one line, and an exit code that says that it failed.

use std::fs;
use std::process::Command;

const SCENARIO: &str = "\
racks: [{name: a, cidr: 192.168.10.0/24}]
nodes: [{name: n1, rack: a}]
pools:
  - {name: main, cidr: 10.10.0.0/16}
  - {name: other, cidr: 10.20.0.0/16, nodeSelector: all()}
namespaces: [{name: shop}]
pods:
  - {name: web, namespace: shop, node: n1}
apply: [policy.yaml]
";

const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: app == 'web'
  types: [Ingress]
";

/// Which file is changed, from what to what, and how the one line begins behind the folder's name.
const MISTAKES: [(&str, &str, &str, &str); 8] = [
    (
        "s.yaml",
        "node: n1}",
        "nod: n1}",
        "s.yaml:8: pods[0].nod: unknown field",
    ),
    (
        "s.yaml",
        "node: n1}",
        "node: n7}",
        "s.yaml:8: pods[0].node: there is no node \"n7\"",
    ),
    (
        "s.yaml",
        "10.20.0.0/16",
        "10.10.0.0/20",
        "s.yaml:5: pools[1].cidr: 10.10.0.0/20 overlaps pool main",
    ),
    (
        "s.yaml",
        "10.20.0.0/16",
        "10.20.0.0",
        "s.yaml:5: pools[1].cidr: ",
    ),
    (
        "s.yaml",
        "all()",
        "all(",
        "s.yaml:5: pools[1].nodeSelector: ",
    ),
    ("s.yaml", "policy.yaml", "absent.yaml", "absent.yaml: "),
    (
        "policy.yaml",
        "app == 'web'",
        "app = 'web'",
        "policy.yaml:5: spec.selector: ",
    ),
    (
        "policy.yaml",
        "kind: NetworkPolicy",
        "kind: NetworkPolice",
        "policy.yaml:2: kind: ",
    ),
];

#[test]
fn every_mistake_is_one_line_with_file_line_and_field() {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, from, to, expected) in MISTAKES {
        let write = |name: &str, text: &str| {
            let text = if name == file {
                text.replace(from, to)
            } else {
                text.to_owned()
            };
            fs::write(folder.path().join(name), text).expect("writing a file");
        };
        write("s.yaml", SCENARIO);
        write("policy.yaml", POLICY);
        let scenario = folder.path().join("s.yaml");
        let output = Command::new(env!("CARGO_BIN_EXE_ocicat-lab"))
            .args(["up", "-f"])
            .arg(scenario)
            .output();
        let output = output.expect("running ocicat-lab");
        let said = String::from_utf8_lossy(&output.stderr);
        let place = folder.path().join(expected);
        assert!(said.starts_with(&*place.to_string_lossy()), "{to}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert_eq!(output.status.code(), Some(1), "{to}");
    }
}

#[test]
fn a_lab_that_does_not_run_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_ocicat-lab"))
        .args(["down", "no-such-lab"])
        .output();
    let output = output.expect("running ocicat-lab");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no lab named no-such-lab runs"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn cases_are_checked_over_a_scenario() {
    let here = env!("CARGO_MANIFEST_DIR");
    let test = |cases: &str| {
        let scenario = format!("{here}/scenarios/demo.yaml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocicat-lab"));
        command.args(["policy-test", "-f", &scenario, cases]);
        let output = command.output().expect("running ocicat-lab");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = test(&format!("{here}/tests/policy/cases.yaml"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("3 passed, 0 failed"), "{said}");
    let folder = tempfile::tempdir().expect("a folder");
    let wrong = folder.path().join("wrong.yaml");
    let case = "cases: [{name: closed, from: blue/b1, to: shop/web, port: 8080, expect: deny}]";
    fs::write(&wrong, case).expect("writing a file");
    let (code, said) = test(&wrong.to_string_lossy());
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("FAIL  closed"), "{said}");
}
