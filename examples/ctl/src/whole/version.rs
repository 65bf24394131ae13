//! `version`: of this program, of this node's agent, of the cluster, and whether they fit.

use ocicat_datastore::model::ClusterInformation;
use ocicat_node::control::Client;
use serde_json::json;

use crate::cli::Global;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output;

/// Prints what can be found out; what does not answer is said.
///
/// # Errors
/// When the output cannot be written as asked.
pub async fn run(global: &Global) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let agent = Client::new(global.run.join("node.sock")).status();
    let agent = agent.map(|status| status.version).map_err(Failure::from);
    let cluster = cluster(global).await;
    let skew = agent.as_deref().ok().and_then(|agent| skew(own, agent));
    let shown = |answer: &Result<String, Failure>| match answer {
        Ok(text) => text.clone(),
        Err(failure) => failure.to_string(),
    };
    let value = json!({
        "client": own, "agent": shown(&agent), "cluster": shown(&cluster), "skew": skew,
    });
    if let Some(text) = output::value(&value, global.output.format())? {
        println!("{text}");
        return Ok(());
    }
    println!("Client:  {own}");
    println!("Agent:   {}", shown(&agent));
    println!("Cluster: {}", shown(&cluster));
    if let Some(skew) = skew {
        println!("{skew}");
    }
    Ok(())
}

async fn cluster(global: &Global) -> Result<String, Failure> {
    let at = Connection::open(global)?;
    let information = at.store.get::<ClusterInformation>("default").await?;
    let spec = information.map(|one| one.value.spec).unwrap_or_default();
    let locked = if spec.datastore_ready == Some(false) {
        ", locked"
    } else {
        ""
    };
    let version = spec
        .calico_version
        .unwrap_or_else(|| "no version stated".into());
    let kind = spec
        .cluster_type
        .map(|kind| format!(" ({kind})"))
        .unwrap_or_default();
    Ok(format!("{version}{kind} in {}{locked}", at.url))
}

/// What to do about versions that are further apart than one.
fn skew(client: &str, agent: &str) -> Option<String> {
    let minor = |version: &str| {
        let mut parts = version.split('.').map(str::parse::<i64>);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    };
    let ((ours, one), (theirs, other)) = (minor(client)?, minor(agent)?);
    if ours == theirs && (one - other).abs() <= 1 {
        return None;
    }
    let older = if (ours, one) < (theirs, other) {
        "ocicatctl"
    } else {
        "ocicat-node"
    };
    Some(format!(
        "ocicatctl {client} and ocicat-node {agent} are more than one version apart: upgrade {older}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_versions_fit() {
        for (client, agent, fits) in [
            ("0.1.0", "0.2.3", true),
            ("0.3.0", "0.1.0", false),
            ("1.0.0", "0.9.0", false),
            ("0.1.0", "0.1.9", true),
        ] {
            assert_eq!(skew(client, agent).is_none(), fits, "{client} {agent}");
        }
        assert!(skew("0.3.0", "0.1.0").is_some_and(|text| text.ends_with("ocicat-node")));
    }
}
