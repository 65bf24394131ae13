use super::*;

struct Cluster {
    lingering: Tunnels,
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
        ..NodeView::default()
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
        lingering: Tunnels::default(),
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
            mtus: ocicat_dataplane::mtu::Overrides::default(),
            own: &self.own,
            name: "own",
            uplink_v6: None,
            lingering: self.lingering,
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
    let prefix = prefix.parse().unwrap();
    let block = network.routes.get(&own_block(prefix));
    network
        .routes
        .get(&RouteKey::main(prefix))
        .or(block)
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
        // So that the route of a bridge with the block's addresses wins.
        let metrics = network.routes.keys().map(|key| key.metric);
        assert_eq!(metrics.max(), Some(1024));
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

fn ipip(when: When) -> Encapsulation {
    Encapsulation {
        ipip: when,
        vxlan: When::Never,
    }
}

#[test]
fn ipip_pools_follow_bgp_into_the_tunnel() {
    for (mode, near) in [
        (When::Always, via("192.168.10.12", "tunl0", true)),
        (When::CrossSubnet, via("192.168.10.12", "eth0", false)),
    ] {
        let mut cluster = cluster(When::Never);
        cluster.own.ipip = Some("10.0.0.2".parse().unwrap());
        cluster.pools.get_mut("p").unwrap().encapsulation = ipip(mode);
        for (block, hop) in [
            ("10.0.1.0/26", "192.168.10.12"),
            ("10.0.2.0/26", "192.168.20.13"),
        ] {
            let learned = from_node(hop);
            cluster.learned.insert(block.parse().unwrap(), learned);
        }
        let network = cluster.plan();
        assert_eq!(hops(&network, "10.0.1.0/26"), near, "{mode:?}");
        let far = via("192.168.20.13", "tunl0", true);
        assert_eq!(hops(&network, "10.0.2.0/26"), far, "{mode:?}");
        let (name, device) = network.links.iter().next().unwrap();
        assert_eq!((name.as_str(), device.mtu), ("tunl0", 1480));
        assert_eq!(device.addresses.len(), 1);
    }
}

#[test]
fn only_nodes_take_packets_out_of_tunnels() {
    let mut cluster = cluster(When::Never);
    cluster.pools.get_mut("p").unwrap().encapsulation = ipip(When::Always);
    let router = Learned {
        hops: vec!["192.168.10.1".parse().unwrap()],
        external: true,
    };
    cluster
        .learned
        .insert("10.0.9.0/26".parse().unwrap(), router);
    let straight = via("192.168.10.1", "eth0", false);
    assert_eq!(hops(&cluster.plan(), "10.0.9.0/26"), straight);
}

#[test]
fn a_node_without_its_tunnel_yet_is_reached_as_bgp_says() {
    let mut cluster = cluster(When::Always);
    cluster.nodes.get_mut("near").unwrap().vtep = None;
    let block: Prefix = "10.0.1.0/26".parse().unwrap();
    cluster.learned.insert(block, from_node("192.168.10.12"));
    let straight = via("192.168.10.12", "eth0", false);
    assert_eq!(hops(&cluster.plan(), "10.0.1.0/26"), straight);
}

#[test]
fn a_tunnel_has_its_device_before_its_address_and_after_its_pool() {
    let mut cluster = cluster(When::Always);
    cluster.own.vtep = None;
    let device = |cluster: &Cluster| cluster.plan().links.into_values().next();
    assert_eq!(device(&cluster).unwrap().addresses.len(), 0);
    cluster.pools.clear();
    assert_eq!(device(&cluster), None);
    cluster.lingering.vxlan = true;
    assert!(device(&cluster).is_some());
}

#[test]
fn ipv6_has_a_device_of_its_own() {
    let mut cluster = cluster(When::CrossSubnet);
    cluster.pools.get_mut("p").unwrap().range = "fd00:10:1::/48".parse().unwrap();
    cluster.blocks.clear();
    let mac = MacAddr([0x66, 0, 0, 0, 1, 3]);
    for (name, address, vtep, block) in [
        ("near", "fd00:1::12/64", "fd00:10:1::c", "fd00:10:1:1::/122"),
        ("far", "fd00:2::13/64", "fd00:10:1::d", "fd00:10:1:2::/122"),
    ] {
        let node = cluster.nodes.get_mut(name).unwrap();
        node.addresses.push(address.parse().unwrap());
        node.vtep_v6 = Some((vtep.parse().unwrap(), mac));
        cluster
            .blocks
            .insert(block.parse().unwrap(), name.to_owned());
    }
    cluster.own.addresses.push("fd00:1::11/64".parse().unwrap());
    let network = cluster.plan();
    let names: Vec<&str> = network.links.keys().map(LinkName::as_str).collect();
    assert_eq!(names, ["vxlan-v6.calico"]);
    assert_eq!(network.links.values().next().unwrap().mtu, 1430);
    let near = via("fd00:1::12", "eth0", false);
    assert_eq!(hops(&network, "fd00:10:1:1::/122"), near);
    let direct = [Hop::Link(LinkName::new("vxlan-v6.calico").unwrap())];
    assert_eq!(hops(&network, "fd00:10:1::d/128"), direct);
    let far = via("fd00:10:1::d", "vxlan-v6.calico", true);
    assert_eq!(hops(&network, "fd00:10:1:2::/122"), far);
}
