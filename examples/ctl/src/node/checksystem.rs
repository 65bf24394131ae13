//! `node checksystem`: what this kernel can do.

use ocicat_dataplane::linux::Feature;
use ocicat_node::config::Config;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output;
use crate::table::Table;

/// What many kernels are built without, and what takes its place; missing alone it is no failure.
const OPTIONAL: [&str; 1] = ["ipip"];

/// Tries every feature in a network namespace of its own, with the settings where the node's configuration has them.
pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    let format = global.output.format();
    let path = global.config.exists().then_some(global.config.as_path());
    let config = Config::load(path, ocicat_node::config::variables());
    let config = config.map_err(|error| Failure::Failed(error.to_string()))?;
    let probe = move || ocicat_dataplane::linux::probe_with(config.paths.sysctl.as_deref());
    let features = tokio::task::spawn_blocking(probe).await;
    let features = features.map_err(|error| Failure::Failed(error.to_string()))?;
    let value = |feature: &Feature| {
        serde_json::json!({
            "name": feature.name, "available": feature.available.is_ok(),
            "why": feature.available.as_ref().err(), "costs": feature.costs,
        })
    };
    let values: Vec<_> = features.iter().map(value).collect();
    match output::value(&values, format)? {
        Some(text) => println!("{text}"),
        None => println!("{}", table(&features)),
    }
    judge(&features)
}

fn table(features: &[Feature]) -> Table {
    let mut table = Table::new(["FEATURE", "STATE", "WITHOUT IT"]);
    for feature in features {
        let state = match &feature.available {
            Ok(()) => "ok".to_owned(),
            Err(why) => format!("missing: {why}"),
        };
        table.row([feature.name, state.as_str(), feature.costs]);
    }
    table
}

fn judge(features: &[Feature]) -> Result<(), Failure> {
    let missing = features
        .iter()
        .filter(|one| one.available.is_err() && !OPTIONAL.contains(&one.name));
    let missing: Vec<&str> = missing.map(|one| one.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (count, names) = (missing.len(), missing.join(", "));
    Err(Failure::Found(format!("{count} missing: {names}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_asked_and_judged() {
        let features = ocicat_dataplane::linux::probe();
        assert!(features.len() > 10, "{features:?}");
        let text = table(&features).to_string();
        assert!(text.lines().count() == features.len() + 1, "{text}");
        let needed = features.iter().filter(|one| !OPTIONAL.contains(&one.name));
        let all = needed.clone().all(|one| one.available.is_ok());
        assert_eq!(judge(&features).is_ok(), all, "{text}");
    }
}
