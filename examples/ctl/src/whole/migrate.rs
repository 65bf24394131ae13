//! `datastore migrate`: from one datastore to another.

use std::path::{Path, PathBuf};

use ocicat_datastore::model::ClusterInformation;
use ocicat_datastore::{Kind, Metadata, Object, Op, Scope, StoreError};

use crate::cli::Migrate;
use crate::connection::Connection;
use crate::document;
use crate::failure::Failure;
use crate::files;
use crate::output::{self, Format};

/// Does what the arguments say.
///
/// # Errors
/// When the datastore fails, is locked where it must not be, or has objects where it must have none.
pub async fn run(at: &Connection, command: Migrate, format: Format) -> Result<(), Failure> {
    match command {
        Migrate::Lock => set_ready(at, false).await,
        Migrate::Unlock => set_ready(at, true).await,
        Migrate::Export { file } => export(at, file).await,
        Migrate::Import { filename } => import(at, &filename, format).await,
    }
}

async fn set_ready(at: &Connection, ready: bool) -> Result<(), Failure> {
    if at
        .store
        .get::<ClusterInformation>("default")
        .await?
        .is_none()
    {
        let fresh = ClusterInformation {
            metadata: Metadata::named("default"),
            ..ClusterInformation::default()
        };
        at.store.create(fresh).await?;
    }
    let change = |one: &mut ClusterInformation| one.spec.datastore_ready = Some(ready);
    at.store.modify("default", change).await?;
    println!(
        "{} is {}",
        at.url,
        if ready { "unlocked" } else { "locked" }
    );
    Ok(())
}

/// Everything of Calico's; what belongs to Kubernetes stays there. Endpoints go along where there is no Kubernetes.
fn kinds(at: &Connection) -> impl Iterator<Item = Kind> {
    let endpoints = !at.kubernetes;
    Kind::ALL.iter().copied().filter(move |kind| match kind {
        Kind::WorkloadEndpoint | Kind::Profile => endpoints,
        Kind::CalicoNodeStatus => false,
        other => !other.is_kubernetes(),
    })
}

async fn objects(at: &Connection) -> Result<Vec<Object>, Failure> {
    let mut objects = Vec::new();
    for kind in kinds(at) {
        match at.store.backend().list(&Scope::all(kind)).await {
            Ok(listing) => objects.extend(listing.objects),
            Err(StoreError::NoSuchKind { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(objects)
}

async fn export(at: &Connection, file: Option<PathBuf>) -> Result<(), Failure> {
    let information = at.store.get::<ClusterInformation>("default").await?;
    if information.is_none_or(|one| one.spec.datastore_ready != Some(false)) {
        return Err(Failure::Failed(format!(
            "{} is not locked, addresses could change meanwhile: run `ocicatctl datastore migrate lock` first",
            at.url
        )));
    }
    let mut objects = objects(at).await?;
    let count = objects.len();
    for object in &mut objects {
        object.revision = ocicat_datastore::Revision::NONE;
        if let Some(metadata) = object
            .value
            .get_mut("metadata")
            .and_then(|one| one.as_object_mut())
        {
            metadata.remove("uid");
            metadata.remove("managedFields");
        }
    }
    let text = output::objects(&objects, Format::Yaml, false)?;
    match file {
        None => println!("{text}"),
        Some(path) => {
            std::fs::write(&path, text)
                .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
            println!("{count} objects written to {}", path.display());
        }
    }
    Ok(())
}

/// How many objects are written at once.
const BATCH: usize = 200;

async fn import(at: &Connection, path: &Path, format: Format) -> Result<(), Failure> {
    let mut there = objects(at).await?;
    there.retain(|one| !matches!(one.kind, Kind::ClusterInformation | Kind::Node | Kind::Tier));
    if let Some(one) = there.first() {
        let count = there.len();
        return Err(Failure::Conflict(format!(
            "{} has {count} objects already, {} among them; import wants none",
            at.url,
            one.key()
        )));
    }
    let (name, text) = files::text(path)?;
    let mut read = Vec::new();
    for document in document::parse(&name, &text)? {
        let object = Object::from_value(document.to_json());
        let mut object = object.map_err(|error| document.fault("", error))?;
        if object.kind == Kind::ClusterInformation {
            // Locked until the agents have been told where their datastore is now.
            object.value["spec"]["datastoreReady"] = false.into();
        }
        read.push(object);
    }
    let count = read.len();
    let mut done = 0;
    for batch in read.chunks(BATCH) {
        let ops = batch.iter().cloned().map(Op::Put).collect();
        for outcome in at.store.backend().write(ops).await {
            outcome?;
            done += 1;
        }
        if !format.is_json() {
            eprintln!("{done} of {count}");
        }
    }
    println!(
        "{count} objects imported into {}, which is locked until `ocicatctl datastore migrate unlock`",
        at.url
    );
    Ok(())
}
