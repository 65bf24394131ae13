//! `policy`: what policies allow, and why. Answers of the reference evaluator, from a store or from manifests.

mod case;
mod cluster;
mod reach;
mod report;
mod source;

use std::net::IpAddr;

use ocicat_policy::{Flow, Trace};

use crate::cli;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::files;
use crate::output::{self, Format};

pub use case::{Case, Expect, read};
pub use cluster::Cluster;
pub(crate) use cluster::flow;
pub use report::{Outcome, Report};
pub(crate) use source::stored;

/// Does what the arguments say.
///
/// # Errors
/// [`Failure::Found`] when a case does not hold, or a change opens something.
pub async fn run(global: &cli::Global, command: cli::Policy) -> Result<(), Failure> {
    let format = global.output.format();
    match command {
        cli::Policy::Explain(connection) => {
            let cluster = stored(&Connection::open(global)?).await?;
            explain(&cluster, &connection, format)
        }
        cli::Policy::Test {
            files,
            manifests,
            strictness,
            junit,
        } => {
            let cluster = if manifests.is_empty() {
                stored(&Connection::open(global)?).await?
            } else {
                let strict = strictness.validate;
                Cluster::of(&files::read(&manifests, false, None, strict)?)?
            };
            test(&cluster, &files, junit.as_deref(), format)
        }
        cli::Policy::Matrix { outside, namespace } => {
            let cluster = stored(&Connection::open(global)?).await?;
            reach::matrix(&cluster, &outside, namespace.as_deref(), format)
        }
        cli::Policy::Diff {
            filename,
            strictness,
            delete,
            outside,
        } => {
            let at = Connection::open(global)?;
            let changed = files::read(&filename, at.kubernetes, None, strictness.validate)?;
            reach::diff(&at, changed, delete, &outside, format).await
        }
    }
}

fn explain(cluster: &Cluster, connection: &cli::Connection, format: Format) -> Result<(), Failure> {
    let traces: Vec<Trace> = flows(cluster, connection)?
        .iter()
        .map(|flow| cluster.model().evaluate(flow))
        .collect();
    for trace in traces {
        match output::value(&trace, format)? {
            Some(text) => println!("{text}"),
            None => println!("{trace}"),
        }
    }
    Ok(())
}

/// The flows of a connection, one for each pair of addresses of the same family.
///
/// # Errors
/// [`Failure::NotFound`] for a pod that is not there; a protocol that is none, a port that is missing.
pub(crate) fn flows(cluster: &Cluster, connection: &cli::Connection) -> Result<Vec<Flow>, Failure> {
    let (from, to) = (
        side(cluster, &connection.from)?,
        side(cluster, &connection.to)?,
    );
    let protocol = case::protocol_named(&connection.protocol);
    let protocol = protocol.ok_or_else(|| {
        Failure::Usage("--protocol: expected tcp, udp, sctp, icmp or 0-255".into())
    })?;
    if protocol.has_ports() && connection.port.is_none() {
        return Err(Failure::Usage(format!("--port: {protocol} needs one")));
    }
    let mut flows = Vec::new();
    for source in &from {
        let same_family = |to: &&IpAddr| to.is_ipv4() == source.is_ipv4();
        for destination in to.iter().filter(same_family) {
            flows.push(cluster::flow(
                protocol,
                connection.port,
                *source,
                *destination,
            ));
        }
    }
    if flows.is_empty() {
        let (from, to) = (&connection.from, &connection.to);
        return Err(Failure::Failed(format!(
            "{from} and {to} have no addresses of the same family"
        )));
    }
    Ok(flows)
}

fn side(cluster: &Cluster, text: &str) -> Result<Vec<IpAddr>, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let addresses = cluster.pod(text);
    if addresses.is_empty() {
        return Err(Failure::NotFound(format!(
            "there is no pod {text} with an address; name it as NAMESPACE/POD"
        )));
    }
    Ok(addresses.to_vec())
}

fn test(
    cluster: &Cluster,
    paths: &[std::path::PathBuf],
    junit: Option<&std::path::Path>,
    format: Format,
) -> Result<(), Failure> {
    let mut report = Report::default();
    for path in paths {
        let (name, text) = files::text(path)?;
        for (case, document) in read(&name, &text)? {
            report.outcomes.push(cluster.check(&case, &document)?);
        }
    }
    if let Some(path) = junit {
        std::fs::write(path, report.junit("policy"))
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    }
    if format.is_json() {
        print!("{}", report.json());
    } else {
        print!("{}", report.text());
    }
    match report.failed() {
        0 => Ok(()),
        failed => Err(Failure::Found(format!("{failed} cases do not hold"))),
    }
}
