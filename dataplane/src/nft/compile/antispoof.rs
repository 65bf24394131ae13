//! What pods may say of themselves: the sources of their packets, of their ARP, and what their neighbour messages claim.

use super::base::{Base, jump, pods};
use super::endpoint::counted;
use crate::nft::statement::{Field, Rule, Statement, Value, Verdict};
use crate::state::{IpVersion, Protocol};

/// Which links may send from which addresses.
pub(super) const POD_ADDRESSES_4: &str = "pod-addresses4";
/// The same for IPv6.
pub(super) const POD_ADDRESSES_6: &str = "pod-addresses6";
/// From links to chains with the further ranges that they may send from.
pub(super) const POD_SOURCES: &str = "pod-sources";
/// Which links may say in ARP that they have which addresses.
pub(super) const ARP_ADDRESSES: &str = "arp-addresses";
/// From links to chains with the further ranges that they may say so of.
pub(super) const ARP_SOURCES: &str = "arp-sources";
/// From links to chains with the IPv6 addresses that neighbour messages of theirs may be about.
pub(super) const ND_TARGETS: &str = "nd-targets";
pub(super) const ND_TARGET: &str = "nd-target";
/// Why a neighbour message is dropped.
pub(super) const FOREIGN_TARGET: &str = "the neighbour message is about an address of another";
pub(super) const ANTISPOOF: &str = "antispoof";

/// Drops ARP of pods that name a sender's address which is not theirs; a probe (RFC 5227) names none.
pub(super) fn arp(base: &Base<'_>) -> Vec<Rule> {
    let accept = || Statement::Verdict(Verdict::Accept);
    let mut rules = vec![Rule::new(
        vec![pods(base, Field::InLink, true), accept()],
        "",
    )];
    let fields = vec![Field::InLink, Field::ArpSender];
    let own = Statement::lookup(fields, &ARP_ADDRESSES.into());
    rules.push(Rule::new(vec![own, accept()], ""));
    if let Ok(nobody) = "0.0.0.0/32".parse() {
        let probe = Statement::is(Field::ArpSender, Value::Net(nobody));
        rules.push(Rule::new(vec![probe, accept()], ""));
    }
    let further = Statement::Map {
        field: Field::InLink,
        map: ARP_SOURCES.into(),
    };
    rules.push(Rule::new(vec![further], ""));
    rules.push(counted(Verdict::Drop, "the ARP sender is not the pod"));
    rules
}

/// A rule about ICMPv6 messages.
fn icmpv6(then: impl IntoIterator<Item = Statement>, remark: &str) -> Rule {
    let mut all = vec![
        Statement::version(IpVersion::V6),
        Statement::protocol(Protocol::ICMPV6),
    ];
    all.extend(then);
    Rule::new(all, remark)
}

fn icmp_type(kind: u8) -> Statement {
    Statement::is(Field::IcmpType, Value::IcmpType(kind))
}

/// Addresses that every link has, or has before it has any.
fn from_local(net: &str) -> Option<Statement> {
    let net = net.parse().ok()?;
    Some(Statement::is(Field::Source(IpVersion::V6), Value::Net(net)))
}

/// Lets packets through whose source belongs to the pod.
pub(super) fn antispoof() -> Vec<Rule> {
    let known = |version, set: &str| {
        let fields = vec![Field::InLink, Field::Source(version)];
        let lookup = Statement::lookup(fields, &set.into());
        let leave = Statement::Verdict(Verdict::Accept);
        Rule::new(vec![Statement::version(version), lookup, leave], "")
    };
    let drop = [Statement::Counter, Statement::Verdict(Verdict::Drop)];
    // A redirect of IPv4 is about a connection, and would go wherever an open one may. One comparison for every other
    // packet; the protocol of IPv4's messages is no other's.
    let mut redirect = vec![Statement::protocol(Protocol::ICMP), icmp_type(5)];
    redirect.extend(drop.clone());
    let mut rules = vec![
        Rule::new(redirect, "redirect of a pod"),
        known(IpVersion::V4, POD_ADDRESSES_4),
    ];
    for (number, remark) in [
        (134, "router advertisement of a pod"),
        (137, "redirect of a pod"),
    ] {
        let all = [icmp_type(number)].into_iter().chain(drop.clone());
        rules.push(icmpv6(all, remark));
    }
    // An advertisement claims its target, and so does a solicitation that has no source: who asks whether it may have
    // the address (RFC 4862, section 5.4). Others ask for whom they like.
    let claims = [icmp_type(136), jump(ND_TARGET)];
    rules.push(icmpv6(claims, ""));
    let nobody = from_local("::/128").into_iter();
    let probes = nobody.chain([icmp_type(135), jump(ND_TARGET)]);
    rules.push(icmpv6(probes, ""));
    rules.push(known(IpVersion::V6, POD_ADDRESSES_6));
    // Neighbour discovery and group membership have link-local sources, or none yet.
    for from in ["fe80::/10", "::/128"].into_iter().filter_map(from_local) {
        rules.push(icmpv6([from, Statement::Verdict(Verdict::Accept)], ""));
    }
    let further = Statement::Map {
        field: Field::InLink,
        map: POD_SOURCES.into(),
    };
    rules.push(Rule::new(vec![further], ""));
    for version in [IpVersion::V4, IpVersion::V6] {
        let mut all = vec![Statement::version(version)];
        all.extend(drop.clone());
        rules.push(Rule::new(all, "the source is not the pod's"));
    }
    rules
}

/// Returns when a neighbour message is about an address of the pod, or a link-local one.
pub(super) fn nd_target() -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Ok(local) = "fe80::/10".parse() {
        let local = Statement::is(Field::NeighbourTarget, Value::Net(local));
        rules.push(Rule::new(
            vec![local, Statement::Verdict(Verdict::Return)],
            "",
        ));
    }
    let own = Statement::Map {
        field: Field::InLink,
        map: ND_TARGETS.into(),
    };
    rules.push(Rule::new(vec![own], ""));
    rules.push(counted(Verdict::Drop, FOREIGN_TARGET));
    rules
}
