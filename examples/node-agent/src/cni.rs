//! What the CNI plugin asks of the agent, over its socket.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use ocicat_cni::agent::{Agent, Caller, Limits, NetworkRequest, Request, Tombstones, serve_until};
use ocicat_cni::{AddResult, CniError, Interface, IpConfig, Route};
use tokio::net::UnixListener;
use tokio::time::Instant;

use crate::attachments::{Added, Answered, AttachmentError, Attachments, Form};
use crate::drive::chain;
use crate::facts::{Facts, LOCKED};
use crate::metrics::{CniMeters, Metered};
use crate::pod::Pod;

/// Serves plugins until the future is dropped. Removals that were asked for while no agent ran come first.
pub(crate) async fn serve(
    listener: UnixListener,
    attachments: Arc<Attachments>,
    tombstones: PathBuf,
    meters: CniMeters,
) {
    let server = Arc::new(Server { attachments });
    let burials = Arc::clone(&server).bury_when_ready(Tombstones::new(tombstones));
    let server = Arc::new(Metered {
        agent: server,
        meters,
    });
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
    /// Each time that the agent becomes ready, and each time that the datastore is unlocked, removes what plugins could not remove before.
    async fn bury_when_ready(self: Arc<Self>, tombstones: Tombstones) {
        let mut facts = self.attachments.facts.clone();
        while facts.wait_for(|facts| facts.may_write()).await.is_ok() {
            self.bury(&tombstones).await;
            if facts.wait_for(|facts| !facts.may_write()).await.is_err() {
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
        let pod = Self::pod(&request);
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

    /// Code 11 until the agent is in sync.
    fn ready(&self) -> Result<(), CniError> {
        let facts = self.attachments.facts.borrow();
        if facts.ready {
            return Ok(());
        }
        Err(CniError::try_again("the node agent is not ready")
            .with_details(facts.reasons.join("; ")))
    }

    /// Code 11 while the datastore is locked, too: the plugin then removes the kernel's side itself, and leaves a note.
    fn writable(&self) -> Result<(), CniError> {
        if self.attachments.facts.borrow().locked {
            return Err(CniError::try_again(LOCKED));
        }
        self.ready()
    }

    /// Releases what belongs to a network, and to none of its attachments that are in use.
    async fn collect(&self, request: NetworkRequest) -> Result<(), CniError> {
        self.writable()?;
        let place = |one: &ocicat_cni::AttachmentId| {
            let (container, interface) = (one.container_id.as_str(), one.ifname.as_str());
            (container.to_owned(), interface.to_owned())
        };
        let keep = request.keep.iter().map(place).collect();
        self.attachments
            .collect(request.network.name.as_str(), &keep)
            .await
            .map_err(|error| CniError::try_again(error.to_string()))
    }

    /// Whom a request is about.
    fn pod(request: &Request) -> Pod {
        let (container, interface) = (&request.attachment.container_id, &request.attachment.ifname);
        let arguments = arguments(request);
        Pod::identify(
            &request.network.raw,
            &arguments,
            container.as_str(),
            interface.as_str(),
        )
    }

    /// With what is wished for it, by the request and by the API.
    async fn pod_and_wishes(&self, request: &Request) -> Result<Pod, CniError> {
        let mut pod = Self::pod(request);
        let known = self
            .attachments
            .known(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        pod.wish(&request.network.raw, &arguments(request), &known)
            .map_err(|error| {
                CniError::config(format!("{}/{}: {error}", pod.namespace, pod.name))
            })?;
        if let Some(result) = &request.ipam_result {
            pod.wishes.delegated = result.ips.iter().map(|ip| ip.address.ip()).collect();
        }
        Ok(pod)
    }
}

fn arguments(request: &Request) -> BTreeMap<String, String> {
    let pairs = request.args.iter();
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[async_trait]
impl Agent for Server {
    async fn add(
        &self,
        request: Request,
        netns: OwnedFd,
        _: Caller,
    ) -> Result<AddResult, CniError> {
        unsupported(&request.network.raw)?;
        let pod = self.pod_and_wishes(&request).await?;
        let deadline = Instant::now() + request.deadline;
        let added = self
            .attachments
            .add(&pod, netns, deadline)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        Ok(result(&request, &added))
    }

    async fn del(&self, request: Request, _: Option<OwnedFd>) -> Result<(), CniError> {
        self.writable()?;
        let pod = Self::pod(&request);
        self.attachments
            .remove(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))
    }

    async fn check(&self, request: Request, netns: OwnedFd) -> Result<(), CniError> {
        self.ready()?;
        let pod = self.pod_and_wishes(&request).await?;
        let answered = answered(&request);
        let differences = self
            .attachments
            .check(&pod, netns, &answered)
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
        self.collect(request).await
    }

    async fn status(&self, _: NetworkRequest) -> Result<(), CniError> {
        status(&self.attachments.facts.borrow())?;
        // An addition needs the datastore.
        self.attachments.reach().await.map_err(|why| {
            CniError::new(
                CniError::PLUGIN_NOT_AVAILABLE,
                "the datastore does not answer",
            )
            .with_details(why)
        })
    }

    async fn abandoned(&self, request: Request, result: AddResult) -> Result<(), CniError> {
        let counts = &self.attachments.counts;
        counts.abandoned.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            attachment = %request.attachment,
            "the plugin was gone before its answer: undone"
        );
        drop(result);
        let undone = self.del(request, None).await;
        if let Err(error) = &undone {
            tracing::error!(%error, "and could not be undone: left for the next DEL or GC");
        }
        undone
    }

    async fn ipam_add(&self, request: Request, _: Caller) -> Result<AddResult, CniError> {
        let form = Form::of(&request.network.raw).map_err(CniError::config)?;
        let mut pod = self.pod_and_wishes(&request).await?;
        // Here `ipam.type` is this plugin's own name, whatever it was installed as.
        pod.wishes.foreign_ipam = false;
        pod.wishes.lent = true;
        let lent = self
            .attachments
            .lend(&pod, form)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        let mut result = AddResult::new();
        for one in lent {
            let ip = IpConfig::new(one.address);
            result = result.ip(match one.gateway {
                Some(gateway) => ip.gateway(gateway),
                None => ip,
            });
        }
        result.routes = routes(&request.network.raw)?;
        Ok(result)
    }

    async fn ipam_del(&self, request: Request) -> Result<(), CniError> {
        self.writable()?;
        let pod = Self::pod(&request);
        self.attachments
            .take_back(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))
    }

    async fn ipam_check(&self, request: Request) -> Result<(), CniError> {
        self.ready()?;
        let pod = Self::pod(&request);
        let held = self
            .attachments
            .held(&pod)
            .await
            .map_err(|error| refuse(&pod, &error))?;
        // What the plugins of the chain have answered: only this network's addresses are ours to compare.
        let before = answered(&request).addresses;
        match before.iter().find(|address| !held.contains(address)) {
            None if !held.is_empty() => Ok(()),
            None => Err(CniError::unknown_container(
                "no address is held for the container",
            )),
            Some(address) => {
                let text = format!("{address} is not held for the container");
                Err(CniError::new(CniError::FIRST_OWN, text))
            }
        }
    }

    async fn ipam_gc(&self, request: NetworkRequest) -> Result<(), CniError> {
        self.collect(request).await
    }
}

fn refuse(pod: &Pod, error: &AttachmentError) -> CniError {
    let text = format!("{}/{}: {error}", pod.namespace, pod.name);
    if let AttachmentError::Unknown(_) = error {
        CniError::unknown_container(text)
    } else if error.is_transient() {
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

/// What ADD answered, as the runtime shows it.
fn answered(request: &Request) -> Answered {
    let Some(result) = &request.network.prev_result else {
        return Answered::default();
    };
    let interface = request.attachment.ifname.as_str();
    let inside = |one: &&Interface| one.name == interface && one.sandbox.is_some();
    Answered {
        addresses: result.ips.iter().map(|ip| ip.address.ip()).collect(),
        mac: result
            .interfaces
            .iter()
            .find(inside)
            .and_then(|one| one.mac.clone()),
    }
}

/// Keys of Calico's whose meaning would be missed silently: a pod without them is not what was asked for.
fn unsupported(config: &serde_json::Value) -> Result<(), CniError> {
    let floating = &config["feature_control"]["floating_ips"];
    if floating.as_bool() == Some(true) || floating.as_str() == Some("true") {
        return Err(CniError::unsupported_field(
            "feature_control.floating_ips",
            floating,
        ));
    }
    match config["device_type"].as_str() {
        None | Some("" | "veth") => Ok(()),
        Some(other) => Err(CniError::unsupported_field("device_type", other)),
    }
}

/// `ipam.routes`, which go into the answer as they are.
fn routes(config: &serde_json::Value) -> Result<Vec<Route>, CniError> {
    let routes = &config["ipam"]["routes"];
    if routes.is_null() {
        return Ok(Vec::new());
    }
    serde::Deserialize::deserialize(routes)
        .map_err(|error| CniError::config(format!("ipam.routes: {error}")))
}

/// 50 while no pod could be added; 51 when beside that those that run may be cut off.
fn status(facts: &Facts) -> Result<(), CniError> {
    if facts.locked {
        return Err(CniError::new(CniError::PLUGIN_NOT_AVAILABLE, LOCKED));
    }
    if !facts.ready {
        return Err(CniError::new(
            CniError::PLUGIN_NOT_AVAILABLE,
            "the node agent is not ready",
        )
        .with_details(facts.reasons.join("; ")));
    }
    if !facts.limited.is_empty() {
        return Err(CniError::new(
            CniError::LIMITED_CONNECTIVITY,
            "the node's network cannot be programmed",
        )
        .with_details(facts.limited.join("; ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
