//! Policy in nftables: the table `inet ocicat`.
//!
//! # The table
//!
//! Four base chains hang in the path of packets, all with policy `accept`, so that only what concerns pods and host
//! endpoints is decided here:
//!
//! | chain | hook, priority | what it does |
//! |---|---|---|
//! | `raw-prerouting` | prerouting, -300 | drops packets to 127.0.0.0/8 from outside and, in `antispoof`, packets of pods whose source is not theirs |
//! | `forward` | forward, -10 | `iifname "cali*" jump from-pods`, `oifname "cali*" jump to-pods`; host endpoints' forwarded traffic |
//! | `input` | input, -10 | outer packets of tunnels from strangers; `pods-to-host`; host endpoints |
//! | `output` | output, -10 | host endpoints only; there when there are any |
//! | `nat-postrouting` | postrouting, 100 | masquerade of pods towards the world; there when something is masqueraded |
//!
//! `from-pods` and `to-pods` accept open connections, drop packets of none, and look the interface up in the verdict
//! maps `from-pod` and `to-pod`, which lead to the endpoint's chains `from/LINK` and `to/LINK`; an interface that is
//! not in the map has no endpoint and its packets are dropped. An endpoint's chain asks its tiers
//! (`tier-in/HASH`, shared by endpoints with the same policies), then its profiles; each policy is a chain
//! `policy-in/ID` or `policy-out/ID`, each profile `profile-in/NAME` or `profile-out/NAME`. Sets of the state are
//! `ip4/ID` and `ip6/ID` (addresses), `net4/ID` and `net6/ID` (with ranges), `port4/ID` and `port6/ID` (address,
//! protocol and port).
//!
//! # Marks
//!
//! Two bits of the packet mark are ours: [`ACCEPTED`] stays on packets that policy let through, [`PASSED`] is set
//! between a rule with Pass and the end of its tier.

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

pub use compile::{ACCEPTED, PASSED};
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
