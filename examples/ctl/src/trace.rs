//! `trace`: the way of a packet.

mod real;
mod seen;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use ocicat_dataplane::hop::{self, Encapsulation, Toward, When};
use ocicat_datastore::model::{BlockAffinity, IpPool, Node, WorkloadEndpoint};
use ocicat_node::control::Client;
use ocicat_policy::Flow;
use serde_json::{Value, json};

use crate::cli::{self, Global};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output;
use crate::policy::{flows, stored};

/// What is known about where addresses are.
struct Map {
    endpoints: Vec<(IpAddr, WorkloadEndpoint)>,
    nodes: Vec<Node>,
    pools: Vec<(IpNetwork, IpPool)>,
    blocks: Vec<(IpNetwork, String)>,
}

impl Map {
    async fn read(at: &Connection) -> Result<Self, Failure> {
        let mut endpoints = Vec::new();
        for endpoint in at.store.list::<WorkloadEndpoint>().await? {
            for text in endpoint.spec.ip_networks.clone() {
                let address = text.split('/').next().and_then(|text| text.parse().ok());
                endpoints.extend(address.map(|address| (address, endpoint.value.clone())));
            }
        }
        let pools = at.store.list::<IpPool>().await?.into_iter();
        let claims = at.store.list::<BlockAffinity>().await?.into_iter();
        let confirmed = claims.filter(|one| matches!(one.spec.state.as_str(), "" | "confirmed"));
        let nodes = at.store.list::<Node>().await?.into_iter();
        Ok(Self {
            endpoints,
            nodes: nodes.map(|one| one.value).collect(),
            pools: pools
                .filter_map(|one| Some((one.spec.cidr.parse().ok()?, one.value)))
                .collect(),
            blocks: confirmed
                .filter_map(|one| Some((one.spec.cidr.parse().ok()?, one.value.spec.node)))
                .collect(),
        })
    }

    fn endpoint(&self, address: IpAddr) -> Option<&WorkloadEndpoint> {
        let mut all = self.endpoints.iter();
        all.find(|(one, _)| *one == address)
            .map(|(_, endpoint)| endpoint)
    }

    fn node_address(&self, name: &str, v4: bool) -> Option<IpNetwork> {
        let node = self.nodes.iter().find(|node| node.metadata.name == name)?;
        let bgp = node.spec.bgp.as_ref()?;
        let text = if v4 {
            &bgp.ipv4_address
        } else {
            &bgp.ipv6_address
        };
        text.as_ref()?.parse().ok()
    }

    fn pool(&self, address: IpAddr) -> Option<&IpPool> {
        let mut all = self.pools.iter();
        all.find(|(cidr, _)| cidr.contains(address))
            .map(|(_, pool)| pool)
    }

    /// The hops of a flow, in words.
    fn hops(&self, flow: &Flow) -> Vec<String> {
        let (source, destination) = (flow.source, flow.destination);
        let (from, to) = (self.endpoint(source), self.endpoint(destination));
        let mut hops = Vec::new();
        match from {
            Some(endpoint) => hops.push(leaves(source, endpoint)),
            None => hops.push(format!("{source} is outside the cluster")),
        }
        match (from, to) {
            (Some(from), Some(to)) if from.spec.node == to.spec.node => {
                hops.push(format!("node {} routes it", from.spec.node));
            }
            (Some(from), Some(to)) => {
                hops.push(self.between(&from.spec.node, &to.spec.node, destination));
            }
            (Some(from), None) => hops.push(self.outward(source, destination, &from.spec.node)),
            (None, Some(to)) => hops.push(self.inward(destination, &to.spec.node)),
            (None, None) => {}
        }
        match to {
            Some(endpoint) => hops.push(arrives(destination, endpoint)),
            None => hops.push(format!("{destination} is outside the cluster")),
        }
        hops
    }

    fn between(&self, from: &str, to: &str, destination: IpAddr) -> String {
        let v4 = destination.is_ipv4();
        let pool = self.pool(destination);
        let name = pool.map_or("no pool", |pool| pool.metadata.name.as_str());
        let (own, remote) = (self.node_address(from, v4), self.node_address(to, v4));
        let (Some(own), Some(remote)) = (own, remote) else {
            return format!(
                "node {from} has no route: {from} or {to} has no BGP address in its Node object"
            );
        };
        let how = match hop::toward(encapsulation(pool), &[own], remote.ip()) {
            Toward::Neighbour => "straight, both are in one subnet".to_owned(),
            Toward::Routed => "through the routers between them".to_owned(),
            Toward::Ipip => "in IPIP by tunl0 (20 bytes of overhead)".to_owned(),
            Toward::Vxlan if v4 => "in VXLAN by vxlan.calico (50 bytes of overhead)".to_owned(),
            Toward::Vxlan => "in VXLAN by vxlan-v6.calico (70 bytes of overhead)".to_owned(),
        };
        let borrowed = self
            .blocks
            .iter()
            .find(|(block, _)| block.contains(destination));
        let borrowed = match borrowed {
            Some((block, owner)) if owner != to => {
                format!(
                    "; the address is borrowed from block {block} of {owner}, so there is a route for it alone"
                )
            }
            _ => String::new(),
        };
        let remote = remote.ip();
        format!("node {from} sends it to node {to} ({remote}) {how}, as pool {name} says{borrowed}")
    }

    fn outward(&self, source: IpAddr, destination: IpAddr, node: &str) -> String {
        let masqueraded = self.pool(source).is_some_and(|pool| pool.spec.nat_outgoing)
            && self.pool(destination).is_none();
        if masqueraded {
            format!("node {node} masquerades it (natOutgoing) and sends it by its own routes")
        } else {
            format!("node {node} sends it by its own routes, source unchanged")
        }
    }

    fn inward(&self, destination: IpAddr, node: &str) -> String {
        let mut blocks = self.blocks.iter();
        match blocks.find(|(block, _)| block.contains(destination)) {
            Some((block, owner)) => {
                format!("routers that know block {block} send it to node {owner}")
            }
            None => format!("node {node} announces {destination} alone"),
        }
    }
}

fn leaves(address: IpAddr, endpoint: &WorkloadEndpoint) -> String {
    let (pod, link, node) = place(endpoint);
    format!("pod {pod} ({address}) sends it by {link} into node {node}")
}

fn arrives(address: IpAddr, endpoint: &WorkloadEndpoint) -> String {
    let (pod, link, node) = place(endpoint);
    format!("node {node} hands it by {link} to pod {pod} ({address})")
}

/// A pod as `namespace/name`, the node's end of its link, and its node.
fn place(endpoint: &WorkloadEndpoint) -> (String, &str, &str) {
    let spec = &endpoint.spec;
    let pod = spec.pod.as_deref().unwrap_or(&endpoint.metadata.name);
    let namespace = endpoint.metadata.namespace.as_deref().unwrap_or_default();
    let link = spec.interface_name.as_deref().unwrap_or("?");
    (format!("{namespace}/{pod}"), link, &spec.node)
}

fn encapsulation(pool: Option<&IpPool>) -> Encapsulation {
    let when = |text: Option<&String>| match text.map(String::as_str) {
        Some("Always") => When::Always,
        Some("CrossSubnet") => When::CrossSubnet,
        _ => When::Never,
    };
    Encapsulation {
        ipip: when(pool.and_then(|pool| pool.spec.ipip_mode.as_ref())),
        vxlan: when(pool.and_then(|pool| pool.spec.vxlan_mode.as_ref())),
    }
}

/// Prints the hops and the evaluator's answer of each flow; with `--real` also what kernels did.
///
/// # Errors
/// When the pods are not there, or the datastore fails; [`Failure::Found`] when a kernel decided otherwise than the evaluator.
pub async fn run(at: &Connection, global: &Global, args: &cli::Trace) -> Result<(), Failure> {
    let cluster = stored(at).await?;
    let map = Map::read(at).await?;
    let mut values: Vec<Value> = Vec::new();
    let mut differ = 0;
    for flow in flows(&cluster, &args.connection)? {
        let hops = map.hops(&flow);
        let trace = cluster.model().evaluate(&flow);
        let people = output::value(&(), global.output.format())?.is_none();
        if people {
            for (index, hop) in hops.iter().enumerate() {
                println!("{:>2}. {hop}", index + 1);
            }
            println!("{trace}");
        }
        let mut value = json!({"hops": hops, "policy": trace});
        if args.real {
            let destination = map.endpoint(flow.destination).map(arrival);
            let seen = real::watch(
                &flow,
                args,
                &here(global),
                &destination,
                global.output.format(),
            )
            .await?;
            let evaluated = trace.is_allowed();
            differ += usize::from(seen.allowed.is_some_and(|kernel| kernel != evaluated));
            if people {
                println!("{}", compared(seen.allowed, evaluated, &destination));
            }
            value["seen"] = json!(seen);
        }
        values.push(value);
    }
    if let Some(text) = output::value(&values, global.output.format())? {
        println!("{text}");
    }
    match differ {
        0 => Ok(()),
        _ => Err(Failure::Found(
            "the kernel decided otherwise than policy says".to_owned(),
        )),
    }
}

/// The node and link by which a pod gets its packets.
fn arrival(endpoint: &WorkloadEndpoint) -> (String, String) {
    let (_, link, node) = place(endpoint);
    (node.to_owned(), link.to_owned())
}

/// The name of this node, as its agent has it.
fn here(global: &Global) -> String {
    let status = Client::new(global.run.join("node.sock")).status();
    status.map_or_else(|_| "this node".to_owned(), |status| status.node)
}

/// The kernel's answer beside the evaluator's.
fn compared(kernel: Option<bool>, evaluator: bool, destination: &real::Destination) -> String {
    let word = |allowed| if allowed { "allow" } else { "deny" };
    match (kernel, destination) {
        (Some(kernel), _) if kernel == evaluator => {
            format!("kernel: {}, as the evaluator says", word(kernel))
        }
        (Some(kernel), _) => {
            let (kernel, evaluator) = (word(kernel), word(evaluator));
            format!("kernel: {kernel}, but the evaluator says {evaluator}")
        }
        (None, Some((node, _))) => format!(
            "kernel: nobody who was watched dropped it, and it was not seen leaving {node} for the pod (--on {node}=COMMAND watches there)"
        ),
        (None, None) => "kernel: nobody who was watched dropped it".to_owned(),
    }
}
