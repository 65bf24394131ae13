use super::*;

const GOOD: &str = "\
name: three
racks:
  - {name: a, cidr: 192.168.10.0/24}
  - {name: b, cidr: 192.168.20.0/28}
nodes:
  - {name: n1, rack: a, ip: [192.168.10.11], labels: {rack: a}}
  - {name: n2, rack: a}
  - {name: n3, rack: b}
hosts:
  - {name: e1, ip: 203.0.113.10, ports: [{port: 80}]}
pools:
  - {name: main, cidr: 10.10.0.0/16, vxlanMode: CrossSubnet, nodeSelector: \"rack == 'a'\"}
  - {name: static, cidr: 10.244.0.0/24, assignmentMode: Manual}
namespaces:
  - {name: shop, labels: {team: shop}}
pods:
  - name: web
    namespace: shop
    node: n1
    ip: [10.244.0.10]
    ports: [{name: http, port: 80, protocol: TCP}]
";

#[test]
fn a_good_file_is_completed() {
    let scenario = Scenario::parse("dir/x.yaml", GOOD).expect("nothing is wrong with it");
    assert_eq!(scenario.name, "three");
    assert_eq!(
        (scenario.as_number, scenario.router),
        (64512, Router::Ocicat)
    );
    let addresses: Vec<String> = scenario
        .nodes
        .iter()
        .map(|node| node.ip[0].to_string())
        .collect();
    assert_eq!(
        addresses,
        ["192.168.10.11", "192.168.10.12", "192.168.20.11"]
    );
    assert_eq!(scenario.pods[0].service_account, "default");
    assert_eq!(scenario.hosts[0].ports[0].protocol, Protocol::Tcp);
    let nameless =
        Scenario::parse("dir/x.yaml", &GOOD.replace("name: three\n", "")).expect("still good");
    assert_eq!(nameless.name, "x");
}

/// A part of the good file, what stands there instead, and how the complaint begins.
const MISTAKES: [(&str, &str, &str); 20] = [
    (
        "name: web",
        "nmae: web",
        "f.yaml:17: pods[0].nmae: unknown field; ",
    ),
    (
        "node: n1",
        "node: n9",
        "f.yaml:19: pods[0].node: there is no node \"n9\"",
    ),
    (
        "10.244.0.0/24",
        "10.10.9.0/24",
        "f.yaml:13: pools[1].cidr: 10.10.9.0/24 overlaps pool main (10.10.0.0/16)",
    ),
    ("10.10.0.0/16", "10.10.0.0/33", "f.yaml:12: pools[0].cidr: "),
    (
        "10.10.0.0/16",
        "10.10.0.1/16",
        "f.yaml:12: pools[0].cidr: 10.10.0.1/16 has host bits set",
    ),
    (
        "rack == 'a'",
        "rack = 'a'",
        "f.yaml:12: pools[0].nodeSelector: ",
    ),
    (
        "CrossSubnet",
        "Sometimes",
        "f.yaml:12: pools[0].vxlanMode: \"Sometimes\" is not one of ",
    ),
    (
        "/24}\n  - {name: b, cidr: 192.168.20.0/28}",
        "/24, cidrV6: \"fd00::/64\"}\n  - {name: b, cidr: 192.168.20.0/28, cidrV6: \"fd00::/64\"}",
        "f.yaml:4: racks[1].cidrV6: fd00::/64 overlaps rack a (fd00::/64)",
    ),
    (
        "racks:",
        "datastore: etcd:http://10.0.0.1:2379\nracks:",
        "f.yaml:2: datastore: not supported yet",
    ),
    (
        "racks:",
        "bgp: {topology: reflectors}\nracks:",
        "f.yaml:2: bgp.reflectors: no node is named as one",
    ),
    (
        "racks:",
        "bgp: {topology: reflectors, reflectors: [n9]}\nracks:",
        "f.yaml:2: bgp.reflectors[0]: there is no node \"n9\"",
    ),
    (
        "racks:",
        "bgp: {router: no-idea}\nracks:",
        "f.yaml:2: bgp.router: \"no-idea\" is not one of true",
    ),
    (
        "protocol: TCP",
        "protocol: SCTP",
        "f.yaml:21: pods[0].ports[0].protocol: not supported yet",
    ),
    (
        "port: 80, protocol",
        "port: 0, protocol",
        "f.yaml:21: pods[0].ports[0].port: ",
    ),
    (
        "10.244.0.10",
        "10.245.0.10",
        "f.yaml:20: pods[0].ip[0]: 10.245.0.10 is in no pool",
    ),
    (
        "[192.168.10.11]",
        "[192.168.11.11]",
        "f.yaml:6: nodes[0].ip[0]: 192.168.11.11 is not in rack a",
    ),
    (
        "namespace: shop",
        "namespace: shp",
        "f.yaml:18: pods[0].namespace: there is no namespace \"shp\"",
    ),
    (
        "name: n2",
        "name: n1",
        "f.yaml:7: nodes[1].name: \"n1\" twice",
    ),
    (
        "name: n2, rack: a",
        "name: n2, rack: c",
        "f.yaml:7: nodes[1].rack: there is no rack \"c\"",
    ),
    ("racks:", "racks: [", "f.yaml:"),
];

#[test]
fn both_families_have_addresses() {
    let racks = "cidr: 192.168.10.0/24, cidrV6: \"fd00:10::/64\"}";
    let text = GOOD.replacen("cidr: 192.168.10.0/24}", racks, 1);
    let scenario = Scenario::parse("f.yaml", &text).expect("nothing is wrong with it");
    let addresses = |node: usize| -> Vec<String> {
        let ips = scenario.nodes[node].ip.iter();
        ips.map(ToString::to_string).collect()
    };
    assert_eq!(addresses(0), ["192.168.10.11", "fd00:10::11"]);
    assert_eq!(addresses(1), ["192.168.10.12", "fd00:10::12"]);
    assert_eq!(addresses(2), ["192.168.20.11"]);
}

#[test]
fn steps_are_read() {
    let steps = "\
steps:
  - say: what follows
  - probe: all
  - probe: {from: shop/web, to: \"host:e1\", port: 80, expect: allowed}
  - run: {on: \"node:n1\", command: ip route, has: [blackhole], within: 5}
  - patch: {kind: IPPool, name: main, spec: {vxlanMode: Always}}
  - add: {pod: {name: x, namespace: shop, node: n1}, fails: no address}
  - agents: {restart: [n1]}
  - arrived: {lost: 0}
";
    let scenario = Scenario::parse("f.yaml", &format!("{GOOD}{steps}")).expect("good steps");
    assert_eq!(scenario.steps.len(), 8);
    let wrong = format!("{GOOD}steps:\n  - jump: high\n");
    let fault = Scenario::parse("f.yaml", &wrong).expect_err("no such step");
    assert!(
        fault.to_string().starts_with("f.yaml:23: steps[0]"),
        "{fault}"
    );
}

#[test]
fn each_mistake_is_one_line_with_its_place() {
    for (from, to, expected) in MISTAKES {
        let fault = Scenario::parse("f.yaml", &GOOD.replacen(from, to, 1))
            .expect_err(to)
            .to_string();
        assert!(fault.starts_with(expected), "{to}: {fault}");
        assert!(!fault.contains('\n'), "{fault}");
    }
}
