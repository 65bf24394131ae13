//! `ocicat-direct` keeps the rules that `plugin_kit` tests. Needs root, or a user namespace, and `ip`.

use ocicat_cni::testing::plugin_kit::Kit;
use serde_json::json;

#[test]
fn ocicat_direct_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let datastore = format!("sqlite:{}", folder.path().join("ocicat.db").display());
    let config = json!({"datastore": datastore, "nodename": "kit", "pool": "10.88.0.0/16"});
    let report = Kit::new(env!("CARGO_BIN_EXE_ocicat-direct"), config)
        .except(
            "two-interfaces",
            "a second pair takes over the route to 169.254.1.1",
        )
        .run();
    report.assert();
}
