use std::time::Duration;

use ocicat_ipam::testing::block_on;
use ocicat_ipam::{AssignError, AssignRequest, HandleId, IpamConfig, Tunnel, Use};

use crate::world::{at, audit, ipam, pool, prefix, store};

#[test]
fn utilisation_adds_up() {
    let store = store(&[pool("p", "10.0.0.0/24", 26), pool("q", "fd00::/48", 122)]);
    let mut config = IpamConfig::default();
    config.cooldown = Duration::from_secs(60);
    store.set_config(config);
    store.reserve(prefix("10.0.0.0/31"));
    store.reserve(prefix("10.0.0.64/31"));
    store.reserve(prefix("10.0.0.128/31"));
    store.reserve(prefix("10.0.0.192/31"));
    let ipam = ipam(&store);
    block_on(ipam.assign(&AssignRequest::new("a", "h").v4(5), at(0))).unwrap();
    block_on(ipam.assign(&AssignRequest::new("a", "h2").v4(3), at(0))).unwrap();
    block_on(ipam.release_handle(&HandleId::new("h2"), at(1))).unwrap();
    let all = block_on(ipam.utilisation()).unwrap();
    let p = all[0].counts;
    assert_eq!(
        (p.capacity, p.in_use, p.reserved, p.cooling, p.available),
        (256, 5, 8, 3, 240)
    );
    let block = all[0].blocks[0].counts;
    assert_eq!((block.capacity, block.in_use, block.reserved), (64, 5, 2));
    assert_eq!((block.cooling, block.available), (3, 54));
    assert_eq!(all[1].counts.capacity, 1 << 80);
    store.remove_pool("p");
    let all = block_on(ipam.utilisation()).unwrap();
    assert_eq!((all[1].name.as_deref(), all[1].counts.in_use), (None, 5));
}

#[test]
fn a_tunnel_keeps_its_address_until_its_pool_changes() {
    let store = store(&[
        pool("p", "10.0.0.0/24", 26),
        pool("q", "10.1.0.0/24", 26).with_uses(&[Use::Workload]),
        pool("r", "10.2.0.0/24", 26),
    ]);
    let p = [prefix("10.0.0.0/24")];
    let (first, second) = (ipam(&store), ipam(&store));
    let vxlan = Tunnel::Vxlan;
    let tunnel = |ipam: &ocicat_ipam::Ipam, current, pools: &[_]| {
        block_on(ipam.tunnel_address("n", vxlan, current, pools, at(0)))
    };
    let made = tunnel(&first, None, &p).unwrap();
    assert!(made.changed && p[0].contains(made.address));
    let kept = tunnel(&second, Some(made.address), &p).unwrap();
    assert_eq!((kept.address, kept.changed), (made.address, false));
    let unwritten = tunnel(&second, None, &p).unwrap();
    assert_eq!((unwritten.address, unwritten.changed), (made.address, true));
    let moved = tunnel(&second, Some(made.address), &[prefix("10.2.0.0/24")]).unwrap();
    assert!(moved.changed && prefix("10.2.0.0/24").contains(moved.address));
    let held = audit(&*store);
    assert_eq!(
        held.values().map(HandleId::as_str).collect::<Vec<_>>(),
        ["vxlan-tunnel-addr-n"]
    );
    let unfit = tunnel(&second, None, &[prefix("10.1.0.0/24")]).unwrap_err();
    assert!(
        matches!(unfit, AssignError::NoQualifiedPool { .. }),
        "{unfit}"
    );
    assert!(
        audit(&*store).is_empty(),
        "the old one is in no pool that needs it"
    );
}
