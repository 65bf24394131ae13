//! The program on its samples, and on what is wrong with them.

use std::path::Path;
use std::process::Command;

/// Runs the program on the sample manifests and these cases: exit code, what it reports in this form, standard error.
fn run(cases: &Path, form: &str) -> (i32, String, String) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocicatctl"));
    command.args(["policy", "test"]).arg(cases);
    command.arg("--manifests").arg(samples.join("manifests"));
    let junit = tempfile::NamedTempFile::new().unwrap();
    match form {
        "junit" => command.arg("--junit").arg(junit.path()),
        form => command.args(["--output", form]),
    };
    let out = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let report = match form {
        "junit" => std::fs::read_to_string(junit.path()).unwrap(),
        _ => text(out.stdout),
    };
    (out.status.code().unwrap(), report, text(out.stderr))
}

/// The sample cases with `from` replaced by `to`, in a file of this name.
fn changed(file: &str, from: &str, to: &str) -> std::path::PathBuf {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let cases = std::fs::read_to_string(samples.join("cases.yaml")).unwrap();
    assert!(cases.contains(from), "{from}");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    std::fs::write(&path, cases.replacen(from, to, 1)).unwrap();
    path
}

#[test]
fn the_samples_hold() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/cases.yaml");
    let (code, out, err) = run(&cases, "table");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("ok    the shop is open\n"), "{out}");
    assert!(out.ends_with("\n8 passed, 0 failed\n"), "{out}");
    let (code, out, _) = run(&cases, "junit");
    assert_eq!(code, 0);
    assert!(out.contains("<testsuite name=\"policy\" tests=\"8\" failures=\"0\" errors=\"0\">"));
}

#[test]
fn a_case_that_does_not_hold_says_why() {
    let cases = changed(
        "deny.yaml",
        "expect: allow, by: default/web",
        "expect: deny",
    );
    let (code, out, _) = run(&cases, "table");
    assert_eq!(code, 4);
    let expected = "\
FAIL  the shop is open: expected deny, found allow by default/shop/knp.default.web
      allow: TCP 192.0.2.1 -> 198.18.0.1 port 8080
";
    assert!(out.contains(expected), "{out}");
    assert!(out.ends_with("\n7 passed, 1 failed\n"), "{out}");

    let (code, out, _) = run(&cases, "json");
    assert_eq!(code, 4);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["passed"], &report["failed"]),
        (&7.into(), &1.into())
    );
    let case = &report["cases"][0];
    assert_eq!(case["passed"], false);
    assert_eq!(
        case["trace"]["policy"],
        "NetworkPolicy/shop/knp.default.web"
    );

    let (code, out, _) = run(&cases, "junit");
    assert_eq!(code, 4);
    let failure = "<failure message=\"expected deny, found allow by default/shop/knp.default.web\">allow: TCP 192.0.2.1 -&gt; ";
    assert!(out.contains(failure), "{out}");
}

#[test]
fn who_decides_counts() {
    for (from, to, found) in [
        (
            "by: default/web",
            "by: security/no-telnet",
            "default/shop/knp.default.web",
        ),
        (
            "by: default/web",
            "by: default",
            "default/shop/knp.default.web",
        ),
        (
            "expect: deny, by: default}",
            "expect: deny, by: default/web}",
            "default",
        ),
        (
            "by: default/shop/db",
            "by: default/other/db",
            "default/shop/knp.default.db",
        ),
        (
            "by: security/no-telnet",
            "by: default/no-telnet",
            "security/security.no-telnet",
        ),
    ] {
        let (code, out, err) = run(&changed("by.yaml", from, to), "table");
        assert_eq!(code, 4, "{to}: {err}");
        let found = format!("by {found}\n");
        assert!(out.contains(&found), "{to}: {out}");
    }
}

#[test]
fn faults_have_their_place() {
    for (from, to, fault) in [
        (
            "from: shop/web, to: shop/db",
            "from: shop/wep, to: shop/db",
            "4: from: there is no pod shop/wep in the manifests",
        ),
        (
            "protocol: udp",
            "protocol: upd",
            "5: protocol: expected tcp, udp, sctp, icmp or 0-255",
        ),
        (
            "protocol: icmp",
            "protocol: icmp, port: 1",
            "7: port: ICMP has no ports",
        ),
        ("port: 8080, ", "", "2: port: is missing"),
        ("port: 8080, ", "prot: 8080, ", "2: prot: unknown field"),
        (
            "from: 192.0.2.1",
            "from: 'fd00::2'",
            "2: to: fd00::2 and shop/web have no address of the same family",
        ),
        ("cases:", "case:", "1: case: unknown field"),
    ] {
        let path = changed("fault.yaml", from, to);
        let (code, out, err) = run(&path, "table");
        assert_eq!((code, out.as_str()), (1, ""), "{to}: {err}");
        let expected = format!("fault.yaml:{fault}");
        assert!(err.contains(&expected), "{to}: {err}");
    }
}
