//! `ipam configure` and `ipam show --show-configuration`.

use ocicat_datastore::model::IpamConfig;
use ocicat_datastore::{Metadata, Object, validate};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::table::Table;

/// What to change.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) strict_affinity: Option<bool>,
    pub(super) auto_allocate_blocks: Option<bool>,
    pub(super) max_blocks_per_host: Option<u32>,
    pub(super) ip_cooldown_seconds: Option<u32>,
}

impl Change {
    fn apply(&self, config: &mut IpamConfig) {
        let spec = &mut config.spec;
        spec.strict_affinity = self.strict_affinity.unwrap_or(spec.strict_affinity);
        spec.auto_allocate_blocks = self
            .auto_allocate_blocks
            .unwrap_or(spec.auto_allocate_blocks);
        spec.max_blocks_per_host = self.max_blocks_per_host.or(spec.max_blocks_per_host);
        spec.ip_cooldown_seconds = self.ip_cooldown_seconds.or(spec.ip_cooldown_seconds);
    }
}

/// Changes the settings, which must agree with each other afterwards, and prints them.
pub(super) async fn run(at: &Connection, change: &Change, format: Format) -> Result<(), Failure> {
    let present = at.store.get::<IpamConfig>("default").await?;
    let mut wanted = present
        .as_ref()
        .map_or_else(fresh, |config| config.value.clone());
    change.apply(&mut wanted);
    if let Some(problem) = validate::object(&Object::encode(&wanted)?).first() {
        return Err(Failure::Failed(problem.to_string()));
    }
    match present {
        None => drop(at.store.create(wanted).await?),
        Some(_) => drop(
            at.store
                .modify::<IpamConfig>("default", |now| change.apply(now))
                .await?,
        ),
    }
    show(at, format).await
}

fn fresh() -> IpamConfig {
    IpamConfig {
        metadata: Metadata::named("default"),
        ..IpamConfig::default()
    }
}

/// Prints the settings.
pub(super) async fn show(at: &Connection, format: Format) -> Result<(), Failure> {
    let config = at.store.get::<IpamConfig>("default").await?;
    let spec = config.map_or_else(fresh, |config| config.value).spec;
    if let Some(text) = output::value(&spec, format)? {
        println!("{text}");
        return Ok(());
    }
    let mut table = Table::new(["PROPERTY", "VALUE"]);
    let number = |number: Option<u32>| number.unwrap_or(0).to_string();
    table.row(["StrictAffinity", &spec.strict_affinity.to_string()]);
    table.row(["AutoAllocateBlocks", &spec.auto_allocate_blocks.to_string()]);
    table.row(["MaxBlocksPerHost", &number(spec.max_blocks_per_host)]);
    table.row(["IPCooldownSeconds", &number(spec.ip_cooldown_seconds)]);
    println!("{table}");
    Ok(())
}
