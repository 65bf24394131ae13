//! The end of an installation: nothing of ours stays on the node.

use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use ocicat_dataplane::linux::{self, LinuxAttach, LinuxDataplane};
use ocicat_dataplane::{Attach, Detachment};

use crate::config::Config;
use crate::install;

/// Removes pods' links, routes, tunnels, rules, the policy table, the plugins, the network's configuration, the words to
/// other programs, and the agent's folders. The answer says what was removed, a line each.
///
/// Pods that still run lose their network. What is in the datastore stays: `ocicatctl delete node` and `ocicatctl ipam gc`
/// are for that.
///
/// # Errors
/// An agent that still runs, and what could not be removed; a second call goes on.
pub async fn run(config: &Config) -> anyhow::Result<Vec<String>> {
    let socket = config.paths.run.join("node.sock");
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        bail!("an agent listens on {}: stop it first", socket.display());
    }
    let mut done = Vec::new();
    // First what lets new pods in.
    for file in install::files(&config.install).iter().rev() {
        remove(file, |path| std::fs::remove_file(path), &mut done)?;
    }
    links(config, &mut done)?;
    let mut options = linux::Options::default();
    options.sysctl.clone_from(&config.paths.sysctl);
    LinuxDataplane::new(options)?.remove().await?;
    done.push("routes, tunnels, rules and policy of this kernel".to_owned());
    for folder in [&config.paths.run, &config.paths.state] {
        remove(folder, |path| std::fs::remove_dir_all(path), &mut done)?;
    }
    Ok(done)
}

/// Removes the links to pods: those with Calico's prefix and an alias that says whose they are.
fn links(config: &Config, done: &mut Vec<String>) -> anyhow::Result<()> {
    let attach = match &config.paths.sysctl {
        Some(folder) => LinuxAttach::new().sysctl(folder),
        None => LinuxAttach::new(),
    };
    for interface in linux::interfaces().context("the links cannot be read")? {
        let Some(alias) = interface.alias.filter(|alias| alias.contains('/')) else {
            continue;
        };
        if !interface.name.as_str().starts_with("cali") {
            continue;
        }
        let host_link = interface.name;
        let name = host_link.to_string();
        attach.detach(&Detachment { host_link, alias })?;
        done.push(format!("link {name}"));
    }
    Ok(())
}

fn remove(
    path: &Path,
    with: impl Fn(&Path) -> io::Result<()>,
    done: &mut Vec<String>,
) -> anyhow::Result<()> {
    match with(path) {
        Ok(()) => done.push(path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A folder of the host that is mounted where this runs: what was in it is gone.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy && is_empty(path) => {
            done.push(format!("everything in {}", path.display()));
        }
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_none())
}
