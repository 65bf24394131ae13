use std::net::IpAddr;

use ocicat_cni::{
    AddResult, AttachmentId, Call, CniError, GcCall, Interface, IpConfig, NetworkConfig, Plugin,
    Rollback, StatusCall,
};
use ocicat_dataplane::ipnetwork::IpNetwork;
use ocicat_dataplane::state::LinkName;
use ocicat_dataplane::{Attach, Attached, Attachment, Detachment, LinuxAttach, names};
use serde::Deserialize;

mod records;
mod uphold;

use records::{Pod, Records};

/// The plugin without an agent: for a single host, with addresses and endpoints in a datastore that `ocicatctl` reads too.
///
/// Pods are routed as with the agent: a veth pair each, a /32, the gateway 169.254.1.1. There is no policy, no BGP and no
/// address translation; an agent that is started later on the same datastore takes the pods over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

/// The keys of the network configuration that [`Direct`] reads.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct DirectConfig {
    /// The datastore's URL. Default: sqlite:/var/lib/ocicat/ocicat.db.
    #[serde(default = "default_datastore")]
    pub datastore: String,
    /// The host's name among the nodes. Default: the kernel's.
    #[serde(default)]
    pub nodename: Option<String>,
    /// A range that becomes the pool `default-ipv4-ippool` when there is no pool at all, such as 10.244.0.0/16.
    #[serde(default)]
    pub pool: Option<String>,
    /// The largest packet, in bytes. Default: 1500.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// `ipam.ipv4_pools`: the pools to take addresses from, names or ranges. Default: every pool that is for workloads.
    #[serde(default)]
    pub ipam: DirectIpam,
}

/// The keys under `ipam`.
#[derive(Clone, Debug, Default, Deserialize)]
#[non_exhaustive]
pub struct DirectIpam {
    /// Names or ranges of pools.
    #[serde(default)]
    pub ipv4_pools: Vec<String>,
}

fn default_datastore() -> String {
    "sqlite:/var/lib/ocicat/ocicat.db".to_owned()
}

impl DirectConfig {
    fn records(&self, network: &NetworkConfig) -> Result<Records, CniError> {
        let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname");
        let node = match &self.nodename {
            Some(name) => name.clone(),
            None => kernel().map_err(|cause| CniError::io("reading the host's name", cause))?,
        };
        Records::open(self, node.trim(), network.name.as_str())
    }
}

fn host_link(network: &str, pod: &Pod) -> LinkName {
    let at = &pod.attachment;
    match &pod.name {
        // Further interfaces of a pod need names of their own.
        Some((namespace, name)) if at.ifname.as_str() == "eth0" => names::pod_link(namespace, name),
        _ => names::container_link(network, at.container_id.as_str(), at.ifname.as_str()),
    }
}

fn alias(at: &AttachmentId) -> String {
    names::alias(at.container_id.as_str(), at.ifname.as_str())
}

fn detach(network: &str, pod: &Pod) -> Result<(), CniError> {
    let detachment = Detachment {
        host_link: host_link(network, pod),
        alias: alias(&pod.attachment),
    };
    let outcome = LinuxAttach::new().detach(&detachment);
    outcome
        .map(drop)
        .map_err(|error| CniError::io(format!("removing {}", detachment.host_link), error))
}

fn plan(
    call: &Call<DirectConfig>,
    pod: &Pod,
    addresses: &[IpAddr],
) -> Result<Attachment, CniError> {
    let netns = call.open_netns()?;
    let inside = LinkName::new(call.attachment.ifname.as_str());
    let inside = inside.map_err(|error| CniError::environment("CNI_IFNAME", error))?;
    let link = host_link(call.network.name.as_str(), pod);
    let attachment = Attachment::new(
        std::os::fd::OwnedFd::from(netns),
        inside,
        link,
        alias(&call.attachment),
    );
    Ok(attachment
        .addresses(addresses.iter().copied())
        .mtu(call.config.mtu.unwrap_or(1500)))
}

/// Everything of one attachment: each step is tried, the first error is told.
fn undo(records: &Records, network: &str, pod: &Pod) -> Result<(), CniError> {
    let detached = detach(network, pod);
    let forgotten = records.forget(pod);
    let released = records.release(&pod.attachment);
    detached.and(forgotten).and(released)
}

impl Plugin for Direct {
    type Config = DirectConfig;

    fn add(&self, call: Call<DirectConfig>) -> Result<AddResult, CniError> {
        call.open_netns()?;
        let network = call.network.name.as_str();
        let records = call.config.records(&call.network)?;
        let pod = Pod::of(&call.attachment, &call.args);
        let held = records.held_by(&call.attachment)?;
        if held.is_empty() {
            records.uphold(&uphold::live()?)?;
        }
        Rollback::scope(|rollback| {
            let addresses = if held.is_empty() {
                rollback.push("releasing the address", || {
                    records.release(&call.attachment)
                });
                records.assign(&pod, &call.config.ipam.ipv4_pools)?
            } else {
                held.clone()
            };
            let plan = plan(&call, &pod, &addresses)?;
            let attached = LinuxAttach::new().attach(&plan);
            let attached =
                attached.map_err(|error| CniError::io("attaching the container", error))?;
            if held.is_empty() {
                rollback.push("removing the link", || detach(network, &pod));
            }
            forward()?;
            records.remember(&pod, &addresses, &plan.host_link, &attached)?;
            Ok(result(&call, &plan.host_link, &addresses, &attached))
        })
    }

    fn del(&self, call: Call<DirectConfig>) -> Result<(), CniError> {
        let records = call.config.records(&call.network)?;
        let pod = Pod::of(&call.attachment, &call.args);
        undo(&records, call.network.name.as_str(), &pod)
    }

    fn check(&self, call: Call<DirectConfig>) -> Result<(), CniError> {
        let differs = |what: String| CniError::new(CniError::FIRST_OWN, what);
        let pod = Pod::of(&call.attachment, &call.args);
        let held = call
            .config
            .records(&call.network)?
            .held_by(&call.attachment)?;
        let told = call
            .network
            .prev_result
            .iter()
            .flat_map(|result| &result.ips);
        let mut told = told.map(|ip| ip.address.ip());
        if held.is_empty() {
            let text = format!("{} has no address", call.attachment);
            return Err(CniError::unknown_container(text));
        }
        if let Some(address) = told.find(|address| !held.contains(address)) {
            return Err(differs(format!(
                "{address} is not held for {}",
                call.attachment
            )));
        }
        let found = LinuxAttach::new().check(&plan(&call, &pod, &held)?);
        let found = found.map_err(|error| CniError::io("reading the kernel", error))?;
        match found.first() {
            None => Ok(()),
            Some(first) => Err(differs(format!(
                "{}: {} instead of {}",
                first.what, first.found, first.expected
            ))),
        }
    }

    fn gc(&self, call: GcCall<DirectConfig>) -> Result<(), CniError> {
        let network = call.network.name.as_str();
        let records = call.config.records(&call.network)?;
        let mut lost = records.pods()?;
        lost.retain(|pod| !call.keep.contains(&pod.attachment));
        lost.iter()
            .map(|pod| undo(&records, network, pod))
            .fold(Ok(()), Result::and)
    }

    fn status(&self, call: StatusCall<DirectConfig>) -> Result<(), CniError> {
        call.config
            .records(&call.network)
            .map(drop)
            .map_err(|mut error| {
                error.code = CniError::PLUGIN_NOT_AVAILABLE;
                error
            })
    }
}

/// Pods reach each other through this host.
fn forward() -> Result<(), CniError> {
    let path = "/proc/sys/net/ipv4/ip_forward";
    let on = std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1");
    if on {
        Ok(())
    } else {
        std::fs::write(path, "1").map_err(|cause| CniError::io(path, cause))
    }
}

fn result(
    call: &Call<DirectConfig>,
    host_link: &LinkName,
    addresses: &[IpAddr],
    attached: &Attached,
) -> AddResult {
    let sandbox = call.netns.clone().unwrap_or_default();
    let host = Interface::new(host_link.as_str())
        .mac(attached.host_mac.to_string())
        .mtu(attached.mtu);
    let inside =
        Interface::new(call.attachment.ifname.as_str()).mac(attached.container_mac.to_string());
    let inside = inside.mtu(attached.mtu).sandbox(sandbox.to_string_lossy());
    let result = AddResult::new().interface(host).interface(inside);
    addresses.iter().fold(result, |result, address| {
        result.ip(IpConfig::new(IpNetwork::from(*address)).interface(1))
    })
}
