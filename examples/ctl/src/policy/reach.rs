//! `policy matrix` and `policy diff`.

use std::net::IpAddr;

use ocicat_policy::{Change, Party, reach};
use serde_json::{Value, json};

use super::Cluster;
use super::source::manifests;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::output::{self, Format};
use crate::table::Table;

/// What may pass between all pods, and to and from addresses outside.
pub(super) fn matrix(
    cluster: &Cluster,
    outside: &[IpAddr],
    namespace: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let matrix = reach(cluster.model(), outside);
    let prefix = namespace.map(|name| format!("{name}/"));
    let wanted = |name: &str| {
        prefix
            .as_deref()
            .is_none_or(|prefix| name.starts_with(prefix))
    };
    let cells = matrix
        .iter()
        .filter(|(from, to, _)| wanted(&from.name) || wanted(&to.name));
    let cells: Vec<_> = cells.collect();
    let values = cells.iter().map(|(from, to, what)| {
        let side = |party: &Party| {
            let name = cluster.called(&party.name);
            json!({"name": name, "address": party.address})
        };
        json!({"from": side(from), "to": side(to), "what": what})
    });
    if let Some(text) = output::value(&values.collect::<Vec<Value>>(), format)? {
        println!("{text}");
        return Ok(());
    }
    let mut table = Table::new(["FROM", "TO", "ALLOWED"]);
    for (from, to, what) in cells {
        let (from, to) = (cluster.called(&from.name), cluster.called(&to.name));
        table.row([from, to, &what.to_string()]);
    }
    println!("{table}");
    println!(
        "\n{} of {} pairs reach each other",
        matrix.open(),
        matrix.possible()
    );
    Ok(())
}

/// What files would change if they were applied, or their objects deleted.
///
/// # Errors
/// [`Failure::Found`] when anything opens.
pub(super) async fn diff(
    at: &Connection,
    changed: Vec<Manifest>,
    delete: bool,
    outside: &[IpAddr],
    format: Format,
) -> Result<(), Failure> {
    let now = manifests(at).await?;
    let present = Cluster::of(&now)?;
    let before = reach(present.model(), outside);
    let keys: Vec<_> = changed.iter().map(|one| one.object.key()).collect();
    let mut later = now;
    later.retain(|one| !keys.contains(&one.object.key()));
    if !delete {
        later.extend(changed);
    }
    let future = Cluster::of(&later)?;
    let after = reach(future.model(), outside);
    let diff = ocicat_policy::diff(&before, &after);
    match output::value(&diff, format)? {
        Some(text) => println!("{text}"),
        None => {
            let line = |sign: char, change: &Change| {
                let called = |name| future.called(present.called(name));
                let from = called(&change.source.name);
                let to = called(&change.destination.name);
                println!("{sign} {from} -> {to}: {}", change.what);
            };
            diff.opened.iter().for_each(|change| line('+', change));
            diff.closed.iter().for_each(|change| line('-', change));
            println!(
                "{} pairs open, {} close",
                diff.opened.len(),
                diff.closed.len()
            );
        }
    }
    match diff.opened.len() {
        0 => Ok(()),
        opened => Err(Failure::Found(format!("{opened} pairs open"))),
    }
}
