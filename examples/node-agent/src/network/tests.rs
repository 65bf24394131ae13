use super::*;

struct Cluster {
    own: NodeView,
    uplink: Uplink,
    nodes: BTreeMap<String, NodeView>,
    pools: BTreeMap<String, PoolView>,
    own_blocks: BTreeSet<Prefix>,
    blocks: BTreeMap<Prefix, String>,
    borrowed: BTreeMap<IpAddr, String>,
    pods: BTreeMap<IpAddr, LinkName>,
    learned: BTreeMap<Prefix, Learned>,
    gateways: BTreeMap<IpAddr, Hop>,
}

fn node(address: &str, vtep: &str, last: u8) -> NodeView {
    NodeView {
        addresses: vec![address.parse().unwrap()],
        vtep: Some((vtep.parse().unwrap(), MacAddr([0x66, 0, 0, 0, 0, last]))),
    }
}

fn cluster(vxlan: When) -> Cluster {
    let pool = PoolView {
        range: "10.0.0.0/16".parse().unwrap(),
        encapsulation: Encapsulation {
            vxlan,
            ipip: When::Never,
        },
        nat_outgoing: false,
        disabled: false,
        export: true,
    };
    Cluster {
        own: node("192.168.10.11/24", "10.0.0.1", 1),
        uplink: Uplink {
            name: LinkName::new("eth0").unwrap(),
            mtu: 1500,
        },
        nodes: BTreeMap::from([
            ("near".to_owned(), node("192.168.10.12/24", "10.0.1.1", 2)),
            ("far".to_owned(), node("192.168.20.13/24", "10.0.2.1", 3)),
        ]),
        pools: BTreeMap::from([("p".to_owned(), pool)]),
        own_blocks: BTreeSet::from(["10.0.0.0/26".parse().unwrap()]),
        blocks: BTreeMap::from([
            ("10.0.1.0/26".parse().unwrap(), "near".to_owned()),
            ("10.0.2.0/26".parse().unwrap(), "far".to_owned()),
        ]),
        borrowed: BTreeMap::new(),
        pods: BTreeMap::from([("10.0.0.7".parse().unwrap(), LinkName::new("cali7").unwrap())]),
        learned: BTreeMap::new(),
        gateways: BTreeMap::new(),
    }
}

impl Cluster {
    fn plan(&self) -> Network {
        plan(&Inputs {
            own: &self.own,
            uplink: Some(&self.uplink),
            nodes: &self.nodes,
            pools: &self.pools,
            own_blocks: &self.own_blocks,
            blocks: &self.blocks,
            borrowed: &self.borrowed,
            pods: &self.pods,
            learned: &self.learned,
            gateways: &self.gateways,
        })
    }
}

fn from_node(hop: &str) -> Learned {
    Learned {
        hops: vec![hop.parse().unwrap()],
        external: false,
    }
}

fn hops(network: &Network, prefix: &str) -> Vec<Hop> {
    let key = RouteKey::main(prefix.parse().unwrap());
    network
        .routes
        .get(&key)
        .map(|route| route.hops.clone())
        .unwrap_or_default()
}

fn via(gateway: &str, link: &str, onlink: bool) -> Vec<Hop> {
    let link = Some(LinkName::new(link).unwrap());
    vec![Hop::Via {
        gateway: gateway.parse().unwrap(),
        link,
        onlink,
    }]
}

#[test]
fn own_pods_and_blocks_are_routed_in_every_mode() {
    for mode in [When::Never, When::Always, When::CrossSubnet] {
        let network = cluster(mode).plan();
        assert_eq!(
            hops(&network, "10.0.0.7/32"),
            [Hop::Link(LinkName::new("cali7").unwrap())]
        );
        assert_eq!(hops(&network, "10.0.0.0/26"), [Hop::Blackhole]);
    }
}

#[test]
fn a_block_of_one_address_has_no_blackhole() {
    let mut cluster = cluster(When::Never);
    cluster.own_blocks = BTreeSet::from(["10.0.0.7/32".parse().unwrap()]);
    assert_eq!(hops(&cluster.plan(), "10.0.0.7/32").len(), 1);
    cluster.pods.clear();
    assert_eq!(hops(&cluster.plan(), "10.0.0.7/32"), []);
}

#[test]
fn vxlan_pools_follow_the_datastore() {
    let always = cluster(When::Always).plan();
    assert_eq!(
        hops(&always, "10.0.1.0/26"),
        via("10.0.1.1", "vxlan.calico", true)
    );
    assert_eq!(
        hops(&always, "10.0.2.0/26"),
        via("10.0.2.1", "vxlan.calico", true)
    );
    let cross = cluster(When::CrossSubnet).plan();
    assert_eq!(
        hops(&cross, "10.0.1.0/26"),
        via("192.168.10.12", "eth0", false)
    );
    assert_eq!(
        hops(&cross, "10.0.2.0/26"),
        via("10.0.2.1", "vxlan.calico", true)
    );
    let device = cross.links.values().next().unwrap();
    assert_eq!(device.mtu, 1450);
    assert_eq!((cross.neighbours.len(), cross.fdb.len()), (2, 2));
}

#[test]
fn plain_pools_follow_bgp() {
    let mut cluster = cluster(When::Never);
    assert_eq!(hops(&cluster.plan(), "10.0.1.0/26"), []);
    cluster
        .learned
        .insert("10.0.1.0/26".parse().unwrap(), from_node("192.168.10.12"));
    cluster
        .learned
        .insert("10.0.2.0/26".parse().unwrap(), from_node("192.168.20.13"));
    let network = cluster.plan();
    assert_eq!(
        hops(&network, "10.0.1.0/26"),
        via("192.168.10.12", "eth0", false)
    );
    assert_eq!(hops(&network, "10.0.2.0/26"), []);
    assert_eq!(
        network.unresolved,
        BTreeSet::from(["192.168.20.13".parse().unwrap()])
    );
    let router = via("192.168.10.1", "eth0", false);
    cluster
        .gateways
        .insert("192.168.20.13".parse().unwrap(), router[0].clone());
    assert_eq!(hops(&cluster.plan(), "10.0.2.0/26"), router);
    assert!(network.links.is_empty());
}

#[test]
fn what_peers_say_about_a_vxlan_pool_or_an_own_block_is_left_out() {
    let mut cluster = cluster(When::Always);
    cluster
        .learned
        .insert("10.0.2.0/26".parse().unwrap(), from_node("192.168.10.12"));
    cluster
        .learned
        .insert("10.0.0.0/26".parse().unwrap(), from_node("192.168.10.12"));
    let network = cluster.plan();
    assert_eq!(
        hops(&network, "10.0.2.0/26"),
        via("10.0.2.1", "vxlan.calico", true)
    );
    assert_eq!(hops(&network, "10.0.0.0/26"), [Hop::Blackhole]);
}

#[test]
fn a_borrowed_address_goes_to_the_node_that_uses_it() {
    let mut cluster = cluster(When::CrossSubnet);
    cluster
        .borrowed
        .insert("10.0.0.9".parse().unwrap(), "far".to_owned());
    assert_eq!(
        hops(&cluster.plan(), "10.0.0.9/32"),
        via("10.0.2.1", "vxlan.calico", true)
    );
}
