//! `connectivity test`: what can be reached from this node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ocicat_datastore::model::{BgpConfiguration, Node, WorkloadEndpoint};
use serde_json::json;
use tokio::net::TcpStream;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::table::Table;

/// A question and its answer.
struct Answer {
    what: String,
    address: SocketAddr,
    result: Result<Duration, String>,
}

/// Asks every node's BGP port, and a port of one pod of each node: a pod that refuses the connection has been reached.
///
/// # Errors
/// [`Failure::Found`] when something does not answer.
pub async fn run(at: &Connection, timeout: u64, format: Format) -> Result<(), Failure> {
    let limit = Duration::from_millis(timeout);
    let port = at.store.get::<BgpConfiguration>("default").await?;
    let port = port.and_then(|one| one.spec.listen_port).unwrap_or(179);
    let mut questions = Vec::new();
    for node in &at.store.list::<Node>().await? {
        let name = &node.metadata.name;
        let bgp = node.spec.bgp.iter();
        let addresses = bgp.flat_map(|bgp| [&bgp.ipv4_address, &bgp.ipv6_address]);
        for address in addresses.flatten().filter_map(|text| address(text)) {
            questions.push((format!("BGP of {name}"), SocketAddr::new(address, port)));
        }
    }
    for (node, (pod, address)) in pods(at).await? {
        questions.push((format!("pod {pod} on {node}"), SocketAddr::new(address, 9)));
    }
    let mut answers = Vec::new();
    for (what, address) in questions {
        answers.push(ask(what, address, limit).await);
    }
    print(&answers, format)
}

/// One pod of each node.
async fn pods(at: &Connection) -> Result<BTreeMap<String, (String, IpAddr)>, Failure> {
    let mut pods = BTreeMap::new();
    for endpoint in &at.store.list::<WorkloadEndpoint>().await? {
        let namespace = endpoint.metadata.namespace.clone().unwrap_or_default();
        let pod = endpoint
            .spec
            .pod
            .as_ref()
            .unwrap_or(&endpoint.metadata.name);
        let networks = endpoint.spec.ip_networks.first();
        if let Some(address) = networks.and_then(|text| address(text)) {
            let found = (format!("{namespace}/{pod}"), address);
            pods.entry(endpoint.spec.node.clone()).or_insert(found);
        }
    }
    Ok(pods)
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

async fn ask(what: String, address: SocketAddr, limit: Duration) -> Answer {
    let began = Instant::now();
    let result = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Err(_) => Err("no answer: no route, or a policy denies it".to_owned()),
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::ConnectionRefused => {
            Err(error.to_string())
        }
        // A refusal is an answer, too: somebody is there.
        Ok(_) => Ok(began.elapsed()),
    };
    Answer {
        what,
        address,
        result,
    }
}

fn print(answers: &[Answer], format: Format) -> Result<(), Failure> {
    let value = |answer: &Answer| {
        json!({
            "what": answer.what, "address": answer.address, "reached": answer.result.is_ok(),
            "ms": answer.result.as_ref().ok().map(Duration::as_millis),
            "why": answer.result.as_ref().err(),
        })
    };
    let values: Vec<_> = answers.iter().map(value).collect();
    match output::value(&values, format)? {
        Some(text) => println!("{text}"),
        None => {
            let mut table = Table::new(["WHAT", "ADDRESS", "RESULT"]);
            for answer in answers {
                let result = match &answer.result {
                    Ok(time) => format!("reached in {:.1} ms", time.as_secs_f64() * 1000.0),
                    Err(why) => why.clone(),
                };
                table.row([answer.what.clone(), answer.address.to_string(), result]);
            }
            println!("{table}");
        }
    }
    match answers
        .iter()
        .filter(|answer| answer.result.is_err())
        .count()
    {
        0 => Ok(()),
        silent => Err(Failure::Found(format!(
            "{silent} of {} do not answer",
            answers.len()
        ))),
    }
}
