//! The names by which users call kinds: `pool`, `ippools`, `gnp`, `wep`, ...

use ocicat_datastore::Kind;

use crate::failure::Failure;

/// Short names, calicoctl's and kubectl's; a kind's own name and its plural always work.
const SHORT: &[(&str, Kind)] = &[
    ("pool", Kind::IpPool),
    ("pools", Kind::IpPool),
    ("reservation", Kind::IpReservation),
    ("ipres", Kind::IpReservation),
    ("ipamconfiguration", Kind::IpamConfig),
    ("block", Kind::IpamBlock),
    ("blocks", Kind::IpamBlock),
    ("affinity", Kind::BlockAffinity),
    ("affinities", Kind::BlockAffinity),
    ("handle", Kind::IpamHandle),
    ("handles", Kind::IpamHandle),
    ("no", Kind::Node),
    ("bgpconfig", Kind::BgpConfiguration),
    ("bgpconfigs", Kind::BgpConfiguration),
    ("peer", Kind::BgpPeer),
    ("peers", Kind::BgpPeer),
    ("np", Kind::NetworkPolicy),
    ("netpol", Kind::NetworkPolicy),
    ("policy", Kind::NetworkPolicy),
    ("policies", Kind::NetworkPolicy),
    ("gnp", Kind::GlobalNetworkPolicy),
    ("snp", Kind::StagedNetworkPolicy),
    ("sgnp", Kind::StagedGlobalNetworkPolicy),
    ("sknp", Kind::StagedKubernetesNetworkPolicy),
    ("netset", Kind::NetworkSet),
    ("netsets", Kind::NetworkSet),
    ("globalnetset", Kind::GlobalNetworkSet),
    ("gns", Kind::GlobalNetworkSet),
    ("pro", Kind::Profile),
    ("hep", Kind::HostEndpoint),
    ("heps", Kind::HostEndpoint),
    ("wep", Kind::WorkloadEndpoint),
    ("weps", Kind::WorkloadEndpoint),
    ("felixconfig", Kind::FelixConfiguration),
    ("felixconfigs", Kind::FelixConfiguration),
    ("clusterinfo", Kind::ClusterInformation),
    ("kcc", Kind::KubeControllersConfiguration),
    ("knp", Kind::KubeNetworkPolicy),
    ("kubenetworkpolicies", Kind::KubeNetworkPolicy),
    ("cnp", Kind::ClusterNetworkPolicy),
    ("ns", Kind::Namespace),
    ("sa", Kind::ServiceAccount),
    ("po", Kind::Pod),
    ("svc", Kind::Service),
    ("kubenodes", Kind::KubeNode),
];

/// The kind that a user means; upper and lower case do not matter.
///
/// # Errors
/// [`Failure::Usage`] with the names that there are.
pub fn kind(name: &str) -> Result<Kind, Failure> {
    let short = |(short, _): &&(&str, Kind)| short.eq_ignore_ascii_case(name);
    if let Some((_, kind)) = SHORT.iter().find(short) {
        return Ok(*kind);
    }
    name.parse().map_err(|_| {
        let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.unique_name()).collect();
        Failure::Usage(format!(
            "{name:?} is no kind of object; there are {}",
            all.join(", ")
        ))
    })
}

/// A kind, and perhaps a name, as in `pool`, `pool/default`.
///
/// # Errors
/// As [`kind`].
pub fn kind_and_name(text: &str) -> Result<(Kind, Option<&str>), Failure> {
    match text.split_once('/') {
        Some((name, object)) => Ok((kind(name)?, Some(object))),
        None => Ok((kind(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_many_names() {
        for (name, expected) in [
            ("pool", Kind::IpPool),
            ("ippools", Kind::IpPool),
            ("IPPool", Kind::IpPool),
            ("gnp", Kind::GlobalNetworkPolicy),
            ("networkpolicies", Kind::NetworkPolicy),
            ("KubeNetworkPolicy", Kind::KubeNetworkPolicy),
            ("nodes", Kind::Node),
            ("wep", Kind::WorkloadEndpoint),
        ] {
            assert_eq!(kind(name), Ok(expected), "{name}");
        }
        assert!(matches!(kind("widget"), Err(Failure::Usage(_))));
        assert_eq!(
            kind_and_name("pool/default"),
            Ok((Kind::IpPool, Some("default")))
        );
    }
}
