#![doc = include_str!("../README.md")]

pub mod attributes;
#[cfg(feature = "tokio")]
pub mod driver;
mod export;
pub mod filter;
mod identity;
#[cfg(feature = "metrics")]
mod metrics;
mod number;
mod peer;
mod prefix;
mod rib;
mod session;
mod speaker;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "serde")]
mod text;
pub mod wire;

pub use attributes::{
    AsPath, Attributes, AttributesBuilder, Community, LargeCommunity, NextHop, Origin,
};
pub use filter::{Filter, FilterPeer, Learned, RuleSet, Rules, Verdict};
pub use identity::PeerId;
pub use ipnetwork;
#[cfg(feature = "metrics")]
pub use metrics::{Metrics, PeerMetrics};
pub use number::{AsNumber, AsNumberError, Families, Family};
pub use peer::{
    AddPath, GracefulRestart, NextHopMode, Password, PasswordError, PeerConfig, PrivateAs, Role,
    Ttl,
};
pub use prefix::{Prefix, PrefixError};
pub use rib::Step;
pub use session::{DownReason, LinkId, Negotiated, State, Stop};
pub use speaker::{
    AddPeerError, BestRoute, DynamicPeers, Event, Input, Output, PeerStatus, Route, Speaker,
    SpeakerConfig,
};
pub use wire::{Cease, Notification};
