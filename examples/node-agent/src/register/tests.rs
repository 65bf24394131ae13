use ocicat_dataplane::state::LinkName;
use ocicat_datastore::Memory;
use ocicat_datastore::ipam::StoreIpam;
use ocicat_ipam::BlockAffine;

use super::*;
use crate::network::Uplink;

fn store() -> Store {
    Store::new(Arc::new(Memory::new()))
}

fn node(name: &str, address: &str) -> Node {
    let mut node = Node::default();
    name.clone_into(&mut node.metadata.name);
    let bgp = node.spec.bgp.get_or_insert_with(NodeBgp::default);
    bgp.ipv4_address = Some(address.to_owned());
    node
}

/// This node is `a`, 192.0.2.1.
fn registering(store: &Store, census: watch::Receiver<Option<Census>>) -> Registering {
    let port = Arc::new(StoreIpam::new(store.clone()));
    Registering {
        store: store.clone(),
        ipam: Arc::new(Ipam::new(port, Box::new(BlockAffine))),
        node: "a".to_owned(),
        place: Place {
            address: "192.0.2.1/24".parse().unwrap(),
            uplink: Uplink {
                name: LinkName::new("eth0").unwrap(),
                mtu: 1500,
            },
            second: None,
        },
        as_number: None,
        pools: DefaultPools::default(),
        networks: Vec::new(),
        remains: Remains::default(),
        census,
    }
}

fn seen(taken: Option<&str>, pools: bool) -> watch::Receiver<Option<Census>> {
    let address = IpAddr::from([192, 0, 2, 1]);
    let taken = taken.map(|node| (address, node.to_owned()));
    let census = Census {
        taken: taken.into_iter().collect(),
        pools,
        ..Census::default()
    };
    watch::channel(Some(census)).1
}

#[tokio::test]
async fn another_nodes_address_is_refused_by_name() {
    let store = store();
    store.create(node("b", "192.0.2.1/24")).await.unwrap();
    let refused = registering(&store, seen(Some("b"), true)).once().await;
    let text = refused.unwrap_err().to_string();
    for words in ["192.0.2.1", "Node b", "spec.bgp.ipv4Address"] {
        assert!(text.contains(words), "{text}");
    }
    let own = store.get::<Node>("a").await.unwrap();
    assert!(own.is_none(), "nothing is written then");
}

#[tokio::test]
async fn what_was_listed_can_be_over_by_now() {
    for address in [None, Some("192.0.2.9/24")] {
        let store = store();
        if let Some(address) = address {
            store.create(node("b", address)).await.unwrap();
        }
        let registering = registering(&store, seen(Some("b"), true));
        registering.once().await.unwrap();
        let own = store.get::<Node>("a").await.unwrap().unwrap();
        let stated = own.spec.bgp.as_ref().unwrap().ipv4_address.as_deref();
        assert_eq!(stated, Some("192.0.2.1/24"), "{address:?}");
    }
}

#[tokio::test]
async fn nothing_is_written_before_nodes_and_pools_are_listed() {
    let store = store();
    let (told, census) = watch::channel(None);
    let registering = registering(&store, census);
    let mut once = std::pin::pin!(registering.once());
    let first = std::future::poll_fn(|context| {
        std::task::Poll::Ready(once.as_mut().poll(context).is_ready())
    });
    assert!(!first.await);
    told.send_replace(Some(Census {
        locked: true,
        ..Census::default()
    }));
    let locked = std::future::poll_fn(|context| {
        std::task::Poll::Ready(once.as_mut().poll(context).is_ready())
    });
    assert!(!locked.await, "a locked datastore is written to by nobody");
    assert!(store.get::<Node>("a").await.unwrap().is_none());
    told.send_replace(Some(Census::default()));
    once.await.unwrap();
    let pools = store.list::<IpPool>().await.unwrap();
    assert_eq!(pools.len(), 1, "the cluster had none");
}
