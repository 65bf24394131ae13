use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::Prefix;

/// The name of a network interface: 1..=15 bytes, no slash, no white space, not `.` or `..` (Linux's `dev_valid_name`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(Box<str>);

/// A text that no network interface can have as its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a network interface: 1 to 15 bytes, no slash, colon or white space")]
pub struct LinkNameError(pub String);

impl LinkName {
    /// Checks that `name` can name an interface.
    ///
    /// # Errors
    /// [`LinkNameError`] when Linux would refuse the name.
    pub fn new(name: impl Into<String>) -> Result<Self, LinkNameError> {
        let name = name.into();
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
            return Err(LinkNameError(name));
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that was made by a rule that gives good names only.
    pub(crate) fn known(name: String) -> Self {
        Self(name.into_boxed_str())
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        Self::new(text)
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A 48-bit hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, MacAddrError> {
        let bad = || MacAddrError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Self(bytes))
        }
    }
}

/// A text that is no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address such as ee:ee:ee:ee:ee:ee")]
pub struct MacAddrError(pub String);

/// An address with its prefix length, as on an interface: host bits are kept.
pub type Address = IpNetwork;

/// What identifies a route in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The destinations.
    pub prefix: Prefix,
    /// The routing table; 254 is `main`.
    pub table: u32,
    /// The metric; lower wins. IPv6's 0 is read back from the kernel as 1024.
    pub metric: u32,
}

impl RouteKey {
    /// A route of the main table with the kernel's default metric.
    #[must_use]
    pub const fn main(prefix: Prefix) -> Self {
        Self {
            prefix,
            table: 254,
            metric: 0,
        }
    }
}

/// Where packets of a route go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The next hops: one, or several that share the load.
    pub hops: Vec<Hop>,
    /// The source address that the host itself uses for these destinations.
    pub source: Option<IpAddr>,
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hop {
    /// Straight out of a link: the destination is a neighbour (`scope link`), as for a local pod.
    Link(LinkName),
    /// By way of a gateway, found by the kernel's own routes or, with `link`, on that link.
    Via {
        /// The gateway. That of an IPv4 route may be an IPv6 address, link-local ones included (RFC 8950, `RTA_VIA`: Linux
        /// 5.2); that of an IPv6 route may not be an IPv4 address, which is refused by name.
        gateway: IpAddr,
        /// The link it is reached by; `None` leaves it to the kernel, which needs a route to the gateway. A link-local
        /// gateway needs its link.
        link: Option<LinkName>,
        /// Take the gateway for a neighbour on `link` even if no route says so (`onlink`).
        onlink: bool,
    },
    /// Packets are dropped silently: a local block's free addresses, so that traffic to them does not loop.
    Blackhole,
}

/// A permanent neighbour entry: who has this address on this link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The link.
    pub link: LinkName,
    /// The neighbour's address on it.
    pub address: IpAddr,
}

/// A permanent forwarding entry of a VXLAN link: which remote node frames for this MAC address are sent to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fdb {
    /// The VXLAN link.
    pub link: LinkName,
    /// The remote VTEP's hardware address.
    pub mac: MacAddr,
}
