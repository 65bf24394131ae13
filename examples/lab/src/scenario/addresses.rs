//! Addresses for the nodes whose file names none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ocicat_dataplane::Prefix;
use ocicatctl::{Document, Fault};

use super::Scenario;

/// The first host number that is given out: leaves room below for addresses that people write by hand.
const FIRST: u32 = 11;

/// Gives every node the next free address of each family that its rack has and the file names none of.
pub(super) fn assign(document: &Document, scenario: &mut Scenario) -> Result<(), Fault> {
    for index in 0..scenario.nodes.len() {
        let Some(rack) = scenario.rack(&scenario.nodes[index].rack).cloned() else {
            continue;
        };
        for subnet in [Some(rack.cidr), rack.cidr_v6].into_iter().flatten() {
            let known = &scenario.nodes[index].ip;
            if known.iter().any(|ip| ip.is_ipv4() == subnet.is_ipv4()) {
                continue;
            }
            match free(scenario, subnet) {
                Some(address) => scenario.nodes[index].ip.push(address),
                None => {
                    return Err(super::fault(
                        document,
                        &format!("nodes[{index}]"),
                        "the rack has no free address left",
                    ));
                }
            }
        }
        scenario.nodes[index].ip.sort();
    }
    Ok(())
}

fn free(scenario: &Scenario, subnet: Prefix) -> Option<IpAddr> {
    let bits = if subnet.is_ipv4() { 32 } else { 128 } - u32::from(subnet.length());
    let size = 1u32 << bits.min(16);
    let nth = |number: u32| match subnet.address() {
        IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from(u32::from(network) + number)),
        // In hexadecimal as IPv4's is in decimal: 11, 12, 13.
        IpAddr::V6(network) => {
            let number = u128::from_str_radix(&number.to_string(), 16).unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from(u128::from(network) + number))
        }
    };
    let in_order = (FIRST..size - 1).chain(2..FIRST.min(size - 1));
    let mut addresses = in_order.map(nth).filter(|one| subnet.contains(*one));
    addresses.find(|address| scenario.underlay_owner(*address).is_none())
}
