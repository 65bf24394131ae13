//! What policy says should happen: the reference evaluator over what is in the datastore.

use anyhow::{Context, Result};
use ocicat_dataplane::state::EndpointToHost;
use ocicat_datastore::{Kind, Scope};
use ocicat_policy::{Flow, Model, Update, Verdict};

use super::Cluster;
use crate::probe::{End, Probe};
use crate::scenario::Protocol;

/// Every kind that policy depends on.
const KINDS: [Kind; 9] = [
    Kind::WorkloadEndpoint,
    Kind::HostEndpoint,
    Kind::NetworkPolicy,
    Kind::GlobalNetworkPolicy,
    Kind::Profile,
    Kind::Tier,
    Kind::NetworkSet,
    Kind::GlobalNetworkSet,
    Kind::EndpointSlice,
];

impl Cluster {
    /// Whether each probe should get through.
    ///
    /// # Errors
    /// When the datastore cannot be read, or holds what cannot be evaluated.
    pub async fn expected(&self, probes: &[Probe]) -> Result<Vec<bool>> {
        let mut model = Model::new();
        model.set_endpoint_to_host(EndpointToHost::Accept);
        for kind in KINDS {
            for object in self.store.backend().list(&Scope::all(kind)).await?.objects {
                if let Some(update) =
                    Update::of(&object).with_context(|| object.key().to_string())?
                {
                    model.update(update);
                }
            }
        }
        probes
            .iter()
            .map(|probe| Ok(model.evaluate(&self.flow(probe)?).verdict() == Verdict::Allow))
            .collect()
    }

    fn flow(&self, probe: &Probe) -> Result<Flow> {
        let (source, destination) = self.addresses_of(probe)?;
        let port = probe.port.map_or(0, std::num::NonZeroU16::get);
        let mut flow = match probe.protocol {
            Protocol::Tcp => Flow::tcp(source, destination, port),
            Protocol::Udp => Flow::udp(source, destination, port),
            Protocol::Icmp => Flow::ping(source, destination),
        };
        flow.from_node = node_of(&probe.from);
        flow.to_node = node_of(&probe.to);
        Ok(flow)
    }
}

fn node_of(end: &End) -> Option<String> {
    match end {
        End::Node(name) => Some(name.clone()),
        End::Pod { .. } | End::Host(_) | End::Router => None,
    }
}
