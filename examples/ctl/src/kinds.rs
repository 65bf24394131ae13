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
        let all = || Kind::ALL.iter().map(|kind| kind.unique_name());
        let known = SHORT.iter().map(|(short, _)| *short).chain(all());
        let low = name.to_ascii_lowercase();
        let near = known.map(|one| (strsim::jaro_winkler(&one.to_ascii_lowercase(), &low), one));
        let near = near.max_by(|(one, _), (other, _)| one.total_cmp(other));
        let meant = near.filter(|(alike, _)| *alike > ALIKE);
        let meant = meant.map_or_else(String::new, |(_, one)| format!("; did you mean {one}?"));
        let all = all().collect::<Vec<_>>().join(", ");
        Failure::Usage(format!(
            "{name:?} is no kind of object{meant}\nThere are {all}"
        ))
    })
}

/// From which likeness on a name may have been meant; 1 is the same.
const ALIKE: f64 = 0.85;

/// The kinds of a list such as `ippools,gnp`; none for a single one.
///
/// # Errors
/// As [`kind`].
pub fn list(text: &str) -> Result<Option<Vec<Kind>>, Failure> {
    if !text.contains(',') {
        return Ok(None);
    }
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(kind).collect::<Result<_, _>>().map(Some)
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
        let error = kind("ipool").unwrap_err().to_string();
        assert!(
            error.contains("did you mean ippool?") || error.contains("did you mean IPPool?"),
            "{error}"
        );
        let both = vec![Kind::IpPool, Kind::GlobalNetworkPolicy];
        assert_eq!(list("pools,gnp"), Ok(Some(both)));
        assert_eq!(list("pools"), Ok(None));
        assert_eq!(
            kind_and_name("pool/default"),
            Ok((Kind::IpPool, Some("default")))
        );
    }
}
