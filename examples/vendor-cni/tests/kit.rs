//! Manul keeps the rules that `plugin_kit` tests, and the length that its README promises. Needs root, or a user namespace, and `ip`.

use std::net::IpAddr;
use std::time::SystemTime;

use manul::Sticky;
use ocicat_cni::testing::plugin_kit::{Kit, Verdict};
use ocicat_ipam::{AssignRequest, Family, IpamConfig, Owner, Pool, View, rehearse};
use serde_json::json;

#[test]
fn manul_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let datastore = format!("sqlite:{}", folder.path().join("manul.db").display());
    let config = json!({"range": "10.80.0.0/24", "datastore": datastore});
    let report = Kit::new(env!("CARGO_BIN_EXE_manul"), config).run();
    report.assert();
    assert!(
        report
            .verdicts
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Passed),
        "{report}"
    );
}

fn address(pod: &str, taken: &[&str]) -> IpAddr {
    let cidr = "10.80.0.0/24".parse().unwrap();
    let mut pool = Pool::new("net", cidr);
    pool.block_size = 24;
    let mut view = View::new(
        Owner::host("h"),
        IpamConfig::default(),
        &[],
        SystemTime::UNIX_EPOCH,
    );
    let mut ask = |pod: &str| {
        let request = AssignRequest::new("h", pod).v4(1).attribute("pod", pod);
        rehearse(
            &Sticky,
            &mut view,
            &request,
            Family::V4,
            std::slice::from_ref(&pool),
        )
        .addresses[0]
    };
    for pod in taken {
        ask(pod);
    }
    ask(pod)
}

#[test]
fn an_address_sticks_to_the_name_unless_it_is_taken() {
    assert_eq!(address("web", &[]), address("web", &["db", "cache"]));
    assert_ne!(address("web", &[]), address("db", &[]));
    assert_ne!(address("web", &["web"]), address("web", &[]));
}

/// Lines that are neither empty nor comments, of all that is not tests.
#[test]
fn it_is_under_400_lines_of_code() {
    let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let count = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let shipped = text.split("#[cfg(test)]").next().unwrap();
        shipped.lines().filter(code).count()
    };
    let mut folders = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    let mut lines = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if path.is_dir() {
                folders.push(path);
            } else {
                lines.push((count(&path), path));
            }
        }
    }
    let total: usize = lines.iter().map(|(count, _)| count).sum();
    assert!(
        (100..400).contains(&total),
        "{total} lines of code: {lines:?}"
    );
}
