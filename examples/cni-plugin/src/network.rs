use std::fs::File;
use std::os::fd::AsFd;

use ocicat_cni::agent::{CallError, NetworkRequest, Request, Tombstones};
use ocicat_cni::{
    AddResult, Call, CniError, GcCall, NetworkConfig, Plugin, PluginName, Rollback, StatusCall,
};
use ocicat_dataplane::linux::LinuxAttach;
use ocicat_dataplane::{Attach, Detachment, names};

use crate::Config;

/// The plugin of a network whose pods the node agent attaches.
///
/// | | agent there | agent not there, or not in sync |
/// |---|---|---|
/// | ADD | its answer | code 11, nothing half made |
/// | DEL | its answer | the kernel's side is removed here, the rest is noted for the agent: success |
/// | CHECK, GC | its answer | code 11 |
/// | STATUS | its answer | code 50 |
///
/// An `ipam.type` other than `ocicat-ipam` and `calico-ipam` is another plugin: it is run here, and its result goes along.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network;

impl Plugin for Network {
    type Config = Config;

    fn add(&self, call: Call<Config>) -> Result<AddResult, CniError> {
        let netns = call.open_netns()?;
        let mut request = Request::from_call(&call);
        let notes = call.config.tombstones();
        if notes.contains(&request, false) {
            // The id has come back before the agent has heard of the DEL: its late removal would hit this container.
            call.config.client().del(&request, Some(netns.as_fd()))?;
            forget(&notes, &request, false)?;
        }
        Rollback::scope(|rollback| {
            if let Some(ipam) = delegate(&call.network) {
                request = request.ipam_result(call.delegate_add(ipam)?);
                rollback.push("releasing the addresses", || call.delegate_del(ipam));
            }
            Ok(call.config.client().add(&request, netns.as_fd())?)
        })
    }

    fn del(&self, call: Call<Config>) -> Result<(), CniError> {
        let request = Request::from_call(&call);
        // A namespace that is gone has taken its links along; everything else goes by names.
        let netns = call.netns.as_deref().and_then(|path| File::open(path).ok());
        let outcome = match call
            .config
            .client()
            .del(&request, netns.as_ref().map(AsFd::as_fd))
        {
            Err(error) if is_absent(&error) => detach_without_agent(&call, &request),
            Ok(()) => forget(&call.config.tombstones(), &request, false),
            Err(error) => Err(error.into()),
        };
        let released = delegate(&call.network).map_or(Ok(()), |ipam| call.delegate_del(ipam));
        both(outcome, released)
    }

    fn check(&self, call: Call<Config>) -> Result<(), CniError> {
        let netns = call.open_netns()?;
        if let Some(ipam) = delegate(&call.network) {
            call.delegate_check(ipam)?;
        }
        Ok(call
            .config
            .client()
            .check(&Request::from_call(&call), netns.as_fd())?)
    }

    fn gc(&self, call: GcCall<Config>) -> Result<(), CniError> {
        let outcome = call.config.client().gc(&NetworkRequest::from_gc(&call));
        let released = delegate(&call.network).map_or(Ok(()), |ipam| call.delegate(ipam));
        both(outcome.map_err(CniError::from), released)
    }

    fn status(&self, call: StatusCall<Config>) -> Result<(), CniError> {
        call.config
            .client()
            .status(&NetworkRequest::from_status(&call))
            .map_err(unavailable)?;
        delegate(&call.network).map_or(Ok(()), |ipam| call.delegate(ipam))
    }
}

/// The IPAM plugin that is not the agent itself. Calico's configuration names its own, which the agent stands for.
fn delegate(network: &NetworkConfig) -> Option<&PluginName> {
    network
        .ipam
        .as_ref()
        .filter(|ipam| !matches!(ipam.as_str(), "ocicat-ipam" | "calico-ipam"))
}

/// Whether the agent has perhaps done nothing: it is not there, has died, or says that it cannot yet.
pub(crate) fn is_absent(error: &CallError) -> bool {
    match error {
        CallError::Refused(error) => error.code == CniError::TRY_AGAIN_LATER,
        other => other.is_unanswered(),
    }
}

/// Removes the note of a DEL that the agent has done since.
pub(crate) fn forget(notes: &Tombstones, request: &Request, ipam: bool) -> Result<(), CniError> {
    notes
        .remove(request, ipam)
        .map_err(|error| CniError::io(error.to_string(), error.source))
}

/// STATUS has numbers of its own for an agent that is not there.
pub(crate) fn unavailable(error: CallError) -> CniError {
    let absent = is_absent(&error);
    let mut error = CniError::from(error);
    if absent {
        error.code = CniError::PLUGIN_NOT_AVAILABLE;
    }
    error
}

/// Removes the node's end of the link, with which everything in the kernel goes, and leaves a note for the agent.
fn detach_without_agent(call: &Call<Config>, request: &Request) -> Result<(), CniError> {
    let noted = call.config.tombstones().write(request, false);
    let noted = noted.map_err(|error| CniError::io(error.to_string(), error.source));
    host_links(call)
        .into_iter()
        .fold(noted, |outcome, host_link| {
            both(outcome, detach(call, host_link))
        })
}

fn detach(
    call: &Call<Config>,
    host_link: ocicat_dataplane::state::LinkName,
) -> Result<(), CniError> {
    let attachment = &call.attachment;
    let alias = names::alias(attachment.container_id.as_str(), attachment.ifname.as_str());
    let attempt = format!("removing link {host_link}");
    match LinuxAttach::new().detach(&Detachment { host_link, alias }) {
        Ok(_) => Ok(()),
        Err(error) => Err(CniError::io(attempt, error)),
    }
}

/// The names that the agent may have given the node's end; the alias tells whether it is this container's.
fn host_links(call: &Call<Config>) -> Vec<ocicat_dataplane::state::LinkName> {
    let attachment = &call.attachment;
    let (container, interface) = (attachment.container_id.as_str(), attachment.ifname.as_str());
    let mut links = vec![names::container_link(
        call.network.name.as_str(),
        container,
        interface,
    )];
    let pod = (
        call.args.get("K8S_POD_NAMESPACE"),
        call.args.get("K8S_POD_NAME"),
    );
    if let (Some(namespace), Some(pod)) = pod {
        links.push(names::pod_link(namespace, pod));
    }
    links
}

/// Two steps of which the second is tried in any case: the first error, with the second in its details.
pub(crate) fn both(
    first: Result<(), CniError>,
    second: Result<(), CniError>,
) -> Result<(), CniError> {
    match (first, second) {
        (Err(first), Err(second)) => Err(first.with_details(second.to_string())),
        (first, second) => first.and(second),
    }
}
