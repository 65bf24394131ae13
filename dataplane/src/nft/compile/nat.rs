//! Source address translation.

use super::Output;
use super::base::Base;
use super::rule::{maximal, net_elements};
use crate::nft::name::Name;
use crate::nft::ruleset::{Part, Shape};
use crate::nft::statement::{Field, Rule, Statement, Value};
use crate::state::{IpVersion, Nat, PortRange, Protocol};

const NAT_SOURCES: [&str; 2] = ["nat-sources4", "nat-sources6"];
const NAT_EXCLUDED: [&str; 2] = ["nat-excluded4", "nat-excluded6"];

/// Source address translation: of pods towards the world, and of the host towards a tunnel.
pub(super) fn postrouting(base: &Base<'_>, output: &mut Output) -> Vec<Rule> {
    let mut rules = Vec::new();
    for tunnel in base.tunnels {
        // The host reached a remote pod by a service: its address on the uplink would make the answer go
        // another way than the question.
        rules.push(Rule::new(
            vec![
                Statement::is(Field::OutLink, Value::Link(tunnel.clone())),
                Statement::LocalSource {
                    on_link: true,
                    not: true,
                },
                Statement::LocalSource {
                    on_link: false,
                    not: false,
                },
                Statement::Counter,
                Statement::Masquerade { ports: None },
            ],
            "to a tunnel from an address of the uplink",
        ));
    }
    for (version, at) in [(IpVersion::V4, 0), (IpVersion::V6, 1)] {
        let sources = maximal(&base.nat.sources, version);
        let (Some(from), Some(except)) = (NAT_SOURCES.get(at), NAT_EXCLUDED.get(at)) else {
            continue;
        };
        if sources.is_empty() {
            continue;
        }
        let excluded = maximal(&base.nat.excluded, version);
        for (set, nets) in [(*from, sources), (*except, excluded)] {
            let shape = Shape::ranges(Part::Address(version));
            output.collections.push((set.into(), shape));
            for element in net_elements(&nets) {
                output.elements.push((set.into(), element));
            }
        }
        for ports in nat_ports(base.nat) {
            rules.push(nat_rule(base.nat, version, from, except, ports));
        }
    }
    rules
}

/// With a port range: one rule for each protocol that has ports it applies to, then one for the rest.
fn nat_ports(nat: &Nat) -> Vec<(Option<Protocol>, Option<PortRange>)> {
    let mut all = Vec::new();
    if nat.ports.is_some() {
        all.extend([Protocol::TCP, Protocol::UDP].map(|protocol| (Some(protocol), nat.ports)));
    }
    all.push((None, None));
    all
}

fn nat_rule(
    nat: &Nat,
    version: IpVersion,
    from: &str,
    except: &str,
    (protocol, ports): (Option<Protocol>, Option<PortRange>),
) -> Rule {
    let mut all = vec![
        Statement::version(version),
        Statement::lookup(vec![Field::Source(version)], &Name::from(from)),
        Statement::not_in(vec![Field::Destination(version)], &Name::from(except)),
    ];
    all.extend(protocol.map(Statement::protocol));
    all.push(Statement::Counter);
    let own = nat
        .address
        .filter(|address| address.is_ipv4() == (version == IpVersion::V4));
    all.push(match own {
        Some(address) => Statement::SourceNat { address, ports },
        None => Statement::Masquerade { ports },
    });
    Rule::new(all, "pods to the world")
}
