//! Steps that run a command and look at what it prints.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Trial;
use crate::cluster::Cluster;
use crate::place::Place;
use crate::probe::End;
use crate::sandbox::BIN;
use crate::scenario::Exec;

/// The pause between two looks.
const AGAIN: Duration = Duration::from_millis(100);

impl Trial {
    pub(super) async fn look(&mut self, cluster: &Cluster, exec: &Exec) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(exec.within);
        loop {
            let (good, printed) = run(cluster, exec).await?;
            let missing = missing(exec, &printed);
            let ok = good && missing.is_empty();
            if ok || Instant::now() > until {
                let what = format!("{}: {}", exec.on, exec.command);
                let seen = if ok {
                    exec.has.join(", ")
                } else {
                    let last: Vec<&str> = printed.lines().take(30).collect();
                    format!("{}; it printed:\n{}", missing.join(", "), last.join("\n"))
                };
                self.report.check(ok, what, seen);
                return Ok(());
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn missing(exec: &Exec, printed: &str) -> Vec<String> {
    let absent = exec.has.iter().filter(|text| !printed.contains(*text));
    let absent = absent.map(|text| format!("{text:?} is not there"));
    let present = exec.lacks.iter().filter(|text| printed.contains(*text));
    absent
        .chain(present.map(|text| format!("{text:?} is there")))
        .collect()
}

/// Whether the command ended well, and everything that it printed.
async fn run(cluster: &Cluster, exec: &Exec) -> Result<(bool, String)> {
    let place = place(cluster, &exec.on)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-c", &exec.command])
        .current_dir("/")
        .env("PATH", format!("{BIN}:{path}:/usr/sbin:/sbin"))
        .env("OCICAT_DATASTORE", &cluster.url)
        .env("ETCDCTL_ENDPOINTS", crate::cluster::ENDPOINT)
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::null());
    if let Some(node) = exec.on.strip_prefix("node:") {
        command.env("NODENAME", node);
    }
    let visited = tokio::task::spawn_blocking(move || place.visit(|| command.output()));
    let output = visited
        .await??
        .with_context(|| format!("running {:?}", exec.command))?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), printed))
}

fn place(cluster: &Cluster, name: &str) -> Result<Arc<Place>> {
    match name {
        "lab" => {
            let etcd = cluster.etcd.as_ref();
            Ok(Arc::clone(
                etcd.context("only etcd runs in the lab")?.place(),
            ))
        }
        end => cluster.place(&end.parse::<End>()?).cloned(),
    }
}
