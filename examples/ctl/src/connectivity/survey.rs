//! What is there already: BGP ports of nodes, and one container of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ocicat_dataplane::state::Protocol;
use ocicat_datastore::model::{BgpConfiguration, Node, WorkloadEndpoint};

use super::NAMESPACE;
use super::host::End;
use super::probe::Outcome;
use super::report::{Report, Row};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::policy::flow;
use crate::policy::stored;

/// A port that nobody listens on (discard, RFC 863): a refusal says that packets go there and back.
const DISCARD: u16 = 9;

/// Asks from the host every node's BGP port, and from a container of ours one container of each node. What policies say about
/// the latter is asked of the evaluator, over what is stored.
///
/// # Errors
/// When the datastore fails.
pub(super) async fn add(
    at: &Connection,
    own: &End,
    limit: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut asked = Vec::new();
    for (node, address) in nodes(at).await? {
        let outcome = tokio::task::spawn_blocking(move || knock(address, limit)).await;
        asked.push((
            "this node",
            format!("BGP of {node}"),
            address,
            true,
            outcome,
        ));
    }
    let cluster = stored(at).await?;
    let others = containers(at).await?;
    for (node, (container, addresses)) in &others {
        for to in addresses {
            let same = |from: &&IpAddr| from.is_ipv4() == to.is_ipv4();
            let Some(from) = own.addresses.iter().find(same) else {
                continue;
            };
            let flow = flow(Protocol::TCP, Some(DISCARD), *from, *to);
            let expected = cluster.model().evaluate(&flow).is_allowed();
            let address = SocketAddr::new(*to, DISCARD);
            let space = own.space.clone();
            let knocked = move || space.within(|| knock(address, limit)).unwrap_or_else(lost);
            let outcome = tokio::task::spawn_blocking(knocked).await;
            let what = format!("{container} on {node}");
            asked.push(("container stranger", what, address, expected, outcome));
        }
    }
    if others.is_empty() {
        let none = "from node to node: no other node has a container";
        report.untested.push(none.to_owned());
    }
    for (from, to, address, expected, outcome) in asked {
        report.rows.push(Row {
            test: "what is there".to_owned(),
            from: from.to_owned(),
            to,
            address: address.to_string(),
            expected,
            outcome: outcome.unwrap_or_else(|error| lost(Failure::Failed(error.to_string()))),
        });
    }
    Ok(())
}

fn lost(failure: Failure) -> Outcome {
    Outcome {
        ms: None,
        error: Some(failure.to_string()),
    }
}

/// Where the nodes listen for BGP.
async fn nodes(at: &Connection) -> Result<Vec<(String, SocketAddr)>, Failure> {
    let port = at.store.get::<BgpConfiguration>("default").await?;
    let port = port.and_then(|one| one.spec.listen_port).unwrap_or(179);
    let mut all = Vec::new();
    for node in &at.store.list::<Node>().await? {
        let bgp = node.spec.bgp.iter();
        let addresses = bgp.flat_map(|bgp| [&bgp.ipv4_address, &bgp.ipv6_address]);
        let addresses = addresses.flatten().filter_map(|text| address(text));
        let named = |address| (node.metadata.name.clone(), SocketAddr::new(address, port));
        all.extend(addresses.map(named));
    }
    Ok(all)
}

/// One container of each node, as `namespace/name`, with its addresses; ours do not count.
async fn containers(at: &Connection) -> Result<BTreeMap<String, (String, Vec<IpAddr>)>, Failure> {
    let mut found = BTreeMap::new();
    for endpoint in &at.store.list::<WorkloadEndpoint>().await? {
        let namespace = endpoint.metadata.namespace.clone().unwrap_or_default();
        if namespace == NAMESPACE {
            continue;
        }
        let spec = &endpoint.spec;
        let name = spec.pod.as_ref().unwrap_or(&endpoint.metadata.name);
        let addresses = spec.ip_networks.iter().filter_map(|text| address(text));
        let addresses: Vec<IpAddr> = addresses.collect();
        if !addresses.is_empty() {
            let one = (format!("{namespace}/{name}"), addresses);
            found.entry(spec.node.clone()).or_insert(one);
        }
    }
    Ok(found)
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// Whether anybody is there: a refused connection is an answer, too.
fn knock(to: SocketAddr, limit: Duration) -> Outcome {
    let began = Instant::now();
    match TcpStream::connect_timeout(&to, limit) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => Outcome {
            ms: None,
            error: Some(error.to_string()),
        },
        _ => Outcome {
            ms: Some(began.elapsed().as_secs_f64() * 1000.0),
            error: None,
        },
    }
}
