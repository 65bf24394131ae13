//! While the datastore is locked.

use super::*;

impl Bench {
    fn lock(&self, locked: bool) {
        self.facts.send_modify(|facts| {
            let facts = Arc::make_mut(facts);
            facts.locked = locked;
        });
    }
}

#[tokio::test]
async fn nothing_is_added_or_written_and_the_error_says_what_to_do() {
    let bench = bench().await;
    let request = |id| request_of(network("net", json!({})), id, "eth0");
    bench.add(&request("a")).await.unwrap();
    let before = (bench.held().await, bench.endpoints().await);
    bench.lock(true);
    let names = |error: &CniError| {
        error.msg.contains("datastore is locked")
            && error.msg.contains("`ocicatctl datastore migrate unlock`")
    };
    let (add, lend) = (
        bench.add(&request("b")).await.unwrap_err(),
        bench.lend(&request("b")).await.unwrap_err(),
    );
    // At code 11 the plugin removes what is in the kernel, and leaves a note for later.
    let del = bench.server.del(request("a"), None).await.unwrap_err();
    let give_back = bench.server.ipam_del(request("a")).await.unwrap_err();
    for error in [add, lend, del, give_back] {
        assert_eq!(error.code, CniError::TRY_AGAIN_LATER, "{error:?}");
        assert!(names(&error), "{error:?}");
    }
    let network = || {
        let config = NetworkConfig::from_value(network("net", json!({}))).unwrap();
        NetworkRequest::new(config)
    };
    let garbage = bench.server.gc(network()).await.unwrap_err();
    assert!(names(&garbage), "{garbage:?}");
    let status = bench.server.status(network()).await.unwrap_err();
    assert_eq!(status.code, CniError::PLUGIN_NOT_AVAILABLE);
    assert!(names(&status), "{status:?}");
    assert_eq!((bench.held().await, bench.endpoints().await), before);
    // What only reads is answered.
    bench.server.check(request("a"), namespace()).await.unwrap();
    bench.lock(false);
    bench.server.status(network()).await.unwrap();
    bench.add(&request("b")).await.unwrap();
    bench.server.del(request("a"), None).await.unwrap();
    assert_eq!(bench.endpoints().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn removals_that_were_noted_are_done_when_it_is_unlocked() {
    let bench = bench().await;
    let request = request_of(network("net", json!({})), "a", "eth0");
    bench.add(&request).await.unwrap();
    bench.lock(true);
    let folder = tempfile::tempdir().unwrap();
    let notes = || Tombstones::new(folder.path().to_owned());
    notes().write(&request, false).unwrap();
    let server = Arc::new(Server {
        attachments: Arc::clone(&bench.server.attachments),
    });
    tokio::spawn(server.bury_when_ready(notes()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.endpoints().await.len(), 1);
    bench.lock(false);
    while !bench.endpoints().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(bench.held().await.is_empty());
    assert_eq!(notes().list().unwrap().len(), 0);
}
