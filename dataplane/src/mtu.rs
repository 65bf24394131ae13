//! How large a pod's packets may be, given the node's links and the tunnels in use.

use crate::interfaces::Interface;

/// What IP in IP adds to a packet, in bytes: one IPv4 header.
pub const IPIP_OVERHEAD: u32 = 20;
/// What VXLAN over IPv4 adds to a packet, in bytes: Ethernet, VXLAN, UDP, IPv4.
pub const VXLAN_OVERHEAD: u32 = 50;
/// What VXLAN over IPv6 adds to a packet, in bytes.
pub const VXLAN_V6_OVERHEAD: u32 = 70;
/// What is assumed where no link tells: what most clouds' networks carry.
pub const FALLBACK: u32 = 1460;

/// The MTU of the node's uplinks: the smallest of the links that are up and look like hardware by their name
/// (Calico's pattern `^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)`), or [`FALLBACK`].
#[must_use]
pub fn of_host(interfaces: &[Interface]) -> u32 {
    of_host_by(interfaces, is_uplink)
}

/// As [`of_host`], with another idea of which links by their names are uplinks: Felix's `mtuIfacePattern`, say, by
/// whichever crate for regular expressions the caller has.
#[must_use]
pub fn of_host_by(interfaces: &[Interface], uplink: impl Fn(&str) -> bool) -> u32 {
    interfaces
        .iter()
        .filter(|interface| interface.up && uplink(interface.name.as_str()))
        .map(|interface| interface.mtu)
        .min()
        .unwrap_or(FALLBACK)
}

/// Whether a link of this name is taken for an uplink when the MTU is detected.
#[must_use]
pub fn is_uplink(name: &str) -> bool {
    let plain = ["eth", "wlan", "wwan"];
    if plain.iter().any(|start| name.starts_with(start)) {
        return true;
    }
    ["en", "wl", "ww", "sl", "ib"].iter().any(|start| {
        name.strip_prefix(start)
            .and_then(|rest| rest.chars().next())
            .is_some_and(|c| "Pcopsvx".contains(c))
    })
}

/// The MTU for pods: the host's less the largest overhead of the tunnels that any pool uses.
#[must_use]
pub fn of_pods(host: u32, overheads: impl IntoIterator<Item = u32>) -> u32 {
    host.saturating_sub(overheads.into_iter().max().unwrap_or(0))
}

/// The tunnels that any pool uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// IP in IP.
    pub ipip: bool,
    /// VXLAN over IPv4.
    pub vxlan: bool,
    /// VXLAN over IPv6.
    pub vxlan_v6: bool,
}

/// What an operator says instead of what is found out: Felix's parameters. `None`, and 0 as there, is what is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overrides {
    /// `ipipMTU`: that of `tunl0`.
    pub ipip: Option<u32>,
    /// `vxlanMTU`: that of `vxlan.calico`.
    pub vxlan: Option<u32>,
    /// `vxlanMTUV6`: that of `vxlan-v6.calico`.
    pub vxlan_v6: Option<u32>,
    /// `mtu` of the CNI configuration: that of pods.
    pub pods: Option<u32>,
}

impl Overrides {
    /// Felix's parameters, in bytes; 0 is what is found out.
    #[must_use]
    pub const fn new(ipip: u32, vxlan: u32, vxlan_v6: u32) -> Self {
        Self {
            ipip: Some(ipip),
            vxlan: Some(vxlan),
            vxlan_v6: Some(vxlan_v6),
            pods: None,
        }
    }

    /// Sets the MTU of pods, in bytes; 0 is what is found out.
    #[must_use]
    pub const fn pods(mut self, pods: u32) -> Self {
        self.pods = Some(pods);
        self
    }
}

/// The MTU of everything that a node makes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// That of the node's uplinks, from which the others follow.
    pub host: u32,
    /// That of `tunl0`.
    pub ipip: u32,
    /// That of `vxlan.calico`.
    pub vxlan: u32,
    /// That of `vxlan-v6.calico`.
    pub vxlan_v6: u32,
    /// That of pods' links.
    pub pods: u32,
}

/// An override that asks for packets which do not fit through the uplinks with what the tunnel adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{parameter} is {mtu}, and {largest} bytes are the most that the node's links carry: larger packets are lost"
)]
pub struct TooLarge {
    /// The parameter, by Felix's name for it.
    pub parameter: &'static str,
    /// Its value, in bytes.
    pub mtu: u32,
    /// What would fit, in bytes.
    pub largest: u32,
}

/// From the uplinks' MTU to all others, as Felix does: a tunnel has what its header leaves, or its override; pods have the
/// smallest of the uplinks' and of the tunnels in use, or their override. An override counts as it is given, whether it
/// fits or not: see [`Plan::too_large`].
#[must_use]
pub fn plan(host: u32, in_use: InUse, overrides: &Overrides) -> Plan {
    let given = |wanted: Option<u32>| wanted.filter(|mtu| *mtu > 0);
    let tunnel = |wanted, overhead| given(wanted).unwrap_or_else(|| host.saturating_sub(overhead));
    let ipip = tunnel(overrides.ipip, IPIP_OVERHEAD);
    let vxlan = tunnel(overrides.vxlan, VXLAN_OVERHEAD);
    let vxlan_v6 = tunnel(overrides.vxlan_v6, VXLAN_V6_OVERHEAD);
    let used = [
        (in_use.ipip, ipip),
        (in_use.vxlan, vxlan),
        (in_use.vxlan_v6, vxlan_v6),
    ];
    let used = used.into_iter().filter(|(used, _)| *used);
    let smallest = used.map(|(_, mtu)| mtu).fold(host, u32::min);
    Plan {
        host,
        ipip,
        vxlan,
        vxlan_v6,
        pods: given(overrides.pods).unwrap_or(smallest),
    }
}

impl Plan {
    /// What does not fit: each of these loses packets silently where path MTU discovery does not work. That of pods must fit
    /// the smallest tunnel in use, as large as that was asked to be.
    #[must_use]
    pub fn too_large(&self, in_use: InUse) -> Vec<TooLarge> {
        let fits = plan(self.host, in_use, &Overrides::default());
        let asked = Overrides::new(self.ipip, self.vxlan, self.vxlan_v6);
        let pods = plan(self.host, in_use, &asked).pods;
        let all = [
            ("ipipMTU", in_use.ipip, self.ipip, fits.ipip),
            ("vxlanMTU", in_use.vxlan, self.vxlan, fits.vxlan),
            ("vxlanMTUV6", in_use.vxlan_v6, self.vxlan_v6, fits.vxlan_v6),
            ("mtu", true, self.pods, pods),
        ];
        let wrong = all
            .into_iter()
            .filter(|(_, used, mtu, largest)| *used && mtu > largest);
        wrong
            .map(|(parameter, _, mtu, largest)| TooLarge {
                parameter,
                mtu,
                largest,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplinks_are_known_by_name() {
        for (name, uplink) in [
            ("eth0", true),
            ("ens3", true),
            ("enp1s0", true),
            ("wlan0", true),
            ("ibp3", true),
            ("en", false),
            ("enq1", false),
            ("cali123", false),
            ("vxlan.calico", false),
            ("lo", false),
            ("docker0", false),
        ] {
            assert_eq!(is_uplink(name), uplink, "{name}");
        }
    }

    #[test]
    fn pods_get_what_the_largest_tunnel_leaves() {
        assert_eq!(of_pods(1500, []), 1500);
        assert_eq!(of_pods(1500, [IPIP_OVERHEAD, VXLAN_OVERHEAD]), 1450);
        assert_eq!(of_host(&[]), FALLBACK);
    }

    #[test]
    fn another_pattern_finds_other_uplinks() {
        let link = |name: &str, mtu, up| {
            let name = crate::state::LinkName::new(name).unwrap();
            Interface {
                mtu,
                up,
                ..Interface::new(1, name)
            }
        };
        let all = [
            link("eth0", 9000, true),
            link("bond0", 1500, true),
            link("bond1", 1400, false),
        ];
        assert_eq!(of_host(&all), 9000);
        assert_eq!(of_host_by(&all, |name| name.starts_with("bond")), 1500);
        assert_eq!(of_host_by(&all, |_| false), FALLBACK);
    }

    const NONE: InUse = InUse {
        ipip: false,
        vxlan: false,
        vxlan_v6: false,
    };

    #[test]
    fn overrides_are_felixs() {
        let ipip = InUse { ipip: true, ..NONE };
        let vxlan = InUse {
            vxlan: true,
            ..NONE
        };
        let all = InUse {
            vxlan_v6: true,
            ipip: true,
            ..vxlan
        };
        let none = Overrides::default();
        let given = Overrides::new(1400, 1300, 0);
        // Host, in use, overrides; then tunl0, both of VXLAN, pods, and what is too large.
        let no: &[&str] = &[];
        for (host, used, wanted, expected, large) in [
            (1500, NONE, none, (1480, 1450, 1430, 1500), no),
            (1500, ipip, none, (1480, 1450, 1430, 1480), no),
            (1500, vxlan, none, (1480, 1450, 1430, 1450), no),
            (9001, all, none, (8981, 8951, 8931, 8931), no),
            (1500, NONE, given, (1400, 1300, 1430, 1500), no),
            (1500, ipip, given, (1400, 1300, 1430, 1400), no),
            (1500, all, given, (1400, 1300, 1430, 1300), no),
            (1440, all, given, (1400, 1300, 1370, 1300), no),
            (1410, all, given, (1400, 1300, 1340, 1300), &["ipipMTU"]),
            (1340, vxlan, given, (1400, 1300, 1270, 1300), &["vxlanMTU"]),
            // An override larger than the uplinks' MTU does not make pods' larger than that.
            (1200, vxlan, given, (1400, 1300, 1130, 1200), &["vxlanMTU"]),
            (
                1500,
                vxlan,
                none.pods(1500),
                (1480, 1450, 1430, 1500),
                &["mtu"],
            ),
            (1500, vxlan, given.pods(1280), (1400, 1300, 1430, 1280), no),
            (40, all, none, (20, 0, 0, 0), no),
        ] {
            let plan = plan(host, used, &wanted);
            let found = (plan.ipip, plan.vxlan, plan.vxlan_v6, plan.pods);
            assert_eq!(found, expected, "{host} {used:?} {wanted:?}");
            let names: Vec<_> = plan
                .too_large(used)
                .iter()
                .map(|one| one.parameter)
                .collect();
            assert_eq!(names, large, "{host} {used:?} {wanted:?}");
        }
    }

    #[test]
    fn what_is_too_large_says_what_would_fit() {
        let used = InUse {
            vxlan: true,
            ..InUse::default()
        };
        let wanted = Overrides {
            vxlan: Some(1480),
            ..Overrides::default()
        };
        let wrong = plan(1500, used, &wanted).too_large(used);
        assert_eq!(
            wrong[0].to_string(),
            "vxlanMTU is 1480, and 1450 bytes are the most that the node's links carry: larger packets are lost"
        );
    }
}
