//! How large packets may be: of tunnels, and of pods.

use ocicat_dataplane::interfaces::Interface;
use ocicat_dataplane::mtu;
use ocicat_dataplane::names::WORKLOAD_PREFIX;

use super::Core;
use crate::network::{Tunnels, Uplink};

/// The parameter that says which links the node reaches others by.
const PATTERN: &str = "mtuIfacePattern";

impl Core {
    /// What the largest tunnel in use leaves of the uplink's MTU.
    pub(super) fn pod_mtu(&self) -> u32 {
        let host = self.host_mtu().unwrap_or(mtu::FALLBACK);
        mtu::plan(host, self.tunnels_in_use(), &self.mtus()).pods
    }

    fn tunnels_in_use(&self) -> mtu::InUse {
        let tunnels = Tunnels::of(&self.world.pools);
        mtu::InUse {
            ipip: tunnels.ipip,
            vxlan: tunnels.vxlan,
            vxlan_v6: tunnels.vxlan_v6,
        }
    }

    /// What parameters say about the MTU of tunnels.
    pub(super) fn mtus(&self) -> mtu::Overrides {
        let stated = |name: &str| self.felix(name)?.trim().parse::<u32>().ok();
        let ipip = stated("ipipMTU").or_else(|| stated("ipInIpMtu"));
        mtu::Overrides::new(
            ipip.unwrap_or(0),
            stated("vxlanMTU").unwrap_or(0),
            stated("vxlanMTUV6").unwrap_or(0),
        )
    }

    /// Which of them are more than the uplink carries.
    pub(super) fn mtus_too_large(&self) -> Vec<String> {
        let (in_use, mtus) = (self.tunnels_in_use(), self.mtus());
        let plan = self.host_mtu().map(|host| mtu::plan(host, in_use, &mtus));
        let wrong = plan.map(|plan| plan.too_large(in_use)).unwrap_or_default();
        wrong.iter().map(ToString::to_string).collect()
    }

    fn host_mtu(&self) -> Option<u32> {
        let uplink = self.fixed.uplink.as_ref().map(|uplink| uplink.mtu);
        self.stated_mtu.or(uplink)
    }

    /// The uplink, with what packets may be as large as: its own MTU, or that of the links that a pattern names.
    pub(super) fn measured(&self, uplink: Option<&Uplink>) -> Option<Uplink> {
        let uplink = uplink?;
        Some(Uplink {
            name: uplink.name.clone(),
            mtu: self.stated_mtu.unwrap_or(uplink.mtu),
        })
    }

    /// Looks which links the pattern names, and takes the smallest MTU of those that are up.
    pub(super) fn follow_mtu_pattern(&mut self, problems: &mut Vec<String>) {
        let stated = self.parameters().stated(PATTERN);
        let stated = stated.filter(|(pattern, _)| !pattern.is_empty());
        let found = stated.map(|(pattern, source)| {
            let problem = |what: String| {
                format!(
                    "{source}: {PATTERN}: {what}; the MTU of the link with the node's address is in force"
                )
            };
            let regex = regex::Regex::new(&pattern)
                .map_err(|error| problem(format!("{pattern:?} is no regular expression: {error}")))?;
            if !self.uplinks.iter().any(|one| one.up && regex.is_match(one.name.as_str())) {
                return Err(problem(format!("{pattern:?} matches no link that is up")));
            }
            Ok(mtu::of_host_by(&self.uplinks, |name| regex.is_match(name)))
        });
        self.stated_mtu =
            found.and_then(|found| found.map_err(|problem| problems.push(problem)).ok());
    }

    /// Notes the node's own links; pods' are none of them. Whether what packets may be as large as is another now.
    pub(super) fn note_uplinks(&mut self, found: &[Interface]) {
        let own = |one: &&Interface| !one.name.as_str().starts_with(WORKLOAD_PREFIX);
        let own: Vec<Interface> = found.iter().filter(own).cloned().collect();
        if own == self.uplinks {
            return;
        }
        self.uplinks = own;
        if self.parameters().stated(PATTERN).is_some() {
            self.touched.network = true;
        }
    }
}
