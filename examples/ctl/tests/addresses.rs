//! `ipam` over a store in which the allocator has worked, and moves from one datastore to another.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use ocicat_datastore::ipam::StoreIpam;
use ocicat_datastore::model::{IpPool, IpPoolSpec, Node};
use ocicat_datastore::{Metadata, Store};
use ocicat_ipam::{AssignRequest, BlockAffine, Ipam, Owner};

fn url(folder: &Path, name: &str) -> String {
    format!("sqlite:{}", folder.join(name).display())
}

fn run(url: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocicatctl"));
    let out = command
        .args(["--datastore", url])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        out.status.code().unwrap(),
        text(out.stdout),
        text(out.stderr),
    )
}

/// A pool with two nodes, each of which has taken addresses; one of the nodes has no Node object.
async fn cluster(url: &str) {
    let store = Store::new(ocicat_datastore::open(url).unwrap());
    let pool = IpPool {
        metadata: Metadata::named("pods"),
        spec: IpPoolSpec {
            cidr: "10.10.0.0/24".into(),
            block_size: Some(28),
            ..IpPoolSpec::default()
        },
        status: None,
    };
    store.create(pool).await.unwrap();
    let node = Node {
        metadata: Metadata::named("n1"),
        ..Node::default()
    };
    store.create(node).await.unwrap();
    let ipam = Ipam::new(Arc::new(StoreIpam::new(store)), Box::new(BlockAffine));
    for (node, count) in [("n1", 3), ("gone", 2)] {
        for index in 0..count {
            let handle = format!("net.{node}{index}");
            let request = AssignRequest::new(Owner::host(node), handle.as_str());
            let request = request.v4(1);
            ipam.assign(&request, SystemTime::now()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn leaks_are_shown_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(folder.path(), "a.db");
    cluster(&url).await;
    let (code, out, err) = run(&url, &["ipam", "show", "--show-blocks", "--picture"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("IP Pool pods") && out.contains("5 (1%)"),
        "{out}"
    );
    assert!(
        out.contains("host:n1") && out.contains("###............."),
        "{out}"
    );

    let report = folder.path().join("report.json");
    let report = report.to_str().unwrap();
    let (code, out, _) = run(&url, &["ipam", "check", "--report", report]);
    assert_eq!(code, 4, "{out}");
    assert!(
        out.contains("allocated and not in use; its node does not exist"),
        "{out}"
    );

    let (code, out, err) = run(&url, &["ipam", "gc"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.ends_with("claims of gone released\n2 addresses released\n"),
        "{out}"
    );
    let (code, out, err) = run(&url, &["ipam", "release", "--from-report", report]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("3 addresses released"), "{out}");
    assert_eq!(run(&url, &["ipam", "check"]).0, 0);
    let other = folder.path().join("b.db");
    let other = format!("sqlite:{}", other.display());
    let (code, _, err) = run(&other, &["ipam", "release", "--from-report", report]);
    assert_eq!(code, 1);
    assert!(err.contains("is about sqlite:"), "{err}");
}

#[tokio::test]
async fn single_addresses_are_shown_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(folder.path(), "a.db");
    cluster(&url).await;
    let all = run(&url, &["ipam", "check", "--show-all-ips"]).1;
    let address = all.split_whitespace().next().unwrap();
    let (code, out, _) = run(&url, &["ipam", "show", "--ip", address]);
    assert_eq!(code, 0);
    assert!(out.contains("handle: net."), "{out}");
    assert_eq!(run(&url, &["ipam", "release", "--ip", address]).0, 0);
    assert_eq!(run(&url, &["ipam", "release", "--ip", address]).0, 3);
    assert_eq!(run(&url, &["ipam", "show", "--ip", address]).0, 3);

    let (code, _, err) = run(&url, &["ipam", "configure", "--max-blocks-per-host", "3"]);
    assert_eq!(code, 1, "{err}");
    let strict = [
        "ipam",
        "configure",
        "--strict-affinity",
        "true",
        "--max-blocks-per-host",
        "3",
    ];
    let (code, out, err) = run(&url, &strict);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("StrictAffinity      true"), "{out}");
    assert_eq!(run(&url, &["ipam", "show", "--show-configuration"]).1, out);
}

#[tokio::test]
async fn a_cluster_moves_with_its_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (url(folder.path(), "a.db"), url(folder.path(), "b.db"));
    cluster(&here).await;
    let file = folder.path().join("all.yaml");
    let file = file.to_str().unwrap();
    let migrate = |url: &str, verb: &[&str]| run(url, &[&["datastore", "migrate"], verb].concat());
    assert_eq!(migrate(&here, &["export", "--file", file]).0, 1);
    assert_eq!(migrate(&here, &["lock"]).0, 0);
    assert_eq!(migrate(&here, &["export", "--file", file]).0, 0);
    let (code, _, err) = migrate(&there, &["import", "-f", file]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(migrate(&there, &["import", "-f", file]).0, 5);
    assert!(run(&there, &["version"]).1.contains("locked"));
    assert_eq!(migrate(&there, &["unlock"]).0, 0);
    let held = |url: &str| run(url, &["ipam", "check", "--show-all-ips"]).1;
    assert_eq!(held(&here), held(&there));
    let blocks = |url: &str| run(url, &["get", "blocks", "-o", "wide"]).1;
    assert_eq!(blocks(&here), blocks(&there));
}
