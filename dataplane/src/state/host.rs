//! What the node's kernel should do with packets beside routes: rules that choose tables, and settings.

use std::fmt;
use std::str::FromStr;

use super::{IpVersion, LinkName};
use crate::Prefix;

/// A rule that chooses the routing table (`ip rule`). The kernel asks rules in the order of their priority.
///
/// It is ours by its protocol number, as routes are; the kernel knows it by all that it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct RoutingRule {
    /// The address family.
    pub version: IpVersion,
    /// When it is asked: lower first. The kernel's own are 0 (`local`), 32766 (`main`) and 32767 (`default`).
    pub priority: u32,
    /// Only packets from these addresses.
    pub from: Option<Prefix>,
    /// Only packets to these addresses.
    pub to: Option<Prefix>,
    /// Only packets whose mark is this value where the mask has ones.
    pub mark: Option<(u32, u32)>,
    /// Only packets that came in by this link.
    pub input: Option<LinkName>,
    /// Only packets of sockets that are bound to this link.
    pub output: Option<LinkName>,
    /// Whether it is for those packets that do *not* fit all of the above.
    pub invert: bool,
    /// What becomes of them.
    pub action: RoutingAction,
}

/// What becomes of the packets of a [`RoutingRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RoutingAction {
    /// They are looked up in a routing table; when it has no route for them, the next rule is asked.
    Table(u32),
    /// They are dropped silently.
    Blackhole,
    /// The sender is told that there is no route.
    Unreachable,
    /// The sender is told that it is forbidden.
    Prohibit,
}

impl RoutingRule {
    /// A rule for all packets of a family.
    #[must_use]
    pub const fn new(version: IpVersion, priority: u32, action: RoutingAction) -> Self {
        Self {
            version,
            priority,
            from: None,
            to: None,
            mark: None,
            input: None,
            output: None,
            invert: false,
            action,
        }
    }

    /// Only packets from these addresses.
    #[must_use]
    pub const fn from(mut self, from: Prefix) -> Self {
        self.from = Some(from);
        self
    }

    /// Only packets to these addresses.
    #[must_use]
    pub const fn to(mut self, to: Prefix) -> Self {
        self.to = Some(to);
        self
    }

    /// Only packets whose mark is `value` where `mask` has ones.
    #[must_use]
    pub const fn mark(mut self, value: u32, mask: u32) -> Self {
        self.mark = Some((value, mask));
        self
    }

    /// Only packets that came in by this link.
    #[must_use]
    pub fn input(mut self, link: LinkName) -> Self {
        self.input = Some(link);
        self
    }

    /// Only packets of sockets that are bound to this link.
    #[must_use]
    pub fn output(mut self, link: LinkName) -> Self {
        self.output = Some(link);
        self
    }

    /// For the packets that do not fit.
    #[must_use]
    pub const fn inverted(mut self) -> Self {
        self.invert = true;
        self
    }
}

impl fmt::Display for RoutingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        if self.invert {
            f.write_str(" not")?;
        }
        match self.from {
            Some(from) => write!(f, " from {from}")?,
            None => f.write_str(" from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some((value, mask)) = self.mark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        if let Some(link) = &self.input {
            write!(f, " iif {link}")?;
        }
        if let Some(link) = &self.output {
            write!(f, " oif {link}")?;
        }
        match self.action {
            RoutingAction::Table(table) => write!(f, " lookup {table}"),
            RoutingAction::Blackhole => f.write_str(" blackhole"),
            RoutingAction::Unreachable => f.write_str(" unreachable"),
            RoutingAction::Prohibit => f.write_str(" prohibit"),
        }
    }
}

/// The name of a setting of the network namespace, as below `/proc/sys/net`: `ipv4/conf/eth0/rp_filter`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting(Box<str>);

/// A text that names no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no setting of a network: a path below /proc/sys/net with slashes, such as ipv4/conf/eth0/rp_filter"
)]
pub struct SettingError(pub String);

impl Setting {
    /// Checks that `name` is a path below `/proc/sys/net`: at least two parts, none of them empty, `.` or `..`.
    ///
    /// # Errors
    /// [`SettingError`] when it is not.
    pub fn new(name: impl Into<String>) -> Result<Self, SettingError> {
        let name = name.into();
        let good = |part: &str| {
            !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control())
        };
        if name.contains('/') && name.split('/').all(good) {
            Ok(Self(name.into_boxed_str()))
        } else {
            Err(SettingError(name))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The link that the setting is of, where it is of one: `eth0` of `ipv4/conf/eth0/rp_filter`.
    #[must_use]
    pub fn link(&self) -> Option<LinkName> {
        let mut parts = self.0.split('/');
        let per_link = matches!(parts.next(), Some("ipv4" | "ipv6"))
            && matches!(parts.next(), Some("conf" | "neigh"));
        parts
            .next()
            .filter(|name| per_link && !matches!(*name, "all" | "default"))
            .and_then(|name| LinkName::new(name).ok())
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        Self::new(text)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stay_below_their_folder() {
        for (name, link) in [
            ("ipv4/conf/eth0/rp_filter", Some("eth0")),
            ("ipv4/conf/vxlan.calico/rp_filter", Some("vxlan.calico")),
            ("ipv6/neigh/eth0/proxy_delay", Some("eth0")),
            ("ipv4/conf/all/rp_filter", None),
            ("ipv4/ip_forward", None),
            ("netfilter/nf_conntrack_max", None),
        ] {
            let setting = Setting::new(name).unwrap();
            assert_eq!(
                setting.link().as_ref().map(LinkName::as_str),
                link,
                "{name}"
            );
        }
        for bad in [
            "",
            "ipv4",
            "/ipv4/ip_forward",
            "ipv4/../../kernel/x",
            "a//b",
            "a/b/",
        ] {
            assert!(Setting::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_read_as_ip_rule_shows_them() {
        let rule = RoutingRule::new(IpVersion::V4, 99, RoutingAction::Table(7))
            .from("10.0.0.0/8".parse().unwrap())
            .mark(1, 0xff)
            .inverted();
        assert_eq!(
            rule.to_string(),
            "99: not from 10.0.0.0/8 fwmark 0x1/0xff lookup 7"
        );
    }
}
