//! What the thin plugins are built from, when they are built alone.

use std::process::Command;

#[test]
fn the_plugins_stay_thin() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "ocicat",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("ocicat-cni "), "{tree}");
    for heavy in [
        "tokio",
        "kube",
        "etcd-client",
        "rusqlite",
        "ocicat-datastore",
        "clap",
        "tracing",
    ] {
        let found = tree
            .lines()
            .any(|line| line.split(' ').next() == Some(heavy));
        assert!(!found, "{heavy} is in the tree of the thin plugins");
    }
}
