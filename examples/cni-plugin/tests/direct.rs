//! `ocicat-direct` keeps the rules that `plugin_kit` tests. Needs root, or a user namespace, and `ip`.

use ocicat_cni::runtime::{Attachment, Conflist, Runtime};
use ocicat_cni::testing::plugin_kit::Kit;
use serde_json::json;

#[path = "network/common.rs"]
mod common;

use common::{Namespace, in_own_namespace};

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

/// The datastore is put back as it was before the containers came: what they have is not given to others.
#[test]
fn a_restored_datastore_gives_no_address_twice() {
    in_own_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("bin");
        std::fs::create_dir(&programs).unwrap();
        let program = env!("CARGO_BIN_EXE_ocicat-direct");
        std::os::unix::fs::symlink(program, programs.join("ocicat-direct")).unwrap();
        let runtime = Runtime::new([programs], folder.path().join("cache"));
        let datastore = folder.path().join("db");
        let url = format!("sqlite:{}", datastore.join("ocicat.db").display());
        let list = Conflist::from_value(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [
            {"type": "ocicat-direct", "datastore": url, "nodename": "host", "pool": "10.88.0.0/16"}]}));
        let list = list.unwrap();
        let namespaces = [0; 3].map(|_| Namespace::new());
        let pod = |at: usize| {
            let pod = Attachment::new(format!("c{at}"), "eth0").unwrap();
            pod.netns(namespaces[at].path())
        };
        let add = |at| runtime.add(&list, &pod(at)).unwrap().ips[0].address;
        std::fs::create_dir(&datastore).unwrap();
        let before = [add(0), add(1)];
        assert_ne!(before[0], before[1]);
        std::fs::remove_dir_all(&datastore).unwrap();
        std::fs::create_dir(&datastore).unwrap();
        let after = add(2);
        assert!(!before.contains(&after), "{after} is {before:?}");
        // They are the containers' own again, and go with them.
        runtime.check(&list, &pod(0)).unwrap();
        for at in 0..3 {
            runtime.del(&list, &pod(at)).unwrap();
        }
        let threads = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        threads.unwrap().block_on(async {
            let store = ocicat_datastore::Store::new(ocicat_datastore::open(&url).unwrap());
            let left = store
                .list::<ocicat_datastore::model::IpamHandle>()
                .await
                .unwrap();
            assert!(left.items.is_empty(), "{:?}", left.items);
        });
    });
}
