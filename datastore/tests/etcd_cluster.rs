//! Three members of an etcd cluster, of which one goes: any, the leader, and each in turn; and what watches see of it.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{PATIENCE, Server, patiently};
use ocicat_datastore::model::{GlobalNetworkSet, NetworkSetSpec};
use ocicat_datastore::{
    Backend, Etcd, EtcdOptions, Event, Follow, Kind, Metadata, Scope, Store, StoreError, follow,
};

fn set(name: &str) -> GlobalNetworkSet {
    GlobalNetworkSet {
        metadata: Metadata::named(name),
        spec: NetworkSetSpec::default(),
    }
}

fn start_cluster() -> Vec<Server> {
    let mut members = Server::cluster(3, &[]);
    let ready: Vec<_> = members.iter_mut().map(Server::spawn).collect();
    ready.iter().for_each(Server::await_ready);
    members
}

fn over(members: &[Server]) -> Store {
    let options = EtcdOptions::new(members.iter().map(Server::url));
    Store::new(Arc::new(Etcd::new(options).expect("a store")))
}

/// Whether a member says that it leads.
async fn leads(member: &Server) -> Result<bool, etcd_client::Error> {
    let mut client = etcd_client::Client::connect([member.url()], None).await?;
    let status = client.status().await?;
    let own = status.header().map(etcd_client::ResponseHeader::member_id);
    Ok(own == Some(status.leader()))
}

/// Which member leads, asked of those that run, until one says so.
async fn leader(members: &[Server]) -> usize {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        for (number, member) in members.iter().enumerate() {
            if leads(member).await.unwrap_or_default() {
                return number;
            }
        }
    }
    panic!("nobody leads");
}

/// Writes; what is refused while the cluster finds itself again is tried again, for a while. Says how long it took.
async fn write(store: &Store, name: &str) -> Duration {
    let begin = Instant::now();
    let written = patiently(async || store.put(set(name)).await).await;
    written.expect("a write");
    begin.elapsed()
}

/// Waits until this object is told.
async fn told(follow: &mut Follow, name: &str) {
    let waiting = async {
        loop {
            match follow.next().await {
                Event::Put(object) if object.name == name => return,
                _ => {}
            }
        }
    };
    let waiting = tokio::time::timeout(PATIENCE, waiting).await;
    waiting.unwrap_or_else(|_| panic!("{name} is not told"));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_one_after_the_other_the_leader_first() {
    let mut members = start_cluster();
    let store = over(&members);
    write(&store, "before").await;
    let mut follow = follow(&store, [Kind::GlobalNetworkSet]);
    told(&mut follow, "before").await;
    let first = leader(&members).await;
    for step in 0..3 {
        let gone = (first + step) % 3;
        members[gone].kill();
        // The first that goes leads: without it a write needs another leader.
        let name = format!("without-{step}");
        let took = write(&store, &name).await;
        println!("without member {gone}: a write after {took:?}");
        told(&mut follow, &name).await;
        members[gone].run();
    }
    // Everything that was written is there, in any member's opinion.
    for member in &members {
        let store = Store::new(Arc::new(member.store()));
        let all = patiently(async || store.list::<GlobalNetworkSet>().await).await;
        assert_eq!(all.expect("a listing").len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_is_passed_over() {
    let server = Server::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    let nobody = format!("http://127.0.0.1:{}", common::free_port());
    let options = EtcdOptions::new([silent, nobody, server.url()]);
    let store = Store::new(Arc::new(Etcd::new(options).expect("a store")));
    for n in 0..20 {
        write(&store, &format!("s{n}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_survives_an_outage_in_which_the_history_is_compacted() {
    let mut server = Server::start();
    let backend = Arc::new(server.store());
    let store = Store::new(Arc::clone(&backend) as Arc<dyn Backend>);
    for name in ["stays", "goes"] {
        write(&store, name).await;
    }
    let mut follow = follow(&store, [Kind::GlobalNetworkSet]);
    told(&mut follow, "stays").await;
    server.kill();
    server.run();
    // The follower is not asked meanwhile, so that it comes too late for what happens now.
    write(&store, "comes").await;
    let gone = patiently(async || store.delete::<GlobalNetworkSet>("goes", None).await).await;
    // The second is the answer when the first try was done and its answer came too late.
    assert!(
        matches!(gone, Ok(_) | Err(StoreError::Missing { .. })),
        "{gone:?}"
    );
    write(&store, "comes").await;
    let scope = Scope::all(Kind::GlobalNetworkSet);
    let now = patiently(async || backend.list(&scope).await).await;
    let now = now.expect("a listing").revision;
    let compacted = patiently(async || backend.compact(now).await).await;
    assert!(
        matches!(compacted, Ok(()) | Err(StoreError::Compacted { .. })),
        "{compacted:?}"
    );
    let (mut came, mut went) = (false, false);
    while !(came && went) {
        let next = tokio::time::timeout(PATIENCE, follow.next());
        match next.await.expect("what happened meanwhile") {
            Event::Put(object) => came |= object.name == "comes",
            Event::Deleted(key, _) => went |= key.name == "goes",
            _ => {}
        }
    }
    write(&store, "later").await;
    told(&mut follow, "later").await;
}
