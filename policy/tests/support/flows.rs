//! Packets that meet everything in a random cluster.

use std::net::IpAddr;

use ocicat_dataplane::state::Protocol;
use ocicat_policy::Flow;

use super::cluster::{PODS, address, address_v6, node_address};

/// Flows between the pods, with the nodes and with the outside. What crosses a node's own interface crosses `eth0`.
pub fn all() -> Vec<Flow> {
    let mut out = pod_flows();
    let outside = IpAddr::from([192, 0, 2, 7]);
    let others: Vec<IpAddr> = (0..PODS).map(address).chain([outside]).collect();
    for node in ["n0", "n1"] {
        for other in &others {
            for port in [80, 443] {
                let to = Flow::tcp(*other, node_address(node), port);
                out.push(Flow {
                    to_node: Some(node.into()),
                    ..to
                });
                let from = Flow::udp(node_address(node), *other, port);
                out.push(Flow {
                    from_node: Some(node.into()),
                    ..from
                });
            }
        }
    }
    for flow in &mut out {
        flow.interface = Some("eth0".into());
    }
    out
}

fn pod_flows() -> Vec<Flow> {
    let outside = IpAddr::from([192, 0, 2, 7]);
    let outside_v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 1, 1]);
    let mut v4: Vec<IpAddr> = (0..PODS).map(address).collect();
    let mut v6: Vec<IpAddr> = (0..PODS).map(address_v6).collect();
    v4.push(outside);
    v6.push(outside_v6);
    let mut out = Vec::new();
    for addresses in [v4, v6] {
        for source in &addresses {
            for destination in &addresses {
                for protocol in [Protocol::TCP, Protocol::UDP] {
                    for port in [80, 82, 443] {
                        out.push(Flow::new(*source, *destination, protocol, port));
                    }
                }
                out.push(Flow::ping(*source, *destination));
                out.push(Flow {
                    source_port: 80,
                    ..Flow::tcp(*source, *destination, 9)
                });
            }
        }
    }
    out
}
