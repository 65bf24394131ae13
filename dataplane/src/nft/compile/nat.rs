//! Source address translation.

use super::Needs;
use super::base::Base;
use super::rule::maximal;
use crate::nft::name::Name;
use crate::nft::statement::{Field, Rule, Statement, Value};
use crate::state::{IpVersion, Nat, PortRange, Protocol};

/// Source address translation: of pods towards the world, and of the host towards a tunnel.
pub(super) fn postrouting(base: &Base<'_>, needs: &mut Needs<'_>) -> Vec<Rule> {
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
    for version in [IpVersion::V4, IpVersion::V6] {
        let sources = maximal(&base.nat.sources, version);
        if sources.is_empty() {
            continue;
        }
        // Named after their content: pools change seldom, and a connection must not start while a set changes.
        let from = needs.nets(version, &sources);
        let excluded = maximal(&base.nat.excluded, version);
        let except = (!excluded.is_empty()).then(|| needs.nets(version, &excluded));
        for ports in nat_ports(base.nat) {
            rules.push(nat_rule(base.nat, version, &from, except.as_ref(), ports));
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
    from: &Name,
    except: Option<&Name>,
    (protocol, ports): (Option<Protocol>, Option<PortRange>),
) -> Rule {
    let mut all = vec![
        Statement::version(version),
        Statement::lookup(vec![Field::Source(version)], from),
    ];
    all.extend(except.map(|set| Statement::not_in(vec![Field::Destination(version)], set)));
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
