//! The pools of a cluster that has none. Pure.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnetwork::IpNetwork;
use ocicat_dataplane::Prefix;
use ocicat_datastore::Metadata;
use ocicat_datastore::model::{IpPool, IpPoolSpec};

use crate::config::DefaultPools;

/// Ranges for an IPv4 pool, of which the first that touches no network of the host is taken.
const RANGES: [&str; 3] = ["192.168.0.0/16", "172.16.0.0/16", "10.244.0.0/16"];

/// A value that a pool cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment CALICO_IPV{family}POOL_{name}: {value:?}: expected {expected}")]
pub(crate) struct PoolError {
    family: u8,
    name: &'static str,
    value: String,
    expected: &'static str,
}

/// What is known of the host and the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host<'a> {
    /// Pods' ranges as kubeadm has them, one of each family at most.
    pub(crate) cluster: &'a [Prefix],
    /// The host's own networks.
    pub(crate) networks: &'a [IpNetwork],
    /// Whether it has an IPv6 address.
    pub(crate) ipv6: bool,
    /// Chooses a range that nobody else has.
    pub(crate) random: u64,
}

/// The pools to make: one of each family that the node has and that is stated, or of IPv4 alone.
pub(crate) fn defaults(stated: &DefaultPools, host: &Host<'_>) -> Result<Vec<IpPool>, PoolError> {
    if stated.none {
        return Ok(Vec::new());
    }
    let mut pools = Vec::new();
    for (family, values) in [(4, &stated.v4), (6, &stated.v6)] {
        let wanted = family == 4 || host.ipv6 || values.contains_key("CIDR");
        if wanted && values.get("CIDR").is_none_or(|range| range != "none") {
            pools.push(pool(family, values, host)?);
        }
    }
    Ok(pools)
}

fn pool(
    family: u8,
    values: &BTreeMap<String, String>,
    host: &Host<'_>,
) -> Result<IpPool, PoolError> {
    let bad = |name: &'static str, value: &str, expected| PoolError {
        family,
        name,
        value: value.to_owned(),
        expected,
    };
    let ipv4 = family == 4;
    let range = match values.get("CIDR") {
        Some(text) => text
            .parse()
            .ok()
            .filter(|range: &Prefix| range.is_ipv4() == ipv4)
            .ok_or_else(|| bad("CIDR", text, "a range of its family such as 10.0.0.0/16"))?,
        None => range(ipv4, host),
    };
    let mut pool = IpPool {
        metadata: Metadata {
            name: format!("default-ipv{family}-ippool"),
            ..Metadata::default()
        },
        ..IpPool::default()
    };
    let spec = &mut pool.spec;
    spec.cidr = range.to_string();
    let mode = |name: &'static str, default: &str| {
        let text = values.get(name).map_or(default, String::as_str);
        match text.to_ascii_lowercase().as_str() {
            "off" | "never" | "" => Ok("Never".to_owned()),
            "always" => Ok("Always".to_owned()),
            "crosssubnet" | "cross-subnet" => Ok("CrossSubnet".to_owned()),
            _ => Err(bad(name, text, "Never, Always or CrossSubnet")),
        }
    };
    let vxlan = mode("VXLAN", "Never")?;
    // Calico's default, which works between any nodes.
    let usual = if ipv4 && vxlan == "Never" {
        "Always"
    } else {
        "Never"
    };
    spec.ipip_mode = Some(mode("IPIP", usual)?);
    spec.vxlan_mode = Some(vxlan);
    settle(family, values, spec)?;
    Ok(pool)
}

/// What is neither range nor encapsulation.
fn settle(
    family: u8,
    values: &BTreeMap<String, String>,
    spec: &mut IpPoolSpec,
) -> Result<(), PoolError> {
    let ipv4 = family == 4;
    let bad = |name: &'static str, value: &str, expected| PoolError {
        family,
        name,
        value: value.to_owned(),
        expected,
    };
    let flag = |name: &'static str, default: bool| match values.get(name) {
        None => Ok(default),
        Some(text) => crate::parameters::flag(text).ok_or_else(|| bad(name, text, "true or false")),
    };
    spec.nat_outgoing = flag("NAT_OUTGOING", ipv4)?;
    spec.disable_bgp_export = flag("DISABLE_BGP_EXPORT", false)?;
    spec.node_selector = Some(
        values
            .get("NODE_SELECTOR")
            .cloned()
            .unwrap_or_else(|| "all()".to_owned()),
    );
    let (usual, bounds) = if ipv4 {
        (26, 20..=32)
    } else {
        (122, 116..=128)
    };
    spec.block_size =
        match values.get("BLOCK_SIZE") {
            None => Some(usual),
            Some(text) => {
                let length = text.parse().ok().filter(|length| bounds.contains(length));
                Some(length.ok_or_else(|| {
                    bad("BLOCK_SIZE", text, "20 to 32 for IPv4, 116 to 128 for IPv6")
                })?)
            }
        };
    Ok(())
}

fn range(ipv4: bool, host: &Host<'_>) -> Prefix {
    if let Some(range) = host.cluster.iter().find(|range| range.is_ipv4() == ipv4) {
        return *range;
    }
    if !ipv4 {
        // RFC 4193: fd, 40 random bits, no subnet.
        let bits = (0xfd_u128 << 120) | (u128::from(host.random & 0xff_ffff_ffff) << 80);
        let address = ipnetwork::Ipv6Network::new(Ipv6Addr::from(bits), 48);
        if let Some(range) = address
            .ok()
            .and_then(|one| IpNetwork::V6(one).try_into().ok())
        {
            return range;
        }
    }
    let touches = |range: &Prefix| {
        host.networks.iter().any(|own| {
            let own: Option<Prefix> = Prefix::containing(own.ip(), own.prefix()).ok();
            own.is_some_and(|own| range.covers(&own) || own.covers(range))
        })
    };
    let mut ranges = RANGES.iter().filter_map(|text| text.parse().ok());
    let first = ranges.clone().next();
    let free = ranges.find(|range| !touches(range));
    free.or(first)
        .unwrap_or_else(|| Prefix::host(std::net::IpAddr::from([192, 168, 0, 0])))
}

/// The pods' ranges in kubeadm's ClusterConfiguration: `podSubnet: A,B`.
pub(crate) fn kubeadm_ranges(configuration: &str) -> Vec<Prefix> {
    let lines = configuration.lines().map(str::trim);
    let stated = lines.filter_map(|line| line.strip_prefix("podSubnet:"));
    let texts = stated.flat_map(|text| text.split(','));
    texts
        .filter_map(|text| text.trim().trim_matches(['"', '\'']).parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host<'a>(cluster: &'a [Prefix], networks: &'a [IpNetwork], ipv6: bool) -> Host<'a> {
        Host {
            cluster,
            networks,
            ipv6,
            random: 0x12_3456_789a,
        }
    }

    fn made(v4: &[(&str, &str)], host: &Host<'_>) -> Vec<String> {
        let stated = DefaultPools {
            v4: v4
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect(),
            ..DefaultPools::default()
        };
        let shown = |pool: &IpPool| {
            let spec = &pool.spec;
            format!(
                "{} {} {}/{} {:?} nat={}",
                pool.metadata.name,
                spec.cidr,
                spec.ipip_mode.as_deref().unwrap_or_default(),
                spec.vxlan_mode.as_deref().unwrap_or_default(),
                spec.block_size.unwrap_or_default(),
                spec.nat_outgoing,
            )
        };
        match defaults(&stated, host) {
            Ok(pools) => pools.iter().map(shown).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn calicos_defaults_and_what_is_stated() {
        let plain = host(&[], &[], false);
        assert_eq!(
            made(&[], &plain),
            ["default-ipv4-ippool 192.168.0.0/16 Always/Never 26 nat=true"]
        );
        assert_eq!(
            made(
                &[
                    ("CIDR", "10.1.0.0/16"),
                    ("VXLAN", "CrossSubnet"),
                    ("BLOCK_SIZE", "28"),
                    ("NAT_OUTGOING", "false")
                ],
                &plain
            ),
            ["default-ipv4-ippool 10.1.0.0/16 Never/CrossSubnet 28 nat=false"]
        );
        assert_eq!(made(&[("CIDR", "none")], &plain), Vec::<String>::new());
        let both = made(&[], &host(&[], &[], true));
        assert_eq!(
            both[1],
            "default-ipv6-ippool fd12:3456:789a::/48 Never/Never 122 nat=false"
        );
    }

    #[test]
    fn kubeadms_range_and_the_hosts_networks_are_heeded() {
        let ranges = kubeadm_ranges(
            "networking:\n  podSubnet: 10.244.0.0/16,fd10::/56\n  serviceSubnet: 10.96.0.0/12\n",
        );
        assert_eq!(
            made(&[], &host(&ranges, &[], true))
                .concat()
                .matches("10.244.0.0/16")
                .count(),
            1
        );
        assert!(made(&[], &host(&ranges, &[], true))[1].contains("fd10::/56"));
        let networks: [IpNetwork; 2] = [
            "192.168.7.5/24".parse().unwrap(),
            "172.16.0.1/12".parse().unwrap(),
        ];
        assert!(made(&[], &host(&[], &networks, false))[0].contains(" 10.244.0.0/16 "));
    }

    #[test]
    fn a_value_that_cannot_be_is_named() {
        for (name, value) in [
            ("CIDR", "fd00::/48"),
            ("IPIP", "Sometimes"),
            ("BLOCK_SIZE", "64"),
            ("NAT_OUTGOING", "2"),
        ] {
            let found = made(&[(name, value)], &host(&[], &[], false));
            assert!(
                found[0].contains(&format!("CALICO_IPV4POOL_{name}")) && found[0].contains(value),
                "{found:?}"
            );
        }
    }
}
