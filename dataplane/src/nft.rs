//! Policy in nftables: the table `inet ocicat`.
//!
//! # The table
//!
//! Base chains hang in the path of packets, all with policy `accept`, so that only what concerns pods and host
//! endpoints is decided here:
//!
//! | chain | hook, priority | what it does |
//! |---|---|---|
//! | `raw-prerouting` | prerouting, -300 | drops packets to 127.0.0.0/8 from outside and, in `antispoof`, packets of pods whose source is not theirs and neighbour messages that claim another's address; takes VXLAN's outer packets out of connection tracking |
//! | `raw-output` | output, -300 | the same for VXLAN's own packets; there when there are such tunnels |
//! | `forward` | forward, -10 | `iifname "cali*" jump from-pods`, `oifname "cali*" jump to-pods`; host endpoints' forwarded traffic |
//! | `input` | input, -10 | outer packets of tunnels: from known nodes alone; `pods-to-host`; host endpoints |
//! | `output` | output, -10 | host endpoints only; there when there are any |
//! | `nat-postrouting` | postrouting, 100 | masquerade of pods towards the world; there when something is masqueraded |
//! | `arp-input` | of `table arp ocicat`: input, 0 | drops ARP of pods that names a sender's address which is not theirs |
//!
//! `from-pods` and `to-pods` accept open connections, drop packets of none, and look the interface up in the verdict
//! maps `from-pod` and `to-pod`, which lead to the endpoint's chains `from/LINK` and `to/LINK`; an interface that is
//! not in the map has no endpoint and its packets are dropped. An endpoint's chain asks its tiers
//! (`tier-in/HASH`, shared by endpoints with the same policies), then its profiles; each policy is a chain
//! `policy-in/ID` or `policy-out/ID`, each profile `profile-in/NAME` or `profile-out/NAME`. Sets of the state are
//! `ip4/ID` and `ip6/ID` (addresses), `net4/ID` and `net6/ID` (with ranges), `port4/ID` and `port6/ID` (address,
//! protocol and port). A set of ranges is `net4b/ID` or `net6b/ID` after a change that would have cut a range: Linux
//! before 7.0 loses packets while that happens in a set in use. The rules switch to the new set, and count from zero.
//!
//! Every rule that drops has a counter and says why in its comment; [`Table::counters`] sums them up by reason.
//!
//! # Refusals
//!
//! What the kernel refuses costs its own object alone: a policy, a profile or an endpoint then denies, is named in
//! [`Report::failed`], and everything else goes in. A policy that an endpoint names and the state does not have denies.
//!
//! # Marks
//!
//! Two bits of the packet mark are ours: [`ACCEPTED`] stays on packets that policy let through, [`PASSED`] is set
//! between a rule with Pass and the end of its tier. One bit of the connection's mark is ours where open connections
//! are judged again ([`OpenConnections::Cut`](crate::state::OpenConnections::Cut)): [`CUT`].

// Without the feature `linux` there is only the text; what the kernel's side alone uses is dead there.
#[cfg_attr(not(feature = "linux"), allow(dead_code))]
mod compile;
#[cfg(feature = "linux")]
mod dump;
#[cfg_attr(not(feature = "linux"), allow(dead_code))]
mod encode;
#[cfg(feature = "linux")]
mod known;
#[cfg_attr(not(feature = "linux"), allow(dead_code))]
mod lacking;
#[cfg(feature = "linux")]
mod messages;
mod name;
#[cfg(feature = "linux")]
mod obstacle;
#[cfg(feature = "linux")]
mod plan;
#[cfg(feature = "linux")]
pub(crate) mod probe;
#[cfg_attr(not(feature = "linux"), allow(dead_code))]
mod ruleset;
#[cfg(feature = "linux")]
mod socket;
#[cfg_attr(not(feature = "linux"), allow(dead_code))]
mod statement;
#[cfg(feature = "linux")]
mod table;
mod text;
#[cfg_attr(not(feature = "linux"), allow(dead_code))]
mod wire;

pub use compile::{ACCEPTED, CUT, PASSED};
pub use lacking::Lacking;
#[cfg(feature = "linux")]
pub use obstacle::Obstacle;
#[cfg(feature = "linux")]
pub use table::{Error, Report, Table};

use crate::State;

/// The table that `state` asks for, as a file for `nft -f`: for dry runs, comparisons and bug reports.
#[must_use]
pub fn render(state: &State) -> String {
    let mut desired = compile::Desired::default();
    desired.update(state);
    text::table(&desired, &state.sets)
}
