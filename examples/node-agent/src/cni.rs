//! What the CNI plugin asks of the agent, over its socket.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use ocicat_cni::agent::{Agent, Caller, Limits, NetworkRequest, Request, Tombstones, serve_until};
use ocicat_cni::{AddResult, CniError, Interface, IpConfig};
use tokio::net::UnixListener;
use tokio::time::Instant;

use crate::attachments::{Added, AttachmentError, Attachments};
use crate::drive::chain;
use crate::pod::Pod;

/// Serves plugins until the future is dropped. Removals that were asked for while no agent ran come first.
pub(crate) async fn serve(
    listener: UnixListener,
    attachments: Arc<Attachments>,
    tombstones: PathBuf,
) {
    let server = Arc::new(Server { attachments });
    let burials = Arc::clone(&server).bury_when_ready(Tombstones::new(tombstones));
    let serving = serve_until(listener, server, Limits::default(), std::future::pending());
    let (served, ()) = tokio::join!(serving, burials);
    if let Err(error) = served {
        tracing::error!(%error, "the CNI socket is not served any more");
    }
}

struct Server {
    attachments: Arc<Attachments>,
}

impl Server {
    /// Each time that the agent becomes ready, removes what plugins could not remove before.
    async fn bury_when_ready(self: Arc<Self>, tombstones: Tombstones) {
        let mut facts = self.attachments.facts.clone();
        while facts.wait_for(|facts| facts.ready).await.is_ok() {
            self.bury(&tombstones).await;
            if facts.wait_for(|facts| !facts.ready).await.is_err() {
                return;
            }
        }
    }

    /// Removes what plugins could not, while there was no agent. One that fails stays for the next time.
    async fn bury(&self, tombstones: &Tombstones) {
        let list = match tombstones.list() {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "removals that were asked for meanwhile cannot be read"
                );
                return;
            }
        };
        for tombstone in list {
            let outcome = match tombstone {
                Ok(tombstone) => {
                    self.bury_one(tombstones, tombstone.request, tombstone.ipam)
                        .await
                }
                Err(error) => Err(chain(&error)),
            };
            if let Err(error) = outcome {
                tracing::warn!(
                    error,
                    "a removal that was asked for meanwhile is left for later"
                );
            }
        }
    }

    async fn bury_one(
        &self,
        tombstones: &Tombstones,
        request: Request,
        ipam: bool,
    ) -> Result<(), String> {
        let pod = self.pod(&request).map_err(|error| error.msg)?;
        let mut pause = Duration::from_millis(200);
        let undo = || async {
            if ipam {
                self.attachments.take_back(&pod).await
            } else {
                self.attachments.remove(&pod).await
            }
        };
        while let Err(error) = undo().await {
            if !error.is_transient() || pause > Duration::from_secs(10) {
                return Err(error.to_string());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        tombstones
            .remove(&request, ipam)
            .map_err(|error| chain(&error))
    }

    fn pod(&self, request: &Request) -> Result<Pod, CniError> {
        let arguments: BTreeMap<String, String> = request
            .args
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let facts = self.attachments.facts.borrow().clone();
        let mut pod = Pod::read(
            &request.network.raw,
            &arguments,
            request.attachment.container_id.as_str(),
            request.attachment.ifname.as_str(),
            |namespace| facts.namespaces.get(namespace).cloned().unwrap_or_default(),
        )
        .map_err(|error| CniError::config(error.to_string()))?;
        if let Some(result) = &request.ipam_result {
            pod.delegated = result.ips.iter().map(|ip| ip.address.ip()).collect();
        }
        Ok(pod)
    }
}

#[async_trait]
impl Agent for Server {
    async fn add(
        &self,
        request: Request,
        netns: OwnedFd,
        _: Caller,
    ) -> Result<AddResult, CniError> {
        let pod = self.pod(&request)?;
        let mtu = request.network.raw["mtu"]
            .as_u64()
            .and_then(|mtu| u32::try_from(mtu).ok())
            .filter(|mtu| *mtu > 0);
        let deadline = Instant::now() + request.deadline;
        let added = self
            .attachments
            .add(&pod, netns, mtu, deadline)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        Ok(result(&request, &added))
    }

    async fn del(&self, request: Request, _: Option<OwnedFd>) -> Result<(), CniError> {
        let pod = self.pod(&request)?;
        self.attachments
            .remove(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))
    }

    async fn check(&self, request: Request, netns: OwnedFd) -> Result<(), CniError> {
        let pod = self.pod(&request)?;
        let differences = self
            .attachments
            .check(&pod, netns)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        if differences.is_empty() {
            return Ok(());
        }
        Err(CniError::new(
            CniError::FIRST_OWN,
            format!("{} is not as it was made", pod.name),
        )
        .with_details(differences.join("; ")))
    }

    async fn gc(&self, request: NetworkRequest) -> Result<(), CniError> {
        let keep = request
            .keep
            .iter()
            .map(|one| {
                (
                    one.container_id.as_str().to_owned(),
                    one.ifname.as_str().to_owned(),
                )
            })
            .collect();
        self.attachments
            .collect(request.network.name.as_str(), &keep)
            .await
            .map_err(|error| CniError::try_again(error.to_string()))
    }

    async fn status(&self, _: NetworkRequest) -> Result<(), CniError> {
        let facts = self.attachments.facts.borrow();
        if facts.ready {
            return Ok(());
        }
        Err(CniError::new(
            CniError::PLUGIN_NOT_AVAILABLE,
            "the node agent is not ready",
        )
        .with_details(facts.reasons.join("; ")))
    }

    async fn ipam_add(&self, request: Request, _: Caller) -> Result<AddResult, CniError> {
        let pod = self.pod(&request)?;
        let addresses = self
            .attachments
            .lend(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        Ok(addresses
            .into_iter()
            .fold(AddResult::new(), |result, address| {
                result.ip(IpConfig::new(IpNetwork::from(address)))
            }))
    }

    async fn ipam_del(&self, request: Request) -> Result<(), CniError> {
        let pod = self.pod(&request)?;
        self.attachments
            .take_back(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))
    }

    async fn ipam_check(&self, request: Request) -> Result<(), CniError> {
        let pod = self.pod(&request)?;
        let held = self
            .attachments
            .held(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        let before = request
            .network
            .prev_result
            .map(|result| result.ips)
            .unwrap_or_default();
        match before.iter().find(|ip| !held.contains(&ip.address.ip())) {
            None if !held.is_empty() => Ok(()),
            None => Err(CniError::new(
                CniError::FIRST_OWN,
                "no address is held for the container",
            )),
            Some(ip) => {
                let text = format!("{} is not held for the container", ip.address.ip());
                Err(CniError::new(CniError::FIRST_OWN, text))
            }
        }
    }
}

fn refuse(pod: &Pod, error: &AttachmentError) -> CniError {
    let text = format!("{}/{}: {error}", pod.namespace, pod.name);
    if error.is_transient() {
        CniError::try_again(text)
    } else {
        CniError::new(CniError::FIRST_OWN, text)
    }
}

/// The node's end, the pod's end, and the addresses on the latter.
fn result(request: &Request, added: &Added) -> AddResult {
    let host = Interface::new(added.host_link.to_string())
        .mac(added.attached.host_mac.to_string())
        .mtu(added.attached.mtu);
    let mut pod = Interface::new(request.attachment.ifname.as_str())
        .mac(added.attached.container_mac.to_string())
        .mtu(added.attached.mtu);
    if let Some(path) = &request.netns {
        pod = pod.sandbox(path.display().to_string());
    }
    let result = AddResult::new().interface(host).interface(pod);
    added.addresses.iter().fold(result, |result, address| {
        result.ip(IpConfig::new(IpNetwork::from(*address)).interface(1))
    })
}
