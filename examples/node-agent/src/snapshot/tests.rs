use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

/// A snapshot as version 1 of the file has it, recorded when it was new.
const RECORDED: &str = include_str!("../../tests/data/snapshot-1.json");

fn object(kind: &str, name: &str, spec: Value) -> Object {
    let value = json!({"apiVersion": "projectcalico.org/v3", "kind": kind,
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    Object::from_value(value).unwrap()
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot {
        node: "node1".to_owned(),
        secrets: BTreeMap::from([("bgp/tor".to_owned(), "hush".to_owned())]),
        ..Snapshot::default()
    };
    for object in [
        object("IPPool", "blue", json!({"cidr": "10.0.0.0/16"})),
        object(
            "Node",
            "node1",
            json!({"bgp": {"ipv4Address": "192.168.1.1/24"}}),
        ),
    ] {
        let text = object.value.to_string().into();
        snapshot.objects.insert(object.key(), (Revision(7), text));
    }
    snapshot
}

#[test]
fn what_was_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/snapshot.json");
    assert_eq!(Snapshot::load(&path, "node1").unwrap(), None);
    let saved = snapshot();
    saved.save(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has passwords");
    let loaded = Snapshot::load(&path, "node1").unwrap().unwrap();
    assert_eq!(loaded, saved);
    let pool = loaded
        .objects()
        .find(|one| one.kind == Kind::IpPool)
        .unwrap();
    assert_eq!((pool.name.as_str(), pool.revision), ("blue", Revision(7)));
    saved.save(&path).unwrap();
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn version_1_is_read_as_it_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot.json");
    std::fs::write(&path, RECORDED).unwrap();
    let loaded = Snapshot::load(&path, "node1").unwrap().unwrap();
    assert_eq!(loaded, snapshot());
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot.json");
    for (text, words) in [
        (
            r#"{"version": 2, "shape": "unknown"}"#,
            "version 2 of the snapshot is newer",
        ),
        (r#"{"version": 1, "node": "n"#, "not a snapshot"),
        ("", "not a snapshot"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Snapshot::load(&path, "node1").unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("snapshot.json"),
            "{error}"
        );
    }
    snapshot().save(&path).unwrap();
    let error = Snapshot::load(&path, "node2").unwrap_err().to_string();
    assert!(
        error.contains("node1") && error.contains("node2"),
        "{error}"
    );
}

#[test]
fn a_broken_save_leaves_the_old_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot.json");
    // Its own temporary file cannot be made: the name is a folder's.
    let beside = folder
        .path()
        .join(format!(".snapshot.json.{}", std::process::id()));
    snapshot().save(&path).unwrap();
    std::fs::create_dir(&beside).unwrap();
    let error = snapshot().save(&path).unwrap_err();
    assert!(matches!(error, SnapshotError::File { .. }), "{error}");
    assert!(Snapshot::load(&path, "node1").unwrap().is_some());
}

#[test]
fn others_endpoints_and_blocks_are_left_out() {
    let block = |affinity: &str, holder: &str| {
        object(
            "IPAMBlock",
            "b",
            json!({"cidr": "10.0.0.0/26", "affinity": affinity,
            "attributes": [{"secondary": {"node": holder}}]}),
        )
    };
    for (object, expected) in [
        (
            object("WorkloadEndpoint", "w", json!({"node": "node1"})),
            true,
        ),
        (
            object("WorkloadEndpoint", "w", json!({"node": "node2"})),
            false,
        ),
        (block("host:node1", "node1"), true),
        (block("host:node2", "node2"), false),
        (block("host:node2", "node3"), true),
        (object("IPAMHandle", "h", json!({})), false),
        (object("Tier", "t", json!({})), true),
    ] {
        assert_eq!(belongs("node1", &object), expected, "{object:?}");
    }
}
