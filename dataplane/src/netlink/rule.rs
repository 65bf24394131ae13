use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::Prefix;
use crate::state::{IpVersion, LinkName, RoutingAction, RoutingRule};

/// Reads a rule with its protocol number; `None` for one that says more than a [`RoutingRule`] can.
pub(crate) fn parse(message: &RuleMessage) -> Option<(RoutingRule, u8)> {
    let header = &message.header;
    let version = match header.family {
        AddressFamily::Inet => IpVersion::V4,
        AddressFamily::Inet6 => IpVersion::V6,
        _ => return None,
    };
    let (mut table, mut protocol) = (u32::from(header.table), 0);
    let (mut value, mut mask) = (0, 0);
    let mut rule = RoutingRule::new(version, 0, RoutingAction::Blackhole);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Destination(address) => {
                rule.to = Prefix::containing(*address, header.dst_len).ok();
            }
            RuleAttribute::Source(address) => {
                rule.from = Prefix::containing(*address, header.src_len).ok();
            }
            RuleAttribute::Iifname(name) => rule.input = Some(LinkName::new(name.as_str()).ok()?),
            RuleAttribute::Oifname(name) => rule.output = Some(LinkName::new(name.as_str()).ok()?),
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::FwMark(mark) => value = *mark,
            RuleAttribute::FwMask(all) => mask = *all,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Protocol(number) => protocol = u8::from(*number),
            // What the kernel says when there is nothing to say.
            RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX)
            | RuleAttribute::L3MDev(false) => {}
            _ => return None,
        }
    }
    rule.mark = (mask != 0).then_some((value, mask));
    rule.invert = header.flags.contains(RuleFlags::Invert);
    rule.action = match header.action {
        RuleAction::ToTable => RoutingAction::Table(table),
        RuleAction::Blackhole => RoutingAction::Blackhole,
        RuleAction::Unreachable => RoutingAction::Unreachable,
        RuleAction::Prohibit => RoutingAction::Prohibit,
        _ => return None,
    };
    (header.tos == 0).then_some((rule, protocol))
}

/// The message that makes a rule.
pub(crate) fn new(rule: &RoutingRule, protocol: u8) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewRule(message(rule, protocol))
}

/// The message that removes a rule.
pub(crate) fn delete(rule: &RoutingRule, protocol: u8) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelRule(message(rule, protocol))
}

/// The request that lists the rules of a family.
pub(crate) fn list(version: IpVersion) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(version);
    RouteNetlinkMessage::GetRule(message)
}

fn message(rule: &RoutingRule, protocol: u8) -> RuleMessage {
    let (action, table) = match rule.action {
        RoutingAction::Table(table) => (RuleAction::ToTable, Some(table)),
        RoutingAction::Blackhole => (RuleAction::Blackhole, None),
        RoutingAction::Unreachable => (RuleAction::Unreachable, None),
        RoutingAction::Prohibit => (RuleAction::Prohibit, None),
    };
    let length = |prefix: Option<Prefix>| prefix.map_or(0, |prefix| prefix.length());
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: family(rule.version),
        dst_len: length(rule.to),
        src_len: length(rule.from),
        action,
        flags: if rule.invert {
            RuleFlags::Invert
        } else {
            RuleFlags::empty()
        },
        ..RuleHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(protocol)));
    attributes.extend(table.map(RuleAttribute::Table));
    attributes.extend(rule.to.map(|to| RuleAttribute::Destination(to.address())));
    attributes.extend(rule.from.map(|from| RuleAttribute::Source(from.address())));
    if let Some((value, mask)) = rule.mark {
        attributes.extend([RuleAttribute::FwMark(value), RuleAttribute::FwMask(mask)]);
    }
    let name = |link: &Option<LinkName>| link.as_ref().map(|link| link.as_str().to_owned());
    attributes.extend(name(&rule.input).map(RuleAttribute::Iifname));
    attributes.extend(name(&rule.output).map(RuleAttribute::Oifname));
    message
}

const fn family(version: IpVersion) -> AddressFamily {
    match version {
        IpVersion::V4 => AddressFamily::Inet,
        IpVersion::V6 => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        use RoutingAction::{Blackhole, Prohibit, Table, Unreachable};
        let prefix = |text: &str| text.parse().unwrap();
        let link = |text: &str| LinkName::new(text).unwrap();
        for rule in [
            RoutingRule::new(IpVersion::V4, 100, Table(254)),
            RoutingRule::new(IpVersion::V4, 0, Table(100_000)).from(prefix("10.0.0.0/8")),
            RoutingRule::new(IpVersion::V6, 7, Blackhole).to(prefix("fd00::/64")),
            RoutingRule::new(IpVersion::V4, 7, Prohibit)
                .mark(0x10, 0xf0)
                .inverted(),
            RoutingRule::new(IpVersion::V6, 7, Unreachable)
                .input(link("eth0"))
                .output(link("lo")),
        ] {
            assert_eq!(parse(&message(&rule, 80)), Some((rule, 80)));
        }
    }
}
