use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::Ipv4Network;
use ocicat_cni::{
    AddResult, AttachmentId, Call, CniError, GcCall, Interface, IpConfig, NetworkConfig, Plugin,
    Rollback, Route, StatusCall,
};

use crate::addresses::Addresses;
use crate::bridge;

/// The plugin: a bridge for each network, an address that sticks to a pod's name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manul;

/// The keys of Manul's configuration.
#[derive(Clone, Debug, serde::Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// The bridge's name. Default: manul0.
    #[serde(default = "default_bridge")]
    pub bridge: String,
    /// The network's range, such as 10.80.0.0/24: /20 to /30. Its second address is the bridge's.
    pub range: String,
    /// Where addresses are written down. Default: sqlite:/var/lib/manul/manul.db?prefix=/manul.
    #[serde(default = "default_datastore")]
    pub datastore: String,
}

fn default_bridge() -> String {
    "manul0".to_owned()
}

fn default_datastore() -> String {
    "sqlite:/var/lib/manul/manul.db?prefix=/manul".to_owned()
}

impl Config {
    fn range(&self) -> Result<Ipv4Network, CniError> {
        let range: Result<Ipv4Network, _> = self.range.parse();
        let range = range.map_err(|cause| CniError::config(format!("range: {cause}")))?;
        if range.ip() != range.network() || !(20..=30).contains(&range.prefix()) {
            return Err(CniError::unsupported_field("range", range));
        }
        Ok(range)
    }

    fn addresses(&self, network: &NetworkConfig) -> Result<Addresses, CniError> {
        Addresses::open(&self.datastore, network.name.as_str(), self.range()?)
    }
}

fn host_link(network: &NetworkConfig, at: &AttachmentId) -> String {
    at.host_link("man", &network.name)
}

/// Both are tried: the link, then the address.
fn undo(held: &Addresses, network: &NetworkConfig, at: &AttachmentId) -> Result<(), CniError> {
    let removed = bridge::remove(&host_link(network, at));
    let released = held.release(at);
    removed.and(released)
}

impl Plugin for Manul {
    type Config = Config;

    fn add(&self, call: Call<Config>) -> Result<AddResult, CniError> {
        let (netns, range) = (call.open_netns()?, call.config.range()?);
        let (network, at) = (&call.network, &call.attachment);
        let (link, inside) = (host_link(network, at), at.ifname.as_str());
        if bridge::exists(&link) {
            return Err(CniError::new(
                CniError::FIRST_OWN,
                format!("{at} is attached already"),
            ));
        }
        let gateway = Ipv4Addr::from(u32::from(range.ip()) + 1);
        let in_range = |address| {
            Ipv4Network::new(address, range.prefix())
                .map_err(|cause| CniError::internal(cause.to_string()))
        };
        let pod = call
            .args
            .get("K8S_POD_NAME")
            .unwrap_or(at.container_id.as_str());
        let held = call.config.addresses(network)?;
        Rollback::scope(|rollback| {
            rollback.push("detaching", || undo(&held, network, at));
            let IpAddr::V4(address) = held.assign(at, pod)? else {
                return Err(CniError::internal("an address of the wrong family"));
            };
            let (address, bridge) = (in_range(address)?, in_range(gateway)?);
            bridge::connect((&call.config.bridge, bridge), (&link, inside), &netns)?;
            bridge::configure(&netns, inside, address, gateway)?;
            let sandbox = call.netns.clone().unwrap_or_default();
            let mac = bridge::within(&netns, || bridge::mac(inside))?;
            let end = Interface::new(inside).mac(mac);
            Ok(AddResult::new()
                .interface(Interface::new(&link).mac(bridge::mac(&link)?))
                .interface(end.sandbox(sandbox.to_string_lossy()))
                .ip(IpConfig::new(address.into())
                    .interface(1)
                    .gateway(gateway.into()))
                .route(Route::default_via(gateway.into())))
        })
    }

    fn del(&self, call: Call<Config>) -> Result<(), CniError> {
        undo(
            &call.config.addresses(&call.network)?,
            &call.network,
            &call.attachment,
        )
    }

    fn check(&self, call: Call<Config>) -> Result<(), CniError> {
        let (netns, at) = (call.open_netns()?, &call.attachment);
        let differs = |what| Err(CniError::new(CniError::FIRST_OWN, format!("{at}: {what}")));
        let told = call.network.prev_result.as_ref().map(|result| &result.ips);
        let told: Vec<_> = told
            .into_iter()
            .flatten()
            .map(|ip| ip.address.ip())
            .collect();
        let held = call.config.addresses(&call.network)?.held_by(at)?;
        let there = bridge::within(&netns, || bridge::addresses(at.ifname.as_str()))?;
        let among = |list: &[IpAddr]| held.iter().all(|address| list.contains(address));
        match () {
            () if !bridge::exists(&host_link(&call.network, at)) => differs("the link is gone"),
            () if held.is_empty() || !among(&told) => differs("holds other addresses"),
            () if !among(&there) => differs("the link has lost its address"),
            () => Ok(()),
        }
    }

    fn gc(&self, call: GcCall<Config>) -> Result<(), CniError> {
        let held = call.config.addresses(&call.network)?;
        let mut lost = held.attachments()?;
        lost.retain(|at| !call.keep.contains(at));
        // One that fails does not stop the rest; the first error is told.
        lost.iter()
            .map(|at| undo(&held, &call.network, at))
            .fold(Ok(()), Result::and)
    }

    fn status(&self, call: StatusCall<Config>) -> Result<(), CniError> {
        call.config
            .addresses(&call.network)
            .map(drop)
            .map_err(|mut error| {
                error.code = CniError::PLUGIN_NOT_AVAILABLE;
                error
            })
    }
}
