//! Sets of packets between two addresses: for each protocol, rectangles of source port and destination port, or of
//! ICMP type and code.

use std::collections::BTreeMap;
use std::fmt;

use ocicat_dataplane::state::{PortRange, Protocol};
use serde::{Serialize, Serializer};

/// A set of protocols, ports, and ICMP types and codes: what may pass between two parties.
///
/// `Display` lists it, `TCP 80,443; ICMP 8/0`, and so does its serialised form.
#[derive(Clone, Debug, Default)]
pub struct Reachable {
    /// By protocol; those that are not listed are like `rest`.
    listed: BTreeMap<Protocol, Vec<Rectangle>>,
    rest: bool,
}

/// Inclusive ranges of source port and destination port, or of type and code. Protocols without either have the full
/// rectangle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rectangle {
    from: (u16, u16),
    to: (u16, u16),
}

const ALL: (u16, u16) = (0, u16::MAX);

impl Rectangle {
    const FULL: Self = Self { from: ALL, to: ALL };

    fn and(&self, other: &Self) -> Option<Self> {
        Some(Self {
            from: overlap(self.from, other.from)?,
            to: overlap(self.to, other.to)?,
        })
    }

    /// What is left of it without the other.
    fn without(&self, other: &Self) -> Vec<Self> {
        let Some(inner) = self.and(other) else {
            return vec![*self];
        };
        let mut out = Vec::new();
        if self.from.0 < inner.from.0 {
            let from = (self.from.0, inner.from.0 - 1);
            out.push(Self { from, ..*self });
        }
        if inner.from.1 < self.from.1 {
            let from = (inner.from.1 + 1, self.from.1);
            out.push(Self { from, ..*self });
        }
        let from = inner.from;
        if self.to.0 < inner.to.0 {
            let to = (self.to.0, inner.to.0 - 1);
            out.push(Self { from, to });
        }
        if inner.to.1 < self.to.1 {
            let to = (inner.to.1 + 1, self.to.1);
            out.push(Self { from, to });
        }
        out
    }
}

fn overlap(a: (u16, u16), b: (u16, u16)) -> Option<(u16, u16)> {
    let (first, last) = (a.0.max(b.0), a.1.min(b.1));
    (first <= last).then_some((first, last))
}

/// Which end of a packet a port is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Source,
    Destination,
}

impl Reachable {
    pub(super) fn everything() -> Self {
        Self {
            listed: BTreeMap::new(),
            rest: true,
        }
    }

    pub(super) fn nothing() -> Self {
        Self::default()
    }

    pub(super) fn protocol(protocol: Protocol) -> Self {
        Self {
            listed: [(protocol, vec![Rectangle::FULL])].into(),
            rest: false,
        }
    }

    /// Ports of every protocol that has ports.
    pub(super) fn ports(at: Port, ranges: &[PortRange]) -> Self {
        let rectangle = |range: &PortRange| rectangle(at, (range.first, range.last));
        let rectangles: Vec<Rectangle> = ranges.iter().map(rectangle).collect();
        let ported = (0..=u8::MAX).map(Protocol).filter(|p| p.has_ports());
        let mut out = Self::nothing();
        for protocol in ported {
            for rectangle in &rectangles {
                out.add(protocol, *rectangle);
            }
        }
        out
    }

    pub(super) fn port(at: Port, protocol: Protocol, number: u16) -> Self {
        let mut out = Self::nothing();
        if protocol.has_ports() {
            out.add(protocol, rectangle(at, (number, number)));
        }
        out
    }

    /// A type, or one code of it, of both kinds of ICMP.
    pub(super) fn icmp(kind: u8, code: Option<u8>) -> Self {
        let to = code.map_or(ALL, |code| (code.into(), code.into()));
        let from = (kind.into(), kind.into());
        let mut out = Self::nothing();
        for protocol in [Protocol::ICMP, Protocol::ICMPV6] {
            out.add(protocol, Rectangle { from, to });
        }
        out
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        self.combine(other, |mine, others| {
            let pairs = mine.iter().flat_map(|a| others.iter().map(move |b| (a, b)));
            pairs.filter_map(|(a, b)| a.and(b)).collect()
        })
    }

    pub(super) fn or(&self, other: &Self) -> Self {
        self.combine(other, |mine, others| {
            let mut out = others.to_vec();
            out.extend(subtract(mine, others));
            out
        })
    }

    /// What is here and not there.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.combine(other, subtract)
    }

    /// Whether nothing passes.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.rest && self.listed.values().all(Vec::is_empty)
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        Self::everything().without(self).is_nothing()
    }

    /// Whether a packet passes: of a protocol with ports from one to the other, of ICMP with this type and code. For
    /// other protocols the numbers mean nothing.
    #[must_use]
    pub fn contains(
        &self,
        protocol: Protocol,
        source_or_type: u16,
        destination_or_code: u16,
    ) -> bool {
        let point = Rectangle {
            from: (source_or_type, source_or_type),
            to: (destination_or_code, destination_or_code),
        };
        match self.listed.get(&protocol) {
            Some(rectangles) => rectangles.iter().any(|r| r.and(&point).is_some()),
            None => self.rest,
        }
    }

    fn add(&mut self, protocol: Protocol, rectangle: Rectangle) {
        let rectangles = self.listed.entry(protocol).or_default();
        let new = subtract(&[rectangle], rectangles);
        rectangles.extend(new);
    }

    fn of(&self, protocol: Protocol) -> &[Rectangle] {
        match self.listed.get(&protocol) {
            Some(rectangles) => rectangles,
            None => Self::unlisted(self.rest),
        }
    }

    const fn unlisted(rest: bool) -> &'static [Rectangle] {
        if rest { &[Rectangle::FULL] } else { &[] }
    }

    fn combine(
        &self,
        other: &Self,
        by: impl Fn(&[Rectangle], &[Rectangle]) -> Vec<Rectangle>,
    ) -> Self {
        let rest = by(Self::unlisted(self.rest), Self::unlisted(other.rest));
        let mut out = Self {
            listed: BTreeMap::new(),
            rest: !rest.is_empty(),
        };
        for protocol in self.listed.keys().chain(other.listed.keys()) {
            if !out.listed.contains_key(protocol) {
                let both = by(self.of(*protocol), other.of(*protocol));
                out.listed.insert(*protocol, both);
            }
        }
        let plain = Self::unlisted(out.rest);
        out.listed.retain(|_, rectangles| rectangles != plain);
        out
    }
}

fn rectangle(at: Port, range: (u16, u16)) -> Rectangle {
    match at {
        Port::Source => Rectangle {
            from: range,
            to: ALL,
        },
        Port::Destination => Rectangle {
            from: ALL,
            to: range,
        },
    }
}

/// Rectangles that cover the first and not the second; they do not overlap if the first ones do not.
fn subtract(from: &[Rectangle], other: &[Rectangle]) -> Vec<Rectangle> {
    let mut left = from.to_vec();
    for gone in other {
        left = left.iter().flat_map(|r| r.without(gone)).collect();
    }
    left
}

/// The same packets, whatever rectangles they are cut into.
impl PartialEq for Reachable {
    fn eq(&self, other: &Self) -> bool {
        self.without(other).is_nothing() && other.without(self).is_nothing()
    }
}

impl Eq for Reachable {}

impl Serialize for Reachable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Reachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everything() {
            return f.write_str("everything");
        }
        if self.is_nothing() {
            return f.write_str("nothing");
        }
        let mut between = "";
        for (protocol, rectangles) in &self.listed {
            if rectangles.is_empty() && !self.rest {
                continue;
            }
            let text = listing(*protocol, rectangles);
            write!(f, "{between}{protocol}{text}")?;
            between = "; ";
        }
        if self.rest {
            write!(f, "{between}all other protocols")?;
        }
        Ok(())
    }
}

/// The ports or types of a protocol, with a blank before them; nothing when it is all of them.
fn listing(protocol: Protocol, rectangles: &[Rectangle]) -> String {
    // By what the packet comes from, the ranges that it may go to.
    let mut by_from: BTreeMap<(u16, u16), Vec<(u16, u16)>> = BTreeMap::new();
    for rectangle in rectangles {
        by_from
            .entry(rectangle.from)
            .or_default()
            .push(rectangle.to);
    }
    if rectangles.is_empty() {
        return " nothing".into();
    }
    let icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
    let mut parts = Vec::new();
    for (from, mut ranges) in by_from {
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(open) if u32::from(first) <= u32::from(open.1) + 1 => {
                    open.1 = open.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        let to = if joined == [ALL] {
            String::new()
        } else {
            joined.into_iter().map(range).collect::<Vec<_>>().join(",")
        };
        parts.push(match (from == ALL, icmp, to.is_empty()) {
            (true, _, true) => String::new(),
            (true, false, false) => to,
            (true, true, false) => format!("any/{to}"),
            (false, true, true) => range(from),
            (false, true, false) => format!("{}/{to}", range(from)),
            (false, false, true) => format!("from {}", range(from)),
            (false, false, false) => format!("{to} from {}", range(from)),
        });
    }
    let separator = if icmp { "," } else { " or " };
    match parts.join(separator) {
        text if text.is_empty() => text,
        text => format!(" {text}"),
    }
}

fn range((first, last): (u16, u16)) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(ranges: &[(u16, u16)]) -> Reachable {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|(first, last)| PortRange {
                first: *first,
                last: *last,
            })
            .collect();
        Reachable::ports(Port::Destination, &ranges)
    }

    #[test]
    fn sets_of_packets() {
        let tcp = Reachable::protocol(Protocol::TCP);
        let web = tcp.and(&to(&[(80, 80), (443, 443)]));
        assert_eq!(web.to_string(), "TCP 80,443");
        let not_web = tcp.without(&web);
        assert_eq!(not_web.to_string(), "TCP 0-79,81-442,444-65535");
        assert_eq!(web.or(&not_web).to_string(), "TCP");
        assert_eq!(web.or(&not_web), tcp);
        assert_ne!(web, tcp);
        let all = Reachable::everything();
        assert_eq!(all.to_string(), "everything");
        assert_eq!(
            all.without(&tcp).to_string(),
            "TCP nothing; all other protocols"
        );
        assert!(all.without(&tcp).or(&tcp).is_everything());
        assert_eq!(all.without(&all).to_string(), "nothing");
        let ping = Reachable::protocol(Protocol::ICMP).and(&Reachable::icmp(8, Some(0)));
        assert_eq!(ping.to_string(), "ICMP 8/0");
        assert_eq!(web.or(&ping).to_string(), "ICMP 8/0; TCP 80,443");
        let ranges = [PortRange {
            first: 1,
            last: 1023,
        }];
        let low = web.and(&Reachable::ports(Port::Source, &ranges));
        assert_eq!(low.to_string(), "TCP 80,443 from 1-1023");
        assert!(low.contains(Protocol::TCP, 7, 443) && !low.contains(Protocol::TCP, 1024, 443));
        assert!(!low.contains(Protocol::UDP, 7, 443));
        assert!(all.without(&web).contains(Protocol(47), 0, 0));
    }
}
