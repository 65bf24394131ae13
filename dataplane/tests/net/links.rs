use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_dataplane::linux::interfaces;
use ocicat_dataplane::state::{Fdb, Link, LinkKind, MacAddr, Neighbour};
use ocicat_dataplane::{Dataplane as _, Fault, State, names};

use crate::sandbox::{async_node, heard, ip, kernel, list, name, uplink};

fn vxlan(local: &str) -> Link {
    let kind = LinkKind::Vxlan {
        vni: names::VXLAN_VNI,
        port: names::VXLAN_PORT,
        local: local.parse().unwrap(),
        parent: Some(name("up0")),
        mac: names::vtep_mac("node1"),
    };
    Link::new(kind, 1450).addresses(["10.1.0.1/32".parse().unwrap()])
}

fn tunnel(remotes: u8) -> State {
    let link = name(names::VXLAN_LINK);
    let mac = |n: u8| MacAddr([0x66, 0, 0, 0, 0, n]);
    let neighbour = |n: u8| Neighbour {
        link: link.clone(),
        address: [10, 1, n, 1].into(),
    };
    let fdb = |n: u8| Fdb {
        link: link.clone(),
        mac: mac(n),
    };
    State {
        links: BTreeMap::from([(link.clone(), Arc::new(vxlan("192.168.10.1")))]),
        neighbours: Arc::new((1..=remotes).map(|n| (neighbour(n), mac(n))).collect()),
        fdb: Arc::new(
            (1..=remotes)
                .map(|n| (fdb(n), [192, 168, 10, n].into()))
                .collect(),
        ),
        ..State::default()
    }
}

/// Runs `bridge ARGUMENTS`, which must succeed.
fn bridge(arguments: &str) -> String {
    let output = std::process::Command::new("bridge")
        .args(arguments.split(' '))
        .output()
        .expect("bridge(8) is needed");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bridge {arguments}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// The tunnel is as [`tunnel`]`(3)` asks for.
fn is_right() {
    let link = &list("addr show dev vxlan.calico")[0];
    let data = &link["linkinfo"]["info_data"];
    let addresses: Vec<_> = link["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["scope"] != "link")
        .collect();
    assert_eq!((&data["id"], &data["port"]), (&4096.into(), &4789.into()));
    assert_eq!(
        (&data["local"], &data["link"]),
        (&"192.168.10.1".into(), &"up0".into())
    );
    assert_eq!(
        (&data["learning"], &link["mtu"]),
        (&false.into(), &1450.into())
    );
    assert_eq!(link["address"], "66:f9:37:c3:7e:94");
    assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
    assert_eq!(
        (addresses.len(), &addresses[0]["local"]),
        (1, &"10.1.0.1".into())
    );
    let neighbours = list("neigh show dev vxlan.calico nud permanent");
    assert_eq!(neighbours.len(), 3);
    assert!(
        neighbours
            .iter()
            .any(|one| one["dst"] == "10.1.1.1" && one["lladdr"] == "66:00:00:00:00:01")
    );
    let fdb = bridge("fdb show dev vxlan.calico");
    assert_eq!(fdb.lines().count(), 3, "{fdb}");
    assert!(
        fdb.contains("66:00:00:00:00:02 dst 192.168.10.2 self permanent"),
        "{fdb}"
    );
}

#[test]
fn a_tunnel_is_made_damaged_repaired_and_removed() {
    async_node(async || {
        uplink();
        let mut kernel = kernel();
        let report = kernel.apply(&tunnel(3)).await.unwrap();
        assert_eq!(report.failed, []);
        is_right();
        assert_eq!(kernel.apply(&tunnel(3)).await.unwrap().changed, 0);
        assert_eq!(
            crate::sandbox::kernel()
                .apply(&tunnel(3))
                .await
                .unwrap()
                .changed,
            0,
            "a new dataplane adopts it"
        );

        for (damage, said) in [
            ("link set vxlan.calico down", true),
            ("link set vxlan.calico mtu 1400", true),
            ("link set vxlan.calico address 02:00:00:00:00:01", true),
            ("addr del 10.1.0.1/32 dev vxlan.calico", true),
            ("addr add 10.77.0.1/32 dev vxlan.calico", true),
            ("link del vxlan.calico", true),
            ("neigh del 10.1.1.1 dev vxlan.calico", false),
            (
                "neigh add 10.1.9.1 lladdr 02:00:00:00:00:09 nud permanent dev vxlan.calico",
                false,
            ),
        ] {
            ip(damage);
            if said {
                heard(&mut kernel).await;
            } else {
                kernel.invalidate();
            }
            let report = kernel.apply(&tunnel(3)).await.unwrap();
            assert!(
                report.is_complete() && report.changed > 0,
                "{damage}: {report:?}"
            );
            is_right();
            assert_eq!(
                kernel.apply(&tunnel(3)).await.unwrap().changed,
                0,
                "{damage}"
            );
        }
    });
}

#[test]
fn damaged_forwarding_entries_are_repaired() {
    async_node(async || {
        uplink();
        let mut kernel = kernel();
        assert_eq!(kernel.apply(&tunnel(3)).await.unwrap().failed, []);
        for damage in [
            "fdb del 66:00:00:00:00:02 dev vxlan.calico",
            "fdb replace 66:00:00:00:00:02 dev vxlan.calico dst 192.168.10.99 self permanent",
            "fdb append 66:00:00:00:00:09 dev vxlan.calico dst 192.168.10.9 self permanent",
        ] {
            bridge(damage);
            kernel.invalidate();
            let report = kernel.apply(&tunnel(3)).await.unwrap();
            assert!(
                report.is_complete() && report.changed > 0,
                "{damage}: {report:?}"
            );
            is_right();
        }
    });
}

#[test]
fn a_tunnel_is_made_again_for_a_setting_and_removed_with_its_name() {
    async_node(async || {
        uplink();
        let mut kernel = kernel();
        kernel.apply(&tunnel(3)).await.unwrap();
        // A setting that a live device cannot change.
        let mut moved = tunnel(3);
        ip("addr add 192.168.10.200/24 dev up0");
        moved
            .links
            .insert(name(names::VXLAN_LINK), Arc::new(vxlan("192.168.10.200")));
        assert!(kernel.apply(&moved).await.unwrap().is_complete());
        assert_eq!(
            list("link show dev vxlan.calico")[0]["linkinfo"]["info_data"]["local"],
            "192.168.10.200"
        );
        kernel.apply(&tunnel(1)).await.unwrap();
        assert_eq!(list("neigh show dev vxlan.calico nud permanent").len(), 1);
        kernel.apply(&State::default()).await.unwrap();
        assert!(!ip("link show").contains("vxlan.calico"));
    });
}

#[test]
fn a_foreign_link_of_that_name_and_a_missing_parent_are_reported() {
    async_node(async || {
        let mut kernel = kernel();
        let report = kernel.apply(&tunnel(0)).await.unwrap();
        assert_eq!(report.failed[0].fault, Fault::LinkMissing(name("up0")));
        uplink();
        heard(&mut kernel).await;
        assert!(kernel.apply(&tunnel(0)).await.unwrap().is_complete());
        kernel.apply(&State::default()).await.unwrap();
        ip("link add vxlan.calico type bridge");
        let report = kernel.apply(&tunnel(0)).await.unwrap();
        assert_eq!(
            report.failed[0].fault,
            Fault::Foreign {
                found: "bridge".into()
            }
        );
        kernel.apply(&State::default()).await.unwrap();
        assert!(
            ip("link show").contains("vxlan.calico"),
            "it is not ours to remove"
        );
    });
}

/// Whether `ethtool` says that checksums are left to the device.
fn offloads(link: &str) -> bool {
    let output = std::process::Command::new("ethtool")
        .args(["-k", link])
        .output()
        .expect("ethtool(8) is needed");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("tx-checksum-ip-generic:"));
    line.unwrap_or_else(|| panic!("{text}")).contains(": on")
}

#[test]
fn checksums_of_a_tunnel_are_left_to_hardware_or_not() {
    async_node(async || {
        uplink();
        let mut kernel = kernel();
        kernel.apply(&tunnel(1)).await.unwrap();
        assert!(offloads(names::VXLAN_LINK), "as the kernel has it");
        for offload in [false, true, false] {
            let mut state = tunnel(1);
            let link = vxlan("192.168.10.1").checksum_offload(Some(offload));
            state.links.insert(name(names::VXLAN_LINK), Arc::new(link));
            let report = kernel.apply(&state).await.unwrap();
            assert_eq!((report.changed, report.failed), (1, vec![]));
            assert_eq!(offloads(names::VXLAN_LINK), offload);
            assert_eq!(
                crate::sandbox::kernel()
                    .apply(&state)
                    .await
                    .unwrap()
                    .changed,
                0
            );
            let damage = if offload { "off" } else { "on" };
            let mut ethtool = std::process::Command::new("ethtool");
            ethtool.args(["-K", names::VXLAN_LINK, "tx-checksum-ip-generic", damage]);
            assert!(ethtool.status().unwrap().success());
            heard(&mut kernel).await;
            assert!(kernel.apply(&state).await.unwrap().is_complete());
            assert_eq!(offloads(names::VXLAN_LINK), offload, "repaired");
        }
        // Without a word about it, it stays.
        kernel.apply(&tunnel(1)).await.unwrap();
        assert!(!offloads(names::VXLAN_LINK));
    });
}

fn tunnel_v6() -> State {
    let link = name(names::VXLAN_LINK_V6);
    let kind = LinkKind::Vxlan {
        vni: names::VXLAN_VNI,
        port: names::VXLAN_PORT,
        local: "fd10::1".parse().unwrap(),
        parent: Some(name("up0")),
        mac: names::vtep_mac_v6("node1"),
    };
    let mac = MacAddr([0x66, 0, 0, 0, 0, 2]);
    let neighbour = Neighbour {
        link: link.clone(),
        address: "fd00:1::2".parse().unwrap(),
    };
    let device = Link::new(kind, 1430).addresses(["fd00:1::1/128".parse().unwrap()]);
    let fdb = Fdb {
        link: link.clone(),
        mac,
    };
    State {
        links: BTreeMap::from([(link, Arc::new(device))]),
        neighbours: Arc::new(BTreeMap::from([(neighbour, mac)])),
        fdb: Arc::new(BTreeMap::from([(fdb, "fd10::2".parse().unwrap())])),
        ..State::default()
    }
}

/// The tunnel is as [`tunnel_v6`] asks for.
fn is_right_v6() {
    let link = &list("addr show dev vxlan-v6.calico")[0];
    let data = &link["linkinfo"]["info_data"];
    assert_eq!(
        (&data["id"], &data["local6"]),
        (&4096.into(), &"fd10::1".into())
    );
    let own = |one: &&serde_json::Value| one["scope"] != "link";
    let addresses: Vec<_> = link["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(own)
        .collect();
    assert_eq!(
        (addresses.len(), &addresses[0]["local"]),
        (1, &"fd00:1::1".into())
    );
    let neighbours = list("-6 neigh show dev vxlan-v6.calico nud permanent");
    assert_eq!(
        (neighbours.len(), &neighbours[0]["dst"]),
        (1, &"fd00:1::2".into())
    );
}

#[test]
fn a_tunnel_between_ipv6_addresses_is_made_and_repaired() {
    async_node(async || {
        uplink();
        ip("addr add fd10::1/64 dev up0 nodad");
        let state = tunnel_v6();
        let mut kernel = kernel();
        assert_eq!(kernel.apply(&state).await.unwrap().failed, []);
        is_right_v6();
        assert_eq!(
            crate::sandbox::kernel()
                .apply(&state)
                .await
                .unwrap()
                .changed,
            0
        );
        for damage in [
            "link set vxlan-v6.calico down",
            "addr del fd00:1::1/128 dev vxlan-v6.calico",
        ] {
            ip(damage);
            heard(&mut kernel).await;
            assert_eq!(kernel.apply(&state).await.unwrap().failed, []);
            is_right_v6();
        }
        kernel.apply(&State::default()).await.unwrap();
        assert!(!ip("link show").contains("vxlan-v6"));
    });
}

/// `cargo xtask vm` runs it in a kernel that has IP in IP.
#[test]
#[ignore = "needs a kernel with ipip"]
fn the_ip_in_ip_device_is_set_up_damaged_repaired_and_put_down() {
    async_node(async || {
        let tunl0 = || {
            let link = list("addr show dev tunl0").remove(0);
            let addresses = link["addr_info"].as_array().unwrap().iter();
            let addresses: Vec<_> = addresses.map(|one| one["local"].clone()).collect();
            let up = link["flags"].as_array().unwrap().contains(&"UP".into());
            (link["mtu"].clone(), up, addresses)
        };
        let link = Link::new(LinkKind::Ipip, 1480).addresses(["10.1.0.1/32".parse().unwrap()]);
        let state = State {
            links: BTreeMap::from([(name(names::IPIP_LINK), Arc::new(link))]),
            ..State::default()
        };
        let right = (1480.into(), true, vec!["10.1.0.1".into()]);
        let mut kernel = kernel();
        assert_eq!(kernel.apply(&state).await.unwrap().failed, []);
        assert_eq!(tunl0(), right);
        assert_eq!(
            crate::sandbox::kernel()
                .apply(&state)
                .await
                .unwrap()
                .changed,
            0
        );
        for damage in [
            "link set tunl0 down",
            "link set tunl0 mtu 1400",
            "addr del 10.1.0.1/32 dev tunl0",
            "addr add 10.77.0.1/32 dev tunl0",
        ] {
            ip(damage);
            heard(&mut kernel).await;
            assert_eq!(kernel.apply(&state).await.unwrap().failed, [], "{damage}");
            assert_eq!(tunl0(), right, "{damage}");
        }
        // The kernel's own device stays when nobody asks for it any more.
        kernel.apply(&State::default()).await.unwrap();
        let (_, up, addresses) = tunl0();
        assert_eq!((up, addresses), (false, vec![]));
    });
}

#[test]
fn interfaces_are_listed_with_their_addresses() {
    async_node(async || {
        uplink();
        let all = interfaces().unwrap();
        let up0 = all.iter().find(|one| one.name == name("up0")).unwrap();
        assert_eq!((up0.kind.as_str(), up0.up, up0.mtu), ("bridge", true, 1500));
        assert!(up0.addresses.contains(&"192.168.10.1/24".parse().unwrap()));
        assert!(all.iter().any(|one| one.loopback && one.is_virtual()));
    });
}
