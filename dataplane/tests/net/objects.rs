//! Rules, bridges, pairs into another namespace and settings: made, changed, damaged by hand and repaired, all seen
//! through `ip`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ocicat_dataplane::linux::LinuxDataplane;
use ocicat_dataplane::state::{
    Hop, IpVersion, Link, LinkKind, MacAddr, Namespace, Route, RouteKey, RoutingAction,
    RoutingRule, Setting,
};
use ocicat_dataplane::{Dataplane as _, Fault, KernelError, Object, Refusal, State};

use crate::sandbox::{async_node, container, heard, inside, ip, kernel, list, name};

/// Applies, and again: nothing may fail, and the second time nothing may be left to do, for a newcomer neither.
async fn settled(kernel: &mut LinuxDataplane, state: &State) -> usize {
    let report = kernel.apply(state).await.unwrap();
    assert_eq!(report.failed, []);
    let again = crate::sandbox::kernel().apply(state).await.unwrap();
    assert_eq!((again.changed, again.failed), (0, vec![]), "a newcomer");
    report.changed
}

/// Damages by hand, waits until it is heard, and repairs.
async fn repaired(kernel: &mut LinuxDataplane, state: &State, damage: &str) {
    ip(damage);
    heard(kernel).await;
    assert!(settled(kernel, state).await > 0, "{damage}");
}

fn with_rules(rules: impl IntoIterator<Item = RoutingRule>) -> State {
    State {
        rules: Arc::new(rules.into_iter().collect()),
        ..State::default()
    }
}

fn rule(version: IpVersion, priority: u32, table: u32) -> RoutingRule {
    RoutingRule::new(version, priority, RoutingAction::Table(table))
}

/// Rules of protocol 80, as `ip` shows them.
fn our_rules() -> Vec<String> {
    let mut all = Vec::new();
    for family in ["-4", "-6"] {
        for rule in list(&format!("{family} rule show")) {
            if rule["protocol"] == "80" {
                let field = |key: &str| rule[key].as_str().map(str::to_owned);
                let source = field("src").unwrap_or_default();
                let length = rule["srclen"].as_u64().map(|l| format!("/{l}"));
                let text = [
                    Some(format!("{}:", rule["priority"])),
                    rule.get("not").map(|_| "not".to_owned()),
                    Some(source + &length.unwrap_or_default()),
                    field("fwmark").map(|m| format!("mark {m}")),
                    field("iif").map(|l| format!("iif {l}")),
                    field("table").map(|t| format!("table {t}")),
                    field("action"),
                ];
                all.push(text.into_iter().flatten().collect::<Vec<_>>().join(" "));
            }
        }
    }
    all
}

#[test]
fn rules_are_made_damaged_repaired_and_removed() {
    async_node(async || {
        let wanted = with_rules([
            rule(IpVersion::V4, 100, 1000).from("10.1.0.0/24".parse().unwrap()),
            rule(IpVersion::V4, 101, 254).mark(0x10, 0xf0).inverted(),
            RoutingRule::new(IpVersion::V4, 102, RoutingAction::Prohibit).input(name("eth9")),
            rule(IpVersion::V6, 100, 1000).from("fd00::/64".parse().unwrap()),
        ]);
        let mut kernel = kernel();
        assert_eq!(settled(&mut kernel, &wanted).await, 4);
        let shown = [
            "100: 10.1.0.0/24 table 1000",
            "101: not all mark 0x10 table main",
            "102: all iif eth9 prohibit",
            "100: fd00::/64 table 1000",
        ];
        assert_eq!(our_rules(), shown);
        repaired(&mut kernel, &wanted, "rule del priority 100").await;
        repaired(&mut kernel, &wanted, "-6 rule del priority 100").await;
        let more = "rule add priority 50 from all table 9 protocol 80";
        repaired(&mut kernel, &wanted, more).await;
        assert_eq!(our_rules(), shown);
        settled(&mut kernel, &State::default()).await;
        assert_eq!(our_rules(), [] as [String; 0]);
        assert_eq!(list("rule show").len(), 3, "the kernel's own");
    });
}

#[test]
fn a_foreign_rule_stays_and_an_incomplete_state_removes_none() {
    async_node(async || {
        ip("rule add priority 100 from 10.1.0.0/24 table 1000 protocol 177");
        let wanted = rule(IpVersion::V4, 100, 1000).from("10.1.0.0/24".parse().unwrap());
        let mut kernel = kernel();
        let mut state = with_rules([wanted.clone(), rule(IpVersion::V4, 101, 7)]);
        settled(&mut kernel, &state).await;
        let theirs = || ip("rule show").contains("from 10.1.0.0/24 lookup 1000 proto 177");
        assert_eq!(
            our_rules(),
            ["100: 10.1.0.0/24 table 1000", "101: all table 7"]
        );
        assert!(theirs());
        state.rules = Arc::default();
        state.incomplete = true;
        kernel.apply(&state).await.unwrap();
        assert_eq!(our_rules().len(), 2);
        state.incomplete = false;
        settled(&mut kernel, &state).await;
        assert_eq!(our_rules(), [] as [String; 0]);
        assert!(theirs());
    });
}

/// A bridge with an address, a port of it in `namespace`, and a route by the bridge.
fn bridged(namespace: &Namespace) -> State {
    let (bridge, port) = (name("br0"), name("port0"));
    let mac = Some(MacAddr([2, 0, 0, 0, 0, 7]));
    let kind = LinkKind::Veth {
        peer: name("inner0"),
        namespace: namespace.clone(),
    };
    let route = Route {
        hops: vec![Hop::Link(bridge.clone())],
        source: None,
    };
    State {
        links: BTreeMap::from([
            (
                bridge.clone(),
                Arc::new(Link::new(LinkKind::Bridge { mac }, 1400).addresses([
                    "10.7.0.1/24".parse().unwrap(),
                    "fd07::1/64".parse().unwrap(),
                ])),
            ),
            (
                port,
                Arc::new(Link::new(kind, 1400).bridge(Some(bridge.clone()))),
            ),
        ]),
        routes: Arc::new(BTreeMap::from([(
            RouteKey::main("10.8.0.0/24".parse().unwrap()),
            route,
        )])),
        ..State::default()
    }
}

fn bridge_is_right(namespace: &Namespace) {
    use std::os::fd::AsFd as _;
    let bridge = &list("addr show dev br0")[0];
    assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
    assert_eq!(
        (&bridge["mtu"], &bridge["ifalias"]),
        (&1400.into(), &"ocicat".into())
    );
    assert_eq!(bridge["address"], "02:00:00:00:00:07");
    let addresses = bridge["addr_info"].as_array().unwrap().iter();
    let mut addresses: Vec<_> = addresses
        .filter(|address| address["scope"] != "link")
        .map(|address| address["local"].as_str().unwrap())
        .collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["10.7.0.1", "fd07::1"]);
    let port = &list("link show dev port0")[0];
    assert_eq!(
        (&port["master"], &port["mtu"]),
        (&"br0".into(), &1400.into())
    );
    assert_eq!(port["operstate"], "UP", "the other end is up too");
    let namespace = namespace.as_fd().try_clone_to_owned().unwrap();
    let inner = inside(&namespace, || list("link show dev inner0").remove(0));
    assert_eq!(
        (&inner["mtu"], &inner["linkinfo"]["info_kind"]),
        (&1400.into(), &"veth".into())
    );
    assert!(ip("route show").contains("10.8.0.0/24 dev br0 proto 80 scope link"));
}

#[test]
fn a_bridge_and_a_pair_are_made_damaged_repaired_and_removed() {
    async_node(async || {
        let inner = container();
        let namespace = Namespace::new(Arc::clone(&inner)).unwrap();
        let wanted = bridged(&namespace);
        let mut kernel = kernel();
        settled(&mut kernel, &wanted).await;
        bridge_is_right(&namespace);
        for damage in [
            "link set br0 down",
            "link set br0 mtu 1300",
            "link set br0 address 02:00:00:00:00:08",
            "addr del 10.7.0.1/24 dev br0",
            "addr add 10.77.0.1/24 dev br0",
            "link set port0 nomaster",
            "link set port0 down",
            "link del port0",
            "link del br0",
        ] {
            repaired(&mut kernel, &wanted, damage).await;
            bridge_is_right(&namespace);
        }
        inside(&inner, || {
            ip("link set inner0 down");
            ip("link set inner0 name other0");
        });
        kernel.invalidate();
        settled(&mut kernel, &wanted).await;
        bridge_is_right(&namespace);
        // Other people's ports are theirs.
        ip("link add theirs up type bridge");
        ip("link add dummyport type veth peer name dp1");
        ip("link set dummyport master br0");
        kernel.invalidate();
        settled(&mut kernel, &wanted).await;
        assert_eq!(list("link show dev dummyport")[0]["master"], "br0");
        settled(&mut kernel, &State::default()).await;
        let left = ip("link show");
        assert!(!left.contains("br0") && !left.contains("port0"), "{left}");
        assert!(left.contains("theirs") && left.contains("dummyport"));
    });
}

#[test]
fn links_that_were_made_before_a_restart_are_removed_and_others_of_their_names_are_not() {
    async_node(async || {
        let namespace = Namespace::new(container()).unwrap();
        settled(&mut kernel(), &bridged(&namespace)).await;
        let mut restarted = kernel();
        let mut nothing = State {
            incomplete: true,
            ..State::default()
        };
        restarted.apply(&nothing).await.unwrap();
        bridge_is_right(&namespace);
        nothing.incomplete = false;
        settled(&mut restarted, &nothing).await;
        assert!(!ip("link show").contains("br0"));
        ip("link add br0 type bridge");
        settled(&mut restarted, &bridged(&namespace)).await;
        bridge_is_right_but_for_the_alias();
        settled(&mut restarted, &State::default()).await;
        assert!(ip("link show").contains("br0"), "somebody else made it");
    });
}

fn bridge_is_right_but_for_the_alias() {
    let bridge = &list("link show dev br0")[0];
    assert_eq!(
        (&bridge["mtu"], bridge.get("ifalias")),
        (&1400.into(), None)
    );
}

#[test]
fn a_port_that_is_busy_is_said_to_be_and_tried_again() {
    async_node(async || {
        let namespace = Namespace::new(container()).unwrap();
        let mut wanted = bridged(&namespace);
        let mut apart = wanted.clone();
        let port = Arc::make_mut(apart.links.get_mut(&name("port0")).unwrap());
        *port = port.clone().bridge(None);
        let mut kernel = kernel();
        settled(&mut kernel, &apart).await;
        // Somebody else's link takes what comes in by the port.
        ip("link add link port0 name theirs type macvlan");
        let report = kernel.apply(&wanted).await.unwrap();
        assert_eq!(report.failed.len(), 1, "{:?}", report.failed);
        assert_eq!(report.failed[0].object, Object::Link(name("port0")));
        let Fault::Kernel(KernelError { refusal, .. }) = &report.failed[0].fault else {
            panic!("{}", report.failed[0]);
        };
        assert_eq!(*refusal, Refusal::Busy);
        assert_eq!(kernel.apply(&wanted).await.unwrap().failed.len(), 1);
        ip("link del theirs");
        settled(&mut kernel, &wanted).await;
        bridge_is_right(&namespace);
        wanted.links.clear();
        wanted.routes = Arc::default();
        settled(&mut kernel, &wanted).await;
    });
}

#[test]
fn settings_are_made_damaged_repaired_and_wait_for_their_link() {
    async_node(async || {
        let read = |path: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
            text.trim().to_owned()
        };
        let setting = |name: &str, value: &str| (Setting::new(name).unwrap(), value.into());
        let later = "ipv4/conf/later/rp_filter";
        let wanted = State {
            settings: Arc::new(BTreeMap::from([
                setting("ipv4/conf/all/rp_filter", "2"),
                setting("ipv4/ping_group_range", "0 7"),
                setting(later, "1"),
            ])),
            ..State::default()
        };
        let mut kernel = kernel();
        let report = kernel.apply(&wanted).await.unwrap();
        assert_eq!(report.changed, 2);
        assert_eq!(report.failed[0].fault, Fault::LinkMissing(name("later")));
        ip("link add later up type bridge");
        heard(&mut kernel).await;
        assert_eq!(settled(&mut kernel, &wanted).await, 1);
        assert_eq!(
            (read(later), read("ipv4/ping_group_range")),
            ("1".into(), "0\t7".into())
        );
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        kernel.invalidate();
        assert_eq!(settled(&mut kernel, &wanted).await, 1);
        assert_eq!(read("ipv4/conf/all/rp_filter"), "2");
        // Another link of that name has its own.
        ip("link del later");
        ip("link add later type bridge");
        heard(&mut kernel).await;
        assert_eq!(settled(&mut kernel, &wanted).await, 1);
        // From a thread in another namespace it is still this one's.
        std::fs::write(format!("/proc/sys/net/{later}"), "0").unwrap();
        kernel.invalidate();
        let elsewhere = container();
        inside(&elsewhere, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let report = runtime.block_on(kernel.apply(&wanted)).unwrap();
            assert_eq!((report.changed, report.failed), (1, vec![]));
        });
        assert_eq!(read(later), "1");
    });
}

#[test]
fn settings_that_cannot_be_are_named() {
    async_node(async || {
        let setting = |name: &str, value: &str| (Setting::new(name).unwrap(), value.into());
        let bad = State {
            settings: Arc::new(BTreeMap::from([
                setting("ipv4/conf/all/no_such_thing", "1"),
                setting("ipv4/ip_local_port_range", "nonsense"),
            ])),
            ..State::default()
        };
        let report = kernel().apply(&bad).await.unwrap();
        let said: Vec<_> = report.failed.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "setting ipv4/conf/all/no_such_thing: this kernel has no such setting",
                "setting ipv4/ip_local_port_range: the kernel refused: invalid (errno 22)",
            ]
        );
    });
}

#[test]
fn what_a_link_cannot_be_is_refused_by_name() {
    async_node(async || {
        let own = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let namespace = Namespace::new(std::os::fd::OwnedFd::from(own)).unwrap();
        let kind = LinkKind::Veth {
            peer: name("inner0"),
            namespace,
        };
        let state = State {
            links: BTreeMap::from([
                (name("p0"), Arc::new(Link::new(kind, 1400))),
                (name("tunl9"), Arc::new(Link::new(LinkKind::Ipip, 1480))),
            ]),
            ..State::default()
        };
        let report = kernel().apply(&state).await.unwrap();
        let said: Vec<_> = report.failed.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "link p0: the other end of the pair is in the same network namespace",
                "link tunl9: the kernel's IP in IP device for any remote address is called tunl0",
            ]
        );
    });
}
