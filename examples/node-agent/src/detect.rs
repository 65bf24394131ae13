//! Which of a host's addresses is the node's: the one that other nodes reach it by.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use ocicat_dataplane::interfaces::Interface;

/// How the address is found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// The first interface that is up and no container's, bridge's or tunnel's.
    FirstFound,
    /// The address that the kernel would send from, to reach this one.
    CanReach(IpAddr),
    /// Interfaces whose name one of these regular expressions matches as a whole.
    Interface(Vec<String>),
    /// Any but interfaces whose name one of these regular expressions matches as a whole.
    SkipInterface(Vec<String>),
    /// An address inside one of these ranges.
    Cidr(Vec<IpNetwork>),
    /// Exactly this address; without a prefix length whatever length it has.
    Fixed(IpNetwork),
    /// The addresses that Kubernetes knows the node by (`InternalIP`), which are asked for and then are
    /// [`Known`](Self::Known).
    KubernetesInternalIp,
    /// One of these addresses.
    Known(Vec<IpAddr>),
}

/// Why a method cannot be used, or found nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DetectError {
    /// The text names no method.
    #[error(
        "address-detection {0:?}: expected first-found, kubernetes-internal-ip, can-reach=ADDRESS, interface=REGEX,..., skip-interface=REGEX,..., cidr=RANGE,... or an address with its prefix length"
    )]
    Method(String),
    /// No interface fits.
    #[error("no address of this host fits {method:?}; seen: {seen}")]
    None {
        /// The method that was used.
        method: Method,
        /// The addresses that there are.
        seen: String,
    },
}

impl Method {
    /// Reads a method as Calico writes it.
    ///
    /// # Errors
    /// [`DetectError::Method`] for anything else.
    pub fn parse(text: &str) -> Result<Self, DetectError> {
        let bad = || DetectError::Method(text.to_owned());
        let list = |names: &str| -> Result<Vec<String>, DetectError> {
            let names = names.split(',').map(|name| name.trim().to_owned());
            let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
            let good = |name: &String| whole(name).is_some();
            if names.is_empty() || !names.iter().all(good) {
                return Err(bad());
            }
            Ok(names)
        };
        match text.split_once('=') {
            None if text == "first-found" || text == "autodetect" || text.is_empty() => {
                Ok(Self::FirstFound)
            }
            None if text == "kubernetes-internal-ip" => Ok(Self::KubernetesInternalIp),
            None => text.parse().map(Self::Fixed).map_err(|_| bad()),
            Some(("can-reach", address)) => address.parse().map(Self::CanReach).map_err(|_| bad()),
            Some(("interface", names)) => list(names).map(Self::Interface),
            Some(("skip-interface", names)) => list(names).map(Self::SkipInterface),
            Some(("cidr", ranges)) => {
                let ranges: Result<_, _> = ranges
                    .split(',')
                    .map(|range| range.trim().parse())
                    .collect();
                ranges.map(Self::Cidr).map_err(|_| bad())
            }
            Some(_) => Err(bad()),
        }
    }
}

/// The node's address of one family, and why it was chosen.
///
/// `source` is what the kernel would send from to reach the address of [`Method::CanReach`]; other methods ignore it.
///
/// # Errors
/// [`DetectError::None`] when nothing fits, with what there is.
pub fn choose(
    method: &Method,
    ipv4: bool,
    interfaces: &[Interface],
    source: Option<IpAddr>,
) -> Result<(IpNetwork, String), DetectError> {
    let usual = |interface: &Interface| interface.up && !interface.is_virtual();
    let named = |names: &[String], interface: &Interface| {
        let matches = |name: &String| {
            whole(name).is_some_and(|regex| regex.is_match(interface.name.as_str()))
        };
        names.iter().any(matches)
    };
    // An address that is asked for by name may be one that moves, or serve a point-to-point link.
    let exact = matches!(method, Method::Fixed(_) | Method::Known(_));
    for interface in interfaces {
        for address in &interface.addresses {
            if address.is_ipv4() != ipv4 || !(exact || usable(address)) {
                continue;
            }
            let fits = match method {
                Method::FirstFound => usual(interface),
                Method::CanReach(_) => source == Some(address.ip()),
                Method::Interface(names) => interface.up && named(names, interface),
                Method::SkipInterface(names) => usual(interface) && !named(names, interface),
                Method::Cidr(ranges) => {
                    interface.up && ranges.iter().any(|range| range.contains(address.ip()))
                }
                Method::Fixed(fixed) => fixed.ip() == address.ip(),
                Method::Known(known) => known.contains(&address.ip()),
                Method::KubernetesInternalIp => false,
            };
            if fits {
                return Ok((
                    *address,
                    format!("{address} of {} by {method:?}", interface.name),
                ));
            }
        }
    }
    let seen: Vec<String> = interfaces
        .iter()
        .flat_map(|one| {
            one.addresses
                .iter()
                .map(|address| format!("{} {address}", one.name))
        })
        .collect();
    Err(DetectError::None {
        method: method.clone(),
        seen: seen.join(", "),
    })
}

/// A regular expression for a whole name; none when it is none.
fn whole(pattern: &str) -> Option<regex::Regex> {
    regex::Regex::new(&format!("^(?:{pattern})$")).ok()
}

/// Link-local addresses serve one link only; a /32 on an interface is a virtual address that may move away.
fn usable(address: &IpNetwork) -> bool {
    match address {
        IpNetwork::V4(v4) => !v4.ip().is_link_local() && !v4.ip().is_loopback() && v4.prefix() < 32,
        IpNetwork::V6(v6) => {
            !v6.ip().is_unicast_link_local() && !v6.ip().is_loopback() && v6.prefix() < 128
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<Interface> {
        let interface = |name: &str, addresses: &[&str]| {
            let mut interface = Interface::new(1, name.parse().unwrap());
            interface.addresses = addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect();
            interface
        };
        vec![
            interface("lo", &["127.0.0.1/8"]),
            interface("docker0", &["172.17.0.1/16"]),
            interface(
                "eth0",
                &["10.0.0.100/32", "10.0.0.5/24", "fe80::1/64", "fd00::5/64"],
            ),
            interface("eth1", &["192.168.7.5/24"]),
        ]
    }

    #[test]
    fn each_method_finds_its_address() {
        for (method, expected) in [
            ("first-found", Some("10.0.0.5/24")),
            ("interface=eth1", Some("192.168.7.5/24")),
            ("interface=wlan.*,eth[1-9]", Some("192.168.7.5/24")),
            ("interface=eth", None),
            ("skip-interface=eth0", Some("192.168.7.5/24")),
            ("skip-interface=eth.*", None),
            ("10.0.0.100", Some("10.0.0.100/32")),
            ("cidr=172.16.0.0/12,192.168.0.0/16", Some("172.17.0.1/16")),
            ("10.0.0.5/24", Some("10.0.0.5/24")),
            ("can-reach=192.168.7.1", Some("192.168.7.5/24")),
            ("interface=wlan0", None),
        ] {
            let source = Some("192.168.7.5".parse().unwrap());
            let found = choose(&Method::parse(method).unwrap(), true, &host(), source);
            assert_eq!(
                found
                    .ok()
                    .map(|(address, _)| address.to_string())
                    .as_deref(),
                expected,
                "{method}"
            );
        }
        let known = Method::Known(vec![
            "10.0.0.100".parse().unwrap(),
            "fd00::5".parse().unwrap(),
        ]);
        let found =
            [true, false].map(|ipv4| choose(&known, ipv4, &host(), None).unwrap().0.to_string());
        assert_eq!(
            found,
            ["10.0.0.100/32", "fd00::5/64"],
            "what Kubernetes says counts, even on /32"
        );
        let six = choose(&Method::FirstFound, false, &host(), None).unwrap().0;
        assert_eq!(six.to_string(), "fd00::5/64");
    }

    #[test]
    fn an_unknown_method_says_which_there_are() {
        for text in [
            "fastest",
            "interface=",
            "interface=eth[",
            "can-reach=host",
            "cidr=x",
        ] {
            let error = Method::parse(text).unwrap_err().to_string();
            assert!(
                error.contains("can-reach") && error.contains(text),
                "{error}"
            );
        }
    }
}
