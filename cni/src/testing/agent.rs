use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ipnetwork::Ipv4Network;
use tokio::sync::watch;

use crate::agent::{Agent, Caller, NetworkRequest, Request};
use crate::{AddResult, AttachmentId, CniError, Interface, IpConfig};

/// An agent in memory: hands out addresses from 10.255.0.1 on (/32; to the IPAM plugin /16 with a gateway) and remembers what is attached, by network.
///
/// Addresses that another IPAM plugin has assigned are used as they are. It keeps the rules of the real one: ADD twice gives the same answer, DEL of what is unknown is success, GC releases only what
/// belongs to its network. It can be told to fail, and to hold ADDs until a test lets them go.
#[derive(Debug)]
pub struct FakeAgent {
    state: Mutex<State>,
    held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    attached: BTreeMap<(String, AttachmentId), AddResult>,
    calls: Vec<String>,
    failures: VecDeque<CniError>,
    next: u32,
}

/// ADDs are held until this is dropped, or until their caller is gone.
#[derive(Debug)]
#[must_use = "dropped, it lets the ADDs go"]
pub struct Gate<'a> {
    agent: &'a FakeAgent,
}

impl Default for FakeAgent {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeAgent {
    /// An agent with nothing attached.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::default(),
            held: watch::channel(false).0,
        }
    }

    /// What it was called for, in order: the command, and the attachment or the network, such as `ADD a/eth0`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// What is attached to a network.
    #[must_use]
    pub fn attached(&self, network: &str) -> Vec<AttachmentId> {
        let state = self.state();
        let of_network = state.attached.keys().filter(|(name, _)| name == network);
        of_network
            .map(|(_, attachment)| attachment.clone())
            .collect()
    }

    /// Lets the next call fail with this error. Several calls queue up.
    pub fn fail_next(&self, error: CniError) {
        self.state().failures.push_back(error);
    }

    /// Holds ADDs from now on: each has noted its call, and attaches when the gate is dropped.
    pub fn hold(&self) -> Gate<'_> {
        self.held.send_replace(true);
        Gate { agent: self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: String) -> Result<(), CniError> {
        let mut state = self.state();
        state.calls.push(call);
        state.failures.pop_front().map_or(Ok(()), Err)
    }

    async fn assign(&self, request: &Request, interface: bool) -> Result<AddResult, CniError> {
        let mut held = self.held.subscribe();
        // The sender lives as long as this agent.
        let _ = held.wait_for(|held| !held).await;
        let mut state = self.state();
        let key = (request.network.name.to_string(), request.attachment.clone());
        if let Some(result) = state.attached.get(&key) {
            return Ok(result.clone());
        }
        let mut ips = match &request.ipam_result {
            Some(delegated) => delegated.ips.clone(),
            None => {
                state.next += 1;
                vec![address(state.next, interface)]
            }
        };
        let mut result = AddResult::new();
        if interface {
            let netns = request
                .netns
                .as_deref()
                .unwrap_or_else(|| std::path::Path::new(""));
            let name = request.attachment.ifname.as_str();
            result = result.interface(Interface::new(name).sandbox(netns.display().to_string()));
            ips.iter_mut().for_each(|ip| ip.interface = Some(0));
        }
        let result = ips.into_iter().fold(result, AddResult::ip);
        state.attached.insert(key, result.clone());
        Ok(result)
    }

    fn release(&self, request: &Request) {
        let key = (request.network.name.to_string(), request.attachment.clone());
        self.state().attached.remove(&key);
    }

    fn compare(&self, request: &Request) -> Result<(), CniError> {
        let key = (request.network.name.to_string(), request.attachment.clone());
        let state = self.state();
        let result = state.attached.get(&key);
        let prev = request.network.prev_result.as_ref();
        // Others may have added interfaces and gateways since.
        let addresses = |of: &AddResult| of.ips.iter().map(|ip| ip.address).collect::<Vec<_>>();
        match (result, prev) {
            (None, _) => Err(CniError::unknown_container(format!(
                "{} is not attached",
                key.1
            ))),
            (Some(result), Some(prev)) if addresses(result) != addresses(prev) => {
                Err(CniError::new(
                    CniError::FIRST_OWN,
                    format!("{} has other addresses", key.1),
                ))
            }
            _ => Ok(()),
        }
    }

    fn collect(&self, request: &NetworkRequest) {
        let network = request.network.name.as_str();
        let keep = |(name, attachment): &(String, AttachmentId)| {
            name != network || request.keep.contains(attachment)
        };
        self.state().attached.retain(|key, _| keep(key));
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.agent.held.send_replace(false);
    }
}

/// A /32 where the agent makes the interface; for other plugins, which make a subnet of it, a /16 with a gateway.
fn address(number: u32, own_interface: bool) -> IpConfig {
    let [_, _, third, fourth] = number.to_be_bytes();
    let address = Ipv4Addr::new(10, 255, third, fourth);
    let in_subnet = Ipv4Network::new(address, 16)
        .ok()
        .filter(|_| !own_interface);
    match in_subnet {
        Some(network) => {
            IpConfig::new(network.into()).gateway(Ipv4Addr::new(10, 255, 255, 254).into())
        }
        None => IpConfig::new(Ipv4Network::from(address).into()),
    }
}

#[async_trait]
impl Agent for FakeAgent {
    async fn add(&self, request: Request, _: OwnedFd, _: Caller) -> Result<AddResult, CniError> {
        self.note(format!("ADD {}", request.attachment))?;
        self.assign(&request, true).await
    }

    async fn del(&self, request: Request, _: Option<OwnedFd>) -> Result<(), CniError> {
        self.note(format!("DEL {}", request.attachment))?;
        self.release(&request);
        Ok(())
    }

    async fn check(&self, request: Request, _: OwnedFd) -> Result<(), CniError> {
        self.note(format!("CHECK {}", request.attachment))?;
        self.compare(&request)
    }

    async fn gc(&self, request: NetworkRequest) -> Result<(), CniError> {
        self.note(format!("GC {}", request.network.name))?;
        self.collect(&request);
        Ok(())
    }

    async fn status(&self, request: NetworkRequest) -> Result<(), CniError> {
        self.note(format!("STATUS {}", request.network.name))
    }

    async fn ipam_add(&self, request: Request, _: Caller) -> Result<AddResult, CniError> {
        self.note(format!("IPAM ADD {}", request.attachment))?;
        self.assign(&request, false).await
    }

    async fn ipam_del(&self, request: Request) -> Result<(), CniError> {
        self.note(format!("IPAM DEL {}", request.attachment))?;
        self.release(&request);
        Ok(())
    }

    async fn ipam_check(&self, request: Request) -> Result<(), CniError> {
        self.note(format!("IPAM CHECK {}", request.attachment))?;
        self.compare(&request)
    }

    async fn ipam_gc(&self, request: NetworkRequest) -> Result<(), CniError> {
        self.note(format!("IPAM GC {}", request.network.name))?;
        self.collect(&request);
        Ok(())
    }
}
