//! Addresses for the nodes whose file names none.

use std::net::{IpAddr, Ipv4Addr};

use ocicatctl::{Document, Fault};

use super::Scenario;

/// The first host number that is given out: leaves room below for addresses that people write by hand.
const FIRST: u32 = 11;

/// Gives every node without an address the next free one of its rack.
pub(super) fn assign(document: &Document, scenario: &mut Scenario) -> Result<(), Fault> {
    for index in 0..scenario.nodes.len() {
        if !scenario.nodes[index].ip.is_empty() {
            continue;
        }
        match free(scenario, &scenario.nodes[index].rack) {
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
    Ok(())
}

fn free(scenario: &Scenario, rack: &str) -> Option<IpAddr> {
    let cidr = scenario.rack(rack)?.cidr;
    let IpAddr::V4(network) = cidr.address() else {
        return None;
    };
    let size = 1u32 << (32 - u32::from(cidr.length()));
    let in_order = (FIRST..size - 1).chain(2..FIRST.min(size - 1));
    let mut addresses =
        in_order.map(|number| IpAddr::V4(Ipv4Addr::from(u32::from(network) + number)));
    addresses.find(|address| scenario.underlay_owner(*address).is_none())
}
