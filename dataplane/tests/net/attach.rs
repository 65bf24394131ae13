use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;

use ocicat_dataplane::{Attach as _, AttachError, Attachment, Detachment, LinuxAttach, names};

use crate::sandbox::{container, inside, ip, list, name, node, our_routes};

fn attachment(namespace: &Arc<OwnedFd>, id: &str, addresses: &[&str]) -> Attachment {
    let alias = names::alias(id, "eth0");
    let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
    Attachment::new(
        Arc::clone(namespace),
        name("eth0"),
        names::pod_link("default", "web"),
        alias,
    )
    .addresses(addresses)
    .mtu(1450)
}

fn detachment(id: &str) -> Detachment {
    Detachment {
        host_link: names::pod_link("default", "web"),
        alias: names::alias(id, "eth0"),
    }
}

fn setting(path: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/{path}"))
        .unwrap()
        .trim()
        .to_owned()
}

fn pings(from: &OwnedFd, to: &str) -> bool {
    inside(from, || {
        let status = Command::new("ping")
            .args(["-c1", "-W10", "-n", to])
            .output()
            .expect("ping is needed");
        status.status.success()
    })
}

fn container_is_right(mac: &str) {
    let end = &list("addr show dev eth0")[0];
    assert_eq!(end["address"].as_str().unwrap(), mac);
    let addresses: Vec<_> = end["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (&a["local"], &a["prefixlen"]))
        .collect();
    assert!(
        addresses.contains(&(&"10.1.0.5".into(), &32.into())),
        "{addresses:?}"
    );
    assert!(
        addresses.contains(&(&"fd00::5".into(), &128.into())),
        "{addresses:?}"
    );
    let routes = ip("route show");
    assert!(
        routes.contains("default via 169.254.1.1 dev eth0"),
        "{routes}"
    );
    assert!(
        routes.contains("169.254.1.1 dev eth0 scope link"),
        "{routes}"
    );
    assert!(ip("-6 route show").contains("default via fe80::ecee:eeff:feee:eeee dev eth0"));
    assert!(
        ip("neigh show nud permanent").contains("169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee")
    );
    assert_eq!(setting("ipv4/ip_forward"), "0");
}

#[test]
fn an_attached_container_has_what_calicos_have() {
    node(|| {
        let pod = container();
        let wanted = attachment(&pod, "one", &["10.1.0.5", "fd00::5"]);
        let attached = LinuxAttach::new().attach(&wanted).unwrap();
        assert_eq!(attached.host_mac, names::HOST_MAC);
        assert_eq!(attached.mtu, 1450);

        let host = &list("link show dev cali68caf03a5f4")[0];
        assert_eq!(host["num_tx_queues"], 1);
        assert_eq!(host["num_rx_queues"], 1);
        assert_eq!(host["address"], "ee:ee:ee:ee:ee:ee");
        assert_eq!(host["ifalias"], "one/eth0");
        assert_eq!(host["mtu"], 1450);
        assert_eq!(host["linkinfo"]["info_kind"], "veth");
        assert!(host["flags"].as_array().unwrap().contains(&"UP".into()));
        assert_eq!(setting("ipv4/conf/cali68caf03a5f4/proxy_arp"), "1");
        assert_eq!(setting("ipv4/conf/cali68caf03a5f4/rp_filter"), "1");
        assert_eq!(setting("ipv4/conf/cali68caf03a5f4/route_localnet"), "0");
        assert_eq!(setting("ipv6/conf/cali68caf03a5f4/accept_ra"), "0");
        assert_eq!(
            our_routes(),
            [
                "10.1.0.5 dev cali68caf03a5f4 scope link",
                "fd00::5 dev cali68caf03a5f4 metric 1024 pref medium"
            ]
        );

        inside(&pod, || {
            container_is_right(&attached.container_mac.to_string())
        });
        // The node has no default route, with which its proxy ARP would be silent.
        ip("addr add 192.168.0.1/24 dev lo");
        assert!(pings(&pod, "192.168.0.1"));
        assert_eq!(LinuxAttach::new().check(&wanted).unwrap(), []);
    });
}

/// The container's end is made where it belongs: on the node its name may be taken, as that of the uplink often is.
#[test]
fn the_nodes_own_link_of_that_name_is_not_in_the_way() {
    node(|| {
        ip("link add eth0 address 02:00:00:00:00:77 up type veth peer name wire");
        ip("link set wire up");
        ip("addr add 192.168.10.1/24 dev eth0");
        ip("route add default via 192.168.10.9");
        let shown = || (ip("-o -4 addr show dev eth0"), ip("route show dev eth0"));
        let before = shown();
        let pod = container();
        let wanted = attachment(&pod, "one", &["10.1.0.5", "fd00::5"]);
        let attached = LinuxAttach::new().attach(&wanted).unwrap();
        inside(&pod, || {
            container_is_right(&attached.container_mac.to_string())
        });
        assert_eq!(LinuxAttach::new().detach(&detachment("one")), Ok(true));
        assert_eq!(shown(), before);
        assert_eq!(
            list("link show dev eth0")[0]["address"],
            "02:00:00:00:00:77"
        );
    });
}

#[test]
fn two_containers_reach_each_other_over_both_families() {
    node(|| {
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
        }
        let (one, two) = (container(), container());
        for (pod, id, v4, v6) in [
            (&one, "one", "10.1.0.5", "fd00::5"),
            (&two, "two", "10.1.0.6", "fd00::6"),
        ] {
            let mut wanted = attachment(pod, id, &[v4, v6]);
            wanted.host_link = names::pod_link("default", id);
            LinuxAttach::new().attach(&wanted).unwrap();
        }
        assert!(pings(&one, "10.1.0.6"));
        assert!(pings(&one, "fd00::6"));
        assert!(pings(&two, "fd00::5"));
    });
}

#[test]
fn a_second_link_of_a_container_leaves_the_firsts_routes() {
    node(|| {
        let pod = container();
        let first = attachment(&pod, "one", &["10.1.0.5", "fd00::5"]);
        let mut second = attachment(&pod, "one", &["10.1.0.6", "fd00::6"]);
        second.container_link = name("net1");
        second.host_link = names::container_link("k8s-pod-network", "one", "net1");
        second.alias = names::alias("one", "net1");
        let kernel = LinuxAttach::new();
        for wanted in [&first, &second] {
            kernel.attach(wanted).unwrap();
        }
        for wanted in [&first, &second] {
            assert_eq!(kernel.check(wanted).unwrap(), []);
        }
        let (host_link, alias) = (second.host_link, second.alias);
        assert_eq!(kernel.detach(&Detachment { host_link, alias }), Ok(true));
        assert_eq!(kernel.check(&first).unwrap(), []);
    });
}

#[test]
fn attaching_twice_changes_nothing_and_detaching_twice_neither() {
    node(|| {
        let pod = container();
        let wanted = attachment(&pod, "one", &["10.1.0.5"]);
        let kernel = LinuxAttach::new();
        let first = kernel.attach(&wanted).unwrap();
        let index = list("link show dev cali68caf03a5f4")[0]["ifindex"].clone();
        assert_eq!(kernel.attach(&wanted).unwrap(), first);
        assert_eq!(list("link show dev cali68caf03a5f4")[0]["ifindex"], index);
        assert_eq!(kernel.detach(&detachment("one")), Ok(true));
        assert_eq!(kernel.detach(&detachment("one")), Ok(false));
        assert_eq!(our_routes(), [] as [String; 0]);
    });
}

#[test]
fn a_removal_tells_when_the_link_is_gone() {
    node(|| {
        let pod = container();
        let kernel = LinuxAttach::new();
        kernel
            .attach(&attachment(&pod, "one", &["10.1.0.5"]))
            .unwrap();
        let mut left = None;
        let tell = || {
            // Whoever is told finds the name free and the route gone.
            let link = std::path::Path::new("/proc/sys/net/ipv4/conf/cali68caf03a5f4");
            left = Some((link.exists(), our_routes()));
        };
        assert_eq!(kernel.detach_telling(&detachment("one"), tell), Ok(true));
        assert_eq!(left, Some((false, vec![])));
        let mut told = false;
        let again = kernel.detach_telling(&detachment("one"), || told = true);
        assert_eq!((again, told), (Ok(false), true));
    });
}

#[test]
fn settings_that_somebody_changed_are_named_and_put_right() {
    node(|| {
        let pod = container();
        let wanted = attachment(&pod, "one", &["10.1.0.5", "fd00::5"]);
        let kernel = LinuxAttach::new();
        kernel.attach(&wanted).unwrap();
        let link = "cali68caf03a5f4";
        for (setting, value) in [
            (format!("ipv4/conf/{link}/forwarding"), "0"),
            (format!("ipv4/conf/{link}/proxy_arp"), "0"),
            (format!("ipv4/conf/{link}/rp_filter"), "2"),
            (format!("ipv4/conf/{link}/accept_redirects"), "1"),
            (format!("ipv4/neigh/{link}/proxy_delay"), "80"),
            (format!("ipv6/conf/{link}/accept_ra"), "1"),
            (format!("ipv6/conf/{link}/proxy_ndp"), "0"),
            (format!("ipv6/conf/{link}/forwarding"), "0"),
            (format!("ipv6/conf/{link}/accept_dad"), "1"),
        ] {
            std::fs::write(format!("/proc/sys/net/{setting}"), value).unwrap();
            let found = kernel.check(&wanted).unwrap();
            assert!(
                found.len() == 1 && found[0].what == setting,
                "{setting}: {found:?}"
            );
            kernel.attach(&wanted).unwrap();
            assert_eq!(kernel.check(&wanted).unwrap(), [], "{setting}");
        }
        let inner = ["ipv4/ip_forward", "ipv6/conf/eth0/accept_ra"];
        for setting in inner {
            inside(&pod, || {
                std::fs::write(format!("/proc/sys/net/{setting}"), "1")
            })
            .unwrap();
            let found = kernel.check(&wanted).unwrap();
            assert!(found.iter().any(|one| one.what == setting), "{found:?}");
        }
    });
}

#[test]
fn the_hardware_address_is_the_one_asked_for_and_addresses_are_usable_at_once() {
    node(|| {
        let pod = container();
        inside(&pod, || {
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        });
        let mac = "02:00:5e:00:00:07".parse().unwrap();
        let wanted = attachment(&pod, "one", &["10.1.0.5", "fd00::5"]).mac(Some(mac));
        let kernel = LinuxAttach::new();
        assert_eq!(kernel.attach(&wanted).unwrap().container_mac, mac);
        inside(&pod, || {
            let end = &list("addr show dev eth0")[0];
            assert_eq!(end["address"], "02:00:5e:00:00:07");
            for address in end["addr_info"].as_array().unwrap() {
                assert!(address.get("tentative").is_none(), "{address}");
            }
        });
        let other = "02:00:5e:00:00:08".parse().unwrap();
        let changed = wanted.mac(Some(other));
        assert!(!kernel.check(&changed).unwrap().is_empty());
        assert_eq!(kernel.attach(&changed).unwrap().container_mac, other);
        assert_eq!(kernel.check(&changed).unwrap(), []);
    });
}

#[test]
fn settings_are_found_where_they_are_mounted_when_proc_is_read_only() {
    use nix::mount::{MsFlags, mount};
    node(|| {
        // The thread's own view of the file system, as in a container without all privileges.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let bind = |from: &str, to: &str, flags: MsFlags| {
            mount(Some(from), to, None::<&str>, flags, None::<&str>).unwrap();
        };
        bind("none", "/", MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        let folder = std::env::temp_dir().join(format!("ocnet-sysctl-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = folder.to_str().unwrap();
        bind("/proc/sys/net", folder, MsFlags::MS_BIND);
        bind("/proc/sys", "/proc/sys", MsFlags::MS_BIND);
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        bind("/proc/sys", "/proc/sys", read_only);

        let pod = container_with_read_only_proc();
        let wanted = attachment(&pod, "one", &["10.1.0.5", "fd00::5"]);
        let refused = LinuxAttach::new().attach(&wanted).unwrap_err();
        assert!(
            matches!(&refused, AttachError::Sysctl { path, .. } if path.starts_with("/proc/sys/net/")),
            "{refused}"
        );
        let kernel = LinuxAttach::new().sysctl(folder);
        kernel.attach(&wanted).unwrap();
        assert_eq!(kernel.check(&wanted).unwrap(), []);
        assert_eq!(setting("ipv6/conf/cali68caf03a5f4/proxy_ndp"), "1");
        let inner = inside(&pod, || setting("ipv6/conf/eth0/accept_dad"));
        assert_eq!(inner, "0", "it is the container's own");
        nix::mount::umount2(folder, nix::mount::MntFlags::MNT_DETACH).unwrap();
        std::fs::remove_dir(folder).unwrap();
    });
}

/// A container's namespace, made by a thread that does not see a writable /proc/sys.
fn container_with_read_only_proc() -> Arc<OwnedFd> {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let file = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        Arc::new(OwnedFd::from(file))
    })
    .join()
    .unwrap()
}

#[test]
fn an_old_containers_removal_leaves_the_new_ones_link() {
    node(|| {
        let (old, new) = (container(), container());
        let kernel = LinuxAttach::new();
        kernel
            .attach(&attachment(&old, "old", &["10.1.0.5"]))
            .unwrap();
        kernel
            .attach(&attachment(&new, "new", &["10.1.0.6"]))
            .unwrap();
        assert_eq!(our_routes(), ["10.1.0.6 dev cali68caf03a5f4 scope link"]);
        assert_eq!(kernel.detach(&detachment("old")), Ok(false));
        assert_eq!(
            list("link show dev cali68caf03a5f4")[0]["ifalias"],
            "new/eth0"
        );
        assert_eq!(kernel.detach(&detachment("new")), Ok(true));
    });
}

#[test]
fn what_is_somebody_elses_is_refused_and_nothing_is_left() {
    node(|| {
        let pod = container();
        let wanted = attachment(&pod, "one", &["10.1.0.5"]);
        let kernel = LinuxAttach::new();

        inside(&pod, || ip("link add eth0 type bridge"));
        assert_eq!(
            kernel.attach(&wanted),
            Err(AttachError::Exists { link: name("eth0") })
        );
        assert!(list("link show type veth").is_empty());
        inside(&pod, || ip("link del eth0"));

        ip("link add cali68caf03a5f4 type bridge");
        assert!(matches!(
            kernel.attach(&wanted),
            Err(AttachError::Foreign { .. })
        ));
        ip("link del cali68caf03a5f4");

        // A pair of somebody else's that happens to have the name: no alias of a container's.
        ip("link add cali68caf03a5f4 type veth peer name theirs");
        ip("link set cali68caf03a5f4 alias mine");
        let refused = kernel.attach(&wanted).unwrap_err().to_string();
        assert!(refused.contains("veth of mine"), "{refused}");
        let one = Detachment {
            host_link: wanted.host_link.clone(),
            alias: wanted.alias.clone(),
        };
        assert_eq!(kernel.detach(&one), Ok(false));
        assert_eq!(list("link show dev theirs").len(), 1, "it is left");
        ip("link del theirs");

        ip("route add blackhole 10.1.0.5/32 proto 99");
        let refused = kernel.attach(&wanted);
        assert_eq!(
            refused,
            Err(AttachError::RouteTaken {
                address: "10.1.0.5".parse().unwrap(),
                protocol: 99
            })
        );
        assert!(list("link show type veth").is_empty(), "the pair is undone");
        assert!(ip("route show proto 99").contains("blackhole 10.1.0.5"));

        let own = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let mut node = wanted.clone();
        node.namespace = Arc::new(own.into());
        assert!(matches!(
            kernel.attach(&node),
            Err(AttachError::Namespace { .. })
        ));
        let mut file = wanted;
        file.namespace = Arc::new(std::fs::File::open("/proc/self/status").unwrap().into());
        assert!(matches!(
            kernel.attach(&file),
            Err(AttachError::Namespace { .. })
        ));
    });
}

/// What is done by hand on the node, or in the container, and what the check calls it.
const DAMAGES: [(&str, &str, &str); 12] = [
    (
        "link set dev cali68caf03a5f4 mtu 1400",
        "",
        "mtu of cali68caf03a5f4",
    ),
    (
        "link set dev cali68caf03a5f4 alias other",
        "",
        "alias of cali68caf03a5f4",
    ),
    ("route del 10.1.0.5/32", "", "route 10.1.0.5/32"),
    ("", "addr del 10.1.0.5/32 dev eth0", "address of eth0"),
    ("", "addr add 10.9.9.9/32 dev eth0", "address of eth0"),
    ("", "route del default", "route 0.0.0.0/0"),
    (
        "",
        "neigh del 169.254.1.1 dev eth0",
        "neighbour 169.254.1.1",
    ),
    ("", "link set eth0 down", "state of eth0"),
    ("", "route del 169.254.1.1", "route 169.254.1.1/32"),
    ("", "link set eth0 mtu 1400", "mtu of eth0"),
    (
        "link set dev cali68caf03a5f4 address 02:00:00:00:00:01",
        "",
        "hardware address of cali68caf03a5f4",
    ),
    (
        "link set dev cali68caf03a5f4 down",
        "",
        "state of cali68caf03a5f4",
    ),
];

#[test]
fn check_names_every_damage() {
    for (host, inner, expected) in DAMAGES {
        node(move || {
            let pod = container();
            let wanted = attachment(&pod, "one", &["10.1.0.5"]);
            let kernel = LinuxAttach::new();
            kernel.attach(&wanted).unwrap();
            if !host.is_empty() {
                ip(host);
            }
            if !inner.is_empty() {
                inside(&pod, || ip(inner));
            }
            let found = kernel.check(&wanted).unwrap();
            assert!(
                found.iter().any(|difference| difference.what == expected),
                "{host}{inner}: {found:?}"
            );
            if !host.contains("alias") {
                kernel.attach(&wanted).unwrap();
                let more = inner.contains("10.9.9.9");
                assert_eq!(
                    kernel.check(&wanted).unwrap().is_empty(),
                    !more,
                    "{host}{inner}"
                );
            }
        });
    }
}
