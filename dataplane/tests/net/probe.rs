use std::process::{Command, Stdio};

use ocicat_dataplane::linux::{Feature, probe};

use crate::sandbox::{ip, node};

/// What other people's programs do for each feature that a kernel may be built without; all in one namespace.
const ORACLES: [(&str, &str); 21] = [
    (
        "veth",
        "ip link add o0 type veth peer name o1 && ip link set o0 up && ip addr add 192.0.2.1/24 dev o0",
    ),
    (
        "vxlan",
        "ip link add o2 type vxlan id 1 dstport 4789 local 127.0.0.1",
    ),
    (
        "vxlan over IPv6",
        "ip link add o3 type vxlan id 1 dstport 4790 local ::1",
    ),
    ("ipip", "ip link add o4 type ipip"),
    ("bridge", "ip link add o5 type bridge"),
    ("ethtool over netlink", "ethtool -k lo"),
    (
        "several next hops",
        "ip route add 198.51.100.0/24 nexthop via 192.0.2.2 dev o0 onlink nexthop via 192.0.2.3 dev o0 onlink",
    ),
    (
        "IPv4 by way of IPv6",
        "ip route add 203.0.113.0/24 via inet6 fe80::2 dev o0 onlink",
    ),
    ("routing rules", "ip -4 rule add priority 7 table 7"),
    ("IPv6 routing rules", "ip -6 rule add priority 7 table 7"),
    ("IPv6", "ip -6 route add blackhole 2001:db8::/64"),
    (
        "nf_tables",
        "nft add table inet o && nft add chain inet o f { type filter hook forward priority 0; }",
    ),
    (
        "nf_tables: fib",
        "nft add rule inet o f fib saddr type local accept",
    ),
    ("nf_tables: log", "nft add rule inet o f log"),
    (
        "nf_tables: limit",
        "nft add rule inet o f limit rate 1/minute",
    ),
    (
        "nf_tables: reject",
        "nft add rule inet o f reject with icmpx type admin-prohibited",
    ),
    (
        "nf_tables: ct",
        "nft add rule inet o f ct state established accept",
    ),
    (
        "nf_tables: ct mark",
        "nft add rule inet o f ct mark 1 accept",
    ),
    (
        "nf_tables: masquerade",
        "nft add chain inet o p { type nat hook postrouting priority 100; } && nft add rule inet o p masquerade",
    ),
    (
        "nf_tables: arp",
        "nft add table arp o && nft add chain arp o i { type filter hook input priority 0; }",
    ),
    ("conntrack over netlink", "conntrack -L"),
];

/// Not by a shell: some have an `ip` of their own.
fn succeeds(line: &str) -> bool {
    let (program, arguments) = line.split_once(' ').unwrap();
    let mut command = Command::new(program);
    match program {
        "nft" => command.arg(arguments),
        _ => command.args(arguments.split(' ')),
    };
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().unwrap().success()
}

fn found<'a>(features: &'a [Feature], name: &str) -> &'a Feature {
    let one = features.iter().find(|feature| feature.name == name);
    one.unwrap_or_else(|| panic!("{name} is not tried"))
}

#[test]
fn what_a_kernel_can_do_is_what_other_programs_find() {
    node(|| {
        let features = probe();
        for (name, command) in ORACLES {
            let done = command.split(" && ").all(succeeds);
            let feature = found(&features, name);
            assert_eq!(done, feature.available.is_ok(), "{command}: {feature:?}");
        }
        for always in [
            "network namespaces",
            "kernel 5.15 or newer",
            "namespace numbers",
            "IPv4 forwarding",
            "IPv6 forwarding",
            "settings of links",
            "rp_filter",
            "routes",
            "nf_tables: sets",
            "nf_tables: verdict maps",
            "nf_tables: concatenations",
            "nf_tables: intervals",
            "nf_tables: notrack",
            "nf_tables: snat",
        ] {
            let feature = found(&features, always);
            assert_eq!(feature.available, Ok(()), "{always}");
        }
        for feature in &features {
            println!("{:24} {:?}", feature.name, feature.available);
        }
        assert_eq!(features.len(), ORACLES.len() + 14);
    });
}

#[test]
fn what_is_tried_is_tried_elsewhere() {
    node(|| {
        let look = || {
            let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            [
                ip("-o link"),
                ip("-o addr"),
                ip("route show table all"),
                ip("rule"),
                forwarding,
            ]
        };
        let before = look();
        assert!(!probe().is_empty());
        assert_eq!(look(), before);
    });
}
