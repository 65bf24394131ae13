//! Chains of endpoints: of a pod's interface, of an interface of the node, of a list of policies that several share.

use std::sync::Arc;

use super::antispoof::{
    ARP_ADDRESSES, ARP_SOURCES, FOREIGN_TARGET, ND_TARGETS, POD_ADDRESSES_4, POD_ADDRESSES_6,
    POD_SOURCES,
};
use super::base::{FROM_POD, TO_POD};
use super::rule::{Style, compile, deny, maximal};
use super::{ACCEPTED, Direction, Needs, Output, PASSED, Piece};
use crate::nft::name::{Name, digest, name};
use crate::nft::ruleset::{Chain, Element};
use crate::nft::statement::{Field, Rule, Statement, Value, Verdict};
use crate::state::{
    Action, EndTier, HostEndpoint, HostRules, IpVersion, LinkName, Policy, ProfileId, Tier,
    Workload,
};
use crate::{Prefix, State};

/// The chain of a policy's rules, or a profile's.
pub(super) fn chain_name(piece: &Piece) -> Name {
    match piece {
        Piece::Policy(id, direction) => name(&format!("policy-{}", direction.word()), id.as_str()),
        Piece::Profile(id, direction) => {
            name(&format!("profile-{}", direction.word()), id.as_str())
        }
        Piece::Base => "base".into(),
        Piece::Workload(link) => name("pod", link.as_str()),
        Piece::Host(id) => name("host", id.as_str()),
        Piece::Tier(name, _) => name.clone(),
    }
}

/// The rules of a policy or profile in one direction.
pub(super) fn policy(piece: &Piece, policy: &Policy, style: Style<'_>, needs: &mut Needs<'_>) {
    let rules = match piece {
        Piece::Policy(_, Direction::In) | Piece::Profile(_, Direction::In) => &policy.ingress,
        _ => &policy.egress,
    };
    let mut all = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let parts = compile(rule, style, needs).into_iter();
        all.extend(parts.map(|part| Rule {
            origin: Some(number),
            ..part
        }));
    }
    needs.output.chains.push(Arc::new(Chain {
        name: chain_name(piece),
        hook: None,
        rules: all,
    }));
}

/// The chains of a pod's interface, and its places in the maps that lead to them.
pub(super) fn workload(
    link: &LinkName,
    workload: &Workload,
    host: &HostRules,
    known: Known<'_>,
) -> Output {
    let mut output = Output::default();
    for direction in [Direction::In, Direction::Out] {
        let (role, map, itself) = match direction {
            Direction::In => ("to", TO_POD, Field::InLink),
            Direction::Out => ("from", FROM_POD, Field::OutLink),
        };
        let chain = name(role, link.as_str());
        let mut rules = Vec::new();
        if workload.up {
            // A pod always reaches itself, by way of a service too.
            rules.push(Rule::new(
                vec![
                    Statement::is(itself, Value::Link(link.clone())),
                    Statement::Mark {
                        clear: 0,
                        set: ACCEPTED,
                    },
                    Statement::Verdict(Verdict::Return),
                ],
                "itself",
            ));
            let tiers = match direction {
                Direction::In => &workload.ingress,
                Direction::Out => &workload.egress,
            };
            decide(
                &mut output,
                &mut rules,
                tiers,
                &workload.profiles,
                direction,
                known,
            );
            rules.push(counted(deny(host.denied), "no profile allows it"));
        } else {
            rules.push(counted(Verdict::Drop, "the endpoint is down"));
        }
        output
            .elements
            .push((map.into(), Element::dispatch(link.as_str(), &chain)));
        output.chains.push(Arc::new(Chain {
            name: chain,
            hook: None,
            rules,
        }));
    }
    sources(&mut output, link, workload);
    output
}

/// What stands for a policy that is named and not there.
pub(super) fn missing() -> Policy {
    let deny = || vec![crate::state::Rule::new(Action::Deny)];
    Policy {
        ingress: deny(),
        egress: deny(),
    }
}

/// What stands for a piece that the kernel refused: everything that it would decide about is dropped. A pod's interface
/// has no place in the maps, which is as good.
pub(super) fn refused(piece: &Piece, state: &State) -> Option<Output> {
    let mut output = Output::default();
    let drop = || counted(Verdict::Drop, "refused by the kernel");
    let chain = |output: &mut Output, name: &Name, rules| {
        output.chains.push(Arc::new(Chain {
            name: name.clone(),
            hook: None,
            rules,
        }));
    };
    match piece {
        Piece::Base | Piece::Workload(_) => {}
        Piece::Host(id) => {
            let endpoint = state.hosts.get(id)?;
            for direction in [Direction::In, Direction::Out] {
                let safe = Rule::new(vec![Statement::jump(&failsafe(direction))], "");
                for (role, rules) in [("host", vec![safe, drop()]), ("forward", vec![drop()])] {
                    let map = format!("{role}-{}", direction.word());
                    let own = name(&map, id.as_str());
                    place(&mut output, &map, endpoint, &own);
                    chain(&mut output, &own, rules);
                }
            }
        }
        _ => chain(&mut output, &chain_name(piece), vec![drop()]),
    }
    Some(output)
}

/// What the pod may send from: its addresses in a set, further ranges in a chain.
fn sources(output: &mut Output, link: &LinkName, workload: &Workload) {
    for address in &workload.addresses {
        let set = if address.is_ipv4() {
            POD_ADDRESSES_4
        } else {
            POD_ADDRESSES_6
        };
        let element = Element::link_address(link.as_str(), *address);
        if address.is_ipv4() {
            output
                .elements
                .push((ARP_ADDRESSES.into(), element.clone()));
        }
        output.elements.push((set.into(), element));
    }
    targets(output, link, workload);
    if workload.allowed_sources.is_empty() {
        return;
    }
    let mut rules = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        for net in maximal(&workload.allowed_sources, version) {
            rules.push(Rule::new(
                vec![
                    Statement::version(version),
                    Statement::is(Field::Source(version), Value::Net(net)),
                    // Accept ends this hook only: all that it is for is the source.
                    Statement::Verdict(Verdict::Accept),
                ],
                "",
            ));
        }
    }
    rules.push(counted(Verdict::Drop, "the source is not the pod's"));
    further(output, link, POD_SOURCES, "sources", rules);
    let nets = maximal(&workload.allowed_sources, IpVersion::V4).into_iter();
    let arp = nets.map(|net| {
        let sender = Statement::is(Field::ArpSender, Value::Net(net));
        Rule::new(vec![sender, Statement::Verdict(Verdict::Accept)], "")
    });
    let mut arp: Vec<Rule> = arp.collect();
    arp.push(counted(Verdict::Drop, "the ARP sender is not the pod"));
    further(output, link, ARP_SOURCES, "arp-sources", arp);
}

/// What neighbour messages of the pod may be about: its IPv6 addresses and further ranges.
fn targets(output: &mut Output, link: &LinkName, workload: &Workload) {
    let own = workload.addresses.iter().copied().map(Prefix::host);
    let own: Vec<Prefix> = own.chain(workload.allowed_sources.clone()).collect();
    let own = maximal(&own, IpVersion::V6);
    if own.is_empty() {
        return;
    }
    let own = own.into_iter().map(|net| {
        let about = Statement::is(Field::NeighbourTarget, Value::Net(net));
        Rule::new(vec![about, Statement::Verdict(Verdict::Return)], "")
    });
    let mut rules: Vec<Rule> = own.collect();
    rules.push(counted(Verdict::Drop, FOREIGN_TARGET));
    further(output, link, ND_TARGETS, "nd", rules);
}

/// A chain of the pod's own, to which a map leads.
fn further(output: &mut Output, link: &LinkName, map: &str, role: &str, rules: Vec<Rule>) {
    let chain = name(role, link.as_str());
    let element = Element::dispatch(link.as_str(), &chain);
    output.elements.push((map.into(), element));
    output.chains.push(Arc::new(Chain {
        name: chain,
        hook: None,
        rules,
    }));
}

/// Whether there is a tier's chain already.
pub(super) type Known<'a> = &'a dyn Fn(&Name) -> bool;

/// Rules that leave the chain with [`ACCEPTED`] when tiers or profiles let the packet through.
pub(super) fn decide(
    output: &mut Output,
    rules: &mut Vec<Rule>,
    tiers: &[Tier],
    profiles: &[ProfileId],
    direction: Direction,
    known: Known<'_>,
) {
    let forget = |bits| Statement::Mark {
        clear: bits,
        set: 0,
    };
    rules.push(Rule::new(vec![forget(ACCEPTED | PASSED)], ""));
    for (at, tier) in tiers.iter().enumerate() {
        if at > 0 {
            rules.push(Rule::new(vec![forget(PASSED)], ""));
        }
        let chain = tier_name(tier, direction);
        if !known(&chain) {
            output.tiers.push((chain.clone(), tier.clone()));
        }
        output.jumps_to.push(Piece::Tier(chain.clone(), direction));
        rules.push(Rule::new(
            vec![Statement::jump(&chain)],
            &format!("tier {}", tier.name),
        ));
        rules.push(leave_if(ACCEPTED));
    }
    for profile in profiles {
        let piece = Piece::Profile(profile.clone(), direction);
        rules.push(Rule::new(vec![Statement::jump(&chain_name(&piece))], ""));
        rules.push(leave_if(ACCEPTED));
        output.jumps_to.push(piece);
    }
}

/// The name of the chain of a tier's policies, after its content.
fn tier_name(tier: &Tier, direction: Direction) -> Name {
    let end: &[u8] = match tier.end {
        EndTier::Deny => b"deny",
        EndTier::Pass => b"pass",
    };
    let mut content = vec![tier.name.as_bytes(), end];
    content.extend(
        tier.policies
            .iter()
            .map(|policy| policy.as_str().as_bytes()),
    );
    format!("tier-{}/{}", direction.word(), digest(&content)).into()
}

/// The chain of a tier's policies.
pub(super) fn tier(name: &Name, tier: &Tier, direction: Direction, host: &HostRules) -> Output {
    let mut output = Output::default();
    let mut rules = Vec::with_capacity(tier.policies.len() * 2 + 1);
    let leave = leave_if(ACCEPTED | PASSED);
    for policy in &tier.policies {
        let piece = Piece::Policy(policy.clone(), direction);
        rules.push(Rule::new(vec![Statement::jump(&chain_name(&piece))], ""));
        rules.push(leave.clone());
        output.jumps_to.push(piece);
    }
    if tier.end == EndTier::Deny {
        let remark = format!("end of tier {}", tier.name);
        rules.push(counted(deny(host.denied), &remark));
    }
    output.chains.push(Arc::new(Chain {
        name: name.clone(),
        hook: None,
        rules,
    }));
    output
}

fn leave_if(bits: u32) -> Rule {
    Rule::new(
        vec![Statement::Marked(bits), Statement::Verdict(Verdict::Return)],
        "",
    )
}

pub(super) fn counted(verdict: Verdict, remark: &str) -> Rule {
    Rule::new(
        vec![Statement::Counter, Statement::Verdict(verdict)],
        remark,
    )
}

/// The four chains of an interface of the node: to and from the host, forwarded in and out.
pub(super) fn host(
    id: &str,
    endpoint: &HostEndpoint,
    host: &HostRules,
    known: Known<'_>,
) -> Output {
    let mut output = Output::default();
    for direction in [Direction::In, Direction::Out] {
        let (tiers, forward) = match direction {
            Direction::In => (&endpoint.ingress, &endpoint.forward_ingress),
            Direction::Out => (&endpoint.egress, &endpoint.forward_egress),
        };
        let word = direction.word();
        let mut rules = vec![Rule::new(vec![Statement::jump(&failsafe(direction))], "")];
        decide(
            &mut output,
            &mut rules,
            tiers,
            &endpoint.profiles,
            direction,
            known,
        );
        rules.push(counted(deny(host.denied), "no profile allows it"));
        let chain = name(&format!("host-{word}"), id);
        place(&mut output, &format!("host-{word}"), endpoint, &chain);
        output.chains.push(Arc::new(Chain {
            name: chain,
            hook: None,
            rules,
        }));

        let mut rules = Vec::new();
        if !forward.is_empty() {
            decide(&mut output, &mut rules, forward, &[], direction, known);
        }
        let chain = name(&format!("forward-{word}"), id);
        place(&mut output, &format!("forward-{word}"), endpoint, &chain);
        output.chains.push(Arc::new(Chain {
            name: chain,
            hook: None,
            rules,
        }));
    }
    output
}

/// The chain that accepts what host endpoints' policy must not close.
pub(super) fn failsafe(direction: Direction) -> Name {
    format!("failsafe-{}", direction.word()).into()
}

fn place(output: &mut Output, map: &str, endpoint: &HostEndpoint, chain: &Name) {
    if let Some(link) = &endpoint.link {
        output
            .elements
            .push((map.into(), Element::dispatch(link.as_str(), chain)));
    }
}
