//! `ipam check` and `ipam release`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ocicat_ipam::{CheckReport, Release};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{census, ipam};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::files;
use crate::output::{self, Format};

/// The version of report files; a newer one is refused.
const VERSION: u32 = 1;

/// A report on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    version: u32,
    /// The datastore that was checked.
    datastore: String,
    /// When, seconds since 1970.
    time: u64,
    #[serde(flatten)]
    check: CheckReport,
}

/// Compares what is allocated with what is in use.
///
/// # Errors
/// [`Failure::Found`] when something is wrong.
pub(super) async fn check(
    at: &Connection,
    file: Option<&Path>,
    all: bool,
    format: Format,
) -> Result<(), Failure> {
    let census = census::take(at).await?;
    let check = ipam(at).check(&census).await?;
    if let Some(text) = output::value(&check, format)? {
        println!("{text}");
    } else {
        if all {
            check.held.iter().for_each(|held| println!("{held}"));
        }
        println!("{check}");
    }
    let found = check.findings.len();
    if let Some(path) = file {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let report = Report {
            version: VERSION,
            datastore: at.url.clone(),
            time: time.map_or(0, |time| time.as_secs()),
            check,
        };
        let text = serde_json::to_vec_pretty(&report);
        let text = text.map_err(|error| Failure::failed("the report", error))?;
        std::fs::write(path, text)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    }
    if found == 0 {
        Ok(())
    } else {
        Err(Failure::Found(format!("{found} problems found")))
    }
}

/// Releases addresses, or the leaks of reports.
///
/// # Errors
/// [`Failure::NotFound`] for an address that nobody holds; a report of another datastore or version.
pub(super) async fn release(
    at: &Connection,
    addresses: &[IpAddr],
    reports: &[PathBuf],
    format: Format,
) -> Result<(), Failure> {
    let ipam = ipam(at);
    let now = SystemTime::now();
    let mut released = Vec::new();
    let mut repaired = 0;
    for path in reports {
        let report = read(at, path)?;
        let leaks = ipam.release_leaks(&report, now).await;
        let leaks = leaks.map_err(|error| Failure::Failed(error.to_string()))?;
        released.extend(leaks.released);
        let records = ipam.repair(&report, now).await;
        repaired += records.repaired.len();
        for (finding, error) in leaks.failed.into_iter().chain(records.failed) {
            eprintln!("left alone: {finding}: {error}");
        }
    }
    if !addresses.is_empty() {
        let wanted: Vec<_> = addresses.iter().copied().map(Release::new).collect();
        let done = ipam.release_ips(&wanted, now).await;
        let done = done.map_err(|error| Failure::Failed(error.to_string()))?;
        released.extend(done.addresses);
        if let Some((block, error)) = done.failed.first() {
            return Err(Failure::Failed(format!("{block}: {error}")));
        }
        if !done.unallocated.is_empty() {
            let names: Vec<_> = done.unallocated.iter().map(IpAddr::to_string).collect();
            return Err(Failure::NotFound(format!(
                "{}: not assigned",
                names.join(", ")
            )));
        }
    }
    match output::value(&json!({"released": released, "repaired": repaired}), format)? {
        Some(text) => println!("{text}"),
        None => {
            released
                .iter()
                .for_each(|address| println!("{address} released"));
            println!(
                "{} addresses released, {repaired} records put right",
                released.len()
            );
        }
    }
    Ok(())
}

fn read(at: &Connection, path: &Path) -> Result<CheckReport, Failure> {
    let (name, text) = files::text(path)?;
    let wrong = |why: String| Failure::Failed(format!("{name}: {why}"));
    let stated: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match stated["version"].as_u64() {
        Some(version) if version <= u64::from(VERSION) => {}
        Some(version) => {
            return Err(wrong(format!(
                "is a report of version {version}, this program reads up to {VERSION}"
            )));
        }
        None => return Err(wrong("is no report of `ipam check --report`".to_owned())),
    }
    let report: Report =
        serde_json::from_value(stated).map_err(|error| wrong(error.to_string()))?;
    if report.datastore == at.url {
        Ok(report.check)
    } else {
        let theirs = report.datastore;
        Err(wrong(format!("is about {theirs}, not {}", at.url)))
    }
}
