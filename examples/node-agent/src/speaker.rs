//! The node's BGP speaker, as the core sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ocicat_dataplane::Prefix;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::control::Peer;
use crate::peers::WantedPeer;

/// What the speaker tells the core.
#[derive(Clone, Debug)]
pub(crate) enum SpeakerEvent {
    Best { prefix: Prefix, hops: Vec<IpAddr> },
    Up { peer: IpAddr },
    Down { peer: IpAddr, reason: String },
    Converged,
}

/// Why the speaker cannot run.
#[derive(Debug, thiserror::Error)]
#[error("the BGP speaker: {0}")]
pub struct SpeakerError(String);

pub(crate) struct Speaker;

impl Speaker {
    pub(crate) fn new(
        _: &crate::startup::BgpSettings,
        _: bool,
    ) -> Result<
        (
            Self,
            mpsc::Receiver<SpeakerEvent>,
            impl Future<Output = ()> + Send + use<>,
        ),
        SpeakerError,
    > {
        let (_tx, rx) = mpsc::channel(1);
        Ok((Self, rx, async {}))
    }
    pub(crate) async fn originate(&self, _: Prefix) {}
    pub(crate) async fn withdraw(&self, _: Prefix) {}
    pub(crate) async fn originations_complete(&self) {}
    pub(crate) async fn set_peers(
        &self,
        _: &BTreeMap<IpAddr, WantedPeer>,
        _: &BTreeMap<IpAddr, WantedPeer>,
    ) {
    }
    pub(crate) async fn peers(&self, _: &BTreeMap<IpAddr, WantedPeer>) -> Vec<Peer> {
        Vec::new()
    }
    pub(crate) async fn routes(&self) -> Value {
        Value::Null
    }
    pub(crate) async fn stop(self) {}
}
#[allow(unused)]
type _X = BTreeSet<u8>;
