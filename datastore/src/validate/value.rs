//! Values that occur in many places.

use std::fmt;
use std::net::IpAddr;

use ocicat_selectors::{Expr, Selector};

use super::Problems;
use crate::model::Kind;
use crate::object::Object;

/// A range of addresses; the host bits may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// An address as a number of 128 bits, the highest first.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl Cidr {
    /// Reads `10.0.0.0/8`, or one address.
    pub(super) fn parse_or_address(text: &str) -> Result<Self, String> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self {
                address,
                length: if address.is_ipv4() { 32 } else { 128 },
            }),
            Err(_) => Self::parse(text),
        }
    }

    /// Reads `10.0.0.0/8`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no range of addresses such as 10.0.0.0/8 or fd00::/8");
        let (address, length) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if length > longest {
            return Err(format!("{text}: the prefix is at most {longest} bits long"));
        }
        Ok(Self { address, length })
    }

    pub(super) fn is_v4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The range with its host bits cleared.
    pub(super) fn canonical(&self) -> Self {
        let masked = bits(self.address) & mask(self.length);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(masked >> 96).unwrap_or_default().into()),
            IpAddr::V6(_) => IpAddr::V6(masked.into()),
        };
        Self {
            address,
            length: self.length,
        }
    }

    /// Whether they have an address in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let shorter = mask(self.length.min(other.length));
        self.is_v4() == other.is_v4()
            && bits(self.address) & shorter == bits(other.address) & shorter
    }

    /// Whether every address of the other is in this one.
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.length <= other.length && self.overlaps(other)
    }
}

/// A range or address, whose host bits may be set.
pub(super) fn net(problems: &mut Problems, field: &str, text: &str) -> Option<Cidr> {
    match Cidr::parse_or_address(text) {
        Ok(cidr) => Some(cidr),
        Err(reason) => {
            problems.add(field, reason);
            None
        }
    }
}

/// A range whose host bits must be zero.
pub(super) fn cidr(problems: &mut Problems, field: &str, text: &str) -> Option<Cidr> {
    match Cidr::parse(text) {
        Ok(cidr) => {
            let canonical = cidr.canonical();
            let reason = format!("{cidr} has host bits set: {canonical} is meant");
            problems.check(cidr == canonical, field, reason);
            Some(canonical)
        }
        Err(reason) => {
            problems.add(field, reason);
            None
        }
    }
}

pub(super) fn address(problems: &mut Problems, field: &str, text: &str) -> Option<IpAddr> {
    let parsed = text.parse().ok();
    problems.check(
        parsed.is_some(),
        field,
        format!("{text:?} is no IP address"),
    );
    parsed
}

pub(super) fn one_of(problems: &mut Problems, field: &str, text: &str, words: &[&str]) {
    let reason = format!("{text:?} is none of {}", words.join(", "));
    problems.check(words.contains(&text), field, reason);
}

pub(super) fn optional(problems: &mut Problems, field: &str, text: Option<&str>, words: &[&str]) {
    if let Some(text) = text {
        one_of(problems, field, text, words);
    }
}

/// A selector; `global()` is for the namespace selector of one side of a rule, alone.
pub(super) fn selector(problems: &mut Problems, field: &str, text: Option<&str>, global: bool) {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return;
    };
    match text.parse::<Selector>() {
        Err(error) => problems.add(field, error),
        Ok(selector) => {
            let alone = global && *selector.expr() == Expr::Global;
            if !alone && has_global(selector.expr()) {
                problems.add(
                    field,
                    if global {
                        "global() has a meaning only where it stands alone"
                    } else {
                        "global() is only for the namespaceSelector of one side of a rule"
                    },
                );
            }
        }
    }
}

fn has_global(expr: &Expr) -> bool {
    match expr {
        Expr::Global => true,
        Expr::Not { operand, .. } => has_global(operand),
        Expr::And { operands, .. } | Expr::Or { operands, .. } => operands.iter().any(has_global),
        _ => false,
    }
}

/// A duration as Go writes it: `1s`, `1m30s`, `100ms`.
pub(super) fn duration(problems: &mut Problems, field: &str, text: Option<&str>) {
    let Some(text) = text else { return };
    let reason = format!("{text:?} is no duration such as 1s, 1m30s or 100ms");
    problems.check(is_duration(text), field, reason);
}

fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (digits, tail) = rest.split_at(number);
        if digits.parse::<f64>().is_err() {
            return false;
        }
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let unit = units
            .iter()
            .find(|unit| tail.starts_with(**unit) && !(**unit == "m" && tail.starts_with("ms")));
        let Some(tail) = unit.and_then(|unit| tail.strip_prefix(unit)) else {
            return false;
        };
        rest = tail;
    }
    true
}

/// `aa:nn`, or `aa:nn:mm` for a large one.
pub(super) fn is_community(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [high, low] => high.parse::<u16>().is_ok() && low.parse::<u16>().is_ok(),
        [a, b, c] => [a, b, c].iter().all(|part| part.parse::<u32>().is_ok()),
        _ => false,
    }
}

pub(super) fn communities(problems: &mut Problems, field: &str, values: &[String]) {
    for (index, value) in values.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let reason = format!("{value:?} is no community such as 65000:1 or 65000:1:2");
        problems.check(is_community(value), &field, reason);
    }
}

/// Name and labels of any object.
pub(super) fn metadata(problems: &mut Problems, object: &Object) {
    let records = [Kind::IpamBlock, Kind::BlockAffinity, Kind::IpamHandle];
    if !records.contains(&object.kind) && !object.name.is_empty() {
        let reason = format!(
            "{:?} is no name: small letters, digits, '-' and '.', at most 253, a letter or digit at both ends",
            object.name
        );
        problems.check(is_name(&object.name, 253, true), "metadata.name", reason);
    }
    if let Some(namespace) = &object.namespace {
        let reason = format!("{namespace:?} is no name of a namespace: small letters, digits, '-'");
        problems.check(is_name(namespace, 63, false), "metadata.namespace", reason);
    }
    let labels = object
        .value
        .pointer("/metadata/labels")
        .and_then(|labels| labels.as_object());
    for (key, value) in labels.into_iter().flatten() {
        let Some(value) = value.as_str() else {
            problems.add(format!("metadata.labels.{key}"), "is no text");
            continue;
        };
        label(problems, "metadata.labels", key, value);
    }
}

pub(super) fn label(problems: &mut Problems, field: &str, key: &str, value: &str) {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
    let word = |text: &str| {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let edge = |c: char| c.is_ascii_alphanumeric();
        text.len() <= 63
            && text.chars().all(inside)
            && (text.is_empty() || text.starts_with(edge) && text.ends_with(edge))
    };
    let known = word(name) && !name.is_empty() && (prefix.is_empty() || is_name(prefix, 253, true));
    problems.check(known, field, format!("{key:?} is no name of a label"));
    let reason =
        format!("{value:?} is no value of a label: at most 63 letters, digits, '-', '_', '.'");
    problems.check(word(value), &format!("{field}.{key}"), reason);
}

/// Small letters, digits and dashes, with dots between parts where these are allowed.
pub(super) fn is_name(text: &str, longest: usize, dots: bool) -> bool {
    let part = |part: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.chars().all(inside)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= longest
        && if dots {
            text.split('.').all(part)
        } else {
            part(text)
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for good in ["0", "1s", "1m30s", "100ms", "1.5h", "-2s", "3µs"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "1", "s", "1x", "1s ", "1m30", "."] {
            assert!(!is_duration(bad), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let cidr = |text: &str| Cidr::parse(text).expect("a range");
        assert!(cidr("10.0.0.0/8").contains(&cidr("10.1.0.0/16")));
        assert!(!cidr("10.1.0.0/16").contains(&cidr("10.0.0.0/8")));
        assert!(cidr("0.0.0.0/0").overlaps(&cidr("1.2.3.4/32")));
        assert!(!cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
        assert_eq!(cidr("10.1.2.3/8").canonical(), cidr("10.0.0.0/8"));
        assert_eq!(cidr("fd00::1/64").canonical(), cidr("fd00::/64"));
        assert!(Cidr::parse("10.0.0.0/33").is_err());
    }
}
