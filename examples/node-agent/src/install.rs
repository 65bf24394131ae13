//! What the agent puts on the host: CNI plugins and the network's configuration, and words to other programs that they
//! leave its links and routes alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use crate::config::InstallConfig;
use crate::facts::Facts;
use crate::snapshot::write_atomically;

pub(crate) mod record;

use record::Record;

/// The file that makes runtimes use the network: it is written last, and runtimes take the first by name.
const CONFLIST: &str = "10-ocicat.conflist";
/// Where runtimes look for plugins unless they are told otherwise.
const CNI_BIN: &str = "/opt/cni/bin";
/// Links of the agent, as other programs match their names.
const LINKS: &str = "cali* tunl0 vxlan.calico vxlan-v6.calico";

/// The words to other programs, below /etc.
const HOST_FILES: [&str; 4] = [
    "NetworkManager/conf.d/ocicat.conf",
    "systemd/networkd.conf.d/ocicat.conf",
    "systemd/network/10-ocicat.network",
    "systemd/network/10-ocicat.link",
];

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct InstallError {
    path: PathBuf,
    source: io::Error,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InstallError + '_ {
    |source| InstallError {
        path: path.to_path_buf(),
        source,
    }
}

/// What became of the plugins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plugins {
    /// How many were written.
    pub(crate) copied: usize,
    /// The host's own, of other programs than ocicat's, which were left as they are.
    pub(crate) kept: Vec<PathBuf>,
}

/// Copies the plugins, each beside the old one and then in its place: a runtime finds the old or the new one, whole. One that
/// the host has of its own, such as its `portmap`, stays: only what the agent wrote, and ocicat's own programs, are replaced.
pub(crate) fn plugins(
    config: &InstallConfig,
    record: &mut Record,
) -> Result<Plugins, InstallError> {
    let mut done = Plugins::default();
    for (from, target) in shipped(config)? {
        let content = std::fs::read(&from).map_err(failed(&from))?;
        let old = std::fs::read(&target).ok();
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        match &old {
            Some(old) if *old == content => {}
            Some(old) if !name.starts_with("ocicat") && !record.has_plugin(&target, old) => {
                done.kept.push(target);
                continue;
            }
            _ => {
                make_folder_of(&target, record)?;
                write_atomically(&target, &content, 0o755).map_err(failed(&target))?;
                done.copied += 1;
            }
        }
        record.wrote_plugin(&target, &content);
    }
    Ok(done)
}

/// The plugins that the agent brings, each with the place where runtimes look for it.
pub(crate) fn shipped(config: &InstallConfig) -> Result<Vec<(PathBuf, PathBuf)>, InstallError> {
    let Some(from) = &config.plugins else {
        return Ok(Vec::new());
    };
    let bin = config
        .cni_bin
        .as_deref()
        .unwrap_or_else(|| Path::new(CNI_BIN));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(from).map_err(failed(from))? {
        let path = entry.map_err(failed(from))?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            all.push((path.clone(), bin.join(name)));
        }
    }
    Ok(all)
}

/// Files that the agent may have put on this host beside plugins: their names are its own.
pub(crate) fn files(config: &InstallConfig) -> Vec<PathBuf> {
    let conflist = config.cni_net.iter().map(|folder| folder.join(CONFLIST));
    let etc = config.host_etc.iter();
    let etc = etc.flat_map(|etc| HOST_FILES.map(|file| etc.join(file)));
    conflist.chain(etc).collect()
}

/// Makes the folder of a file, which programs that are not root's may have to read.
fn make_folder_of(path: &Path, record: &mut Record) -> Result<(), InstallError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    record.make_folder(folder).map_err(failed(folder))
}

/// Puts on the host what can be there before the agent is ready, and writes down what is. The second value is the words to
/// other programs that are new.
pub(crate) fn prepare(
    config: &InstallConfig,
    state: &Path,
) -> Result<(Plugins, Vec<PathBuf>), InstallError> {
    let record_path = record::path(state);
    let mut record = Record::load(state).map_err(failed(&record_path))?;
    let plugins = plugins(config, &mut record);
    let words = host(config, &mut record);
    if let Some(folder) = &config.cni_net {
        record.make_folder(folder).map_err(failed(folder))?;
        record.files.insert(folder.join(CONFLIST));
    }
    if record != Record::default() {
        record.save(state).map_err(failed(&record_path))?;
    }
    Ok((plugins?, words?))
}

/// Tells NetworkManager, systemd-networkd and udev to leave the agent's links and routes alone, where they are.
fn host(config: &InstallConfig, record: &mut Record) -> Result<Vec<PathBuf>, InstallError> {
    let Some(etc) = &config.host_etc else {
        return Ok(Vec::new());
    };
    let spaced = LINKS
        .split(' ')
        .map(|name| format!("interface-name:{name}"));
    let unmanaged = spaced.collect::<Vec<_>>().join(";");
    let files = [
        (
            "NetworkManager",
            HOST_FILES[0],
            format!("[keyfile]\nunmanaged-devices={unmanaged}\n"),
        ),
        (
            "systemd",
            HOST_FILES[1],
            "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n".to_owned(),
        ),
        (
            "systemd",
            HOST_FILES[2],
            format!("[Match]\nName={LINKS}\n\n[Link]\nUnmanaged=yes\n"),
        ),
        // udev: names and hardware addresses stay as they are given.
        (
            "systemd",
            HOST_FILES[3],
            format!(
                "[Match]\nOriginalName={LINKS}\n\n[Link]\nMACAddressPolicy=none\nNamePolicy=keep\n"
            ),
        ),
    ];
    let mut written = Vec::new();
    for (program, file, text) in files {
        let path = etc.join(file);
        if !etc.join(program).is_dir() {
            continue;
        }
        record.files.insert(path.clone());
        if std::fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
            continue;
        }
        make_folder_of(&path, record)?;
        write_atomically(&path, text.as_bytes(), 0o644).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

/// The network's configuration, for the socket and the largest packet of this node.
///
/// Host ports and bandwidth are the business of plugins that others make: they are chained where they are installed.
fn conflist(socket: &Path, plugins: &[&Path], enforce: bool) -> String {
    let ipam = json!({"type": "ocicat-ipam", "enforcePoolSelectors": enforce});
    let mut chain = vec![json!({
        "type": "ocicat", "socket": socket, "ipam": ipam, "policy": {"type": "k8s"},
    })];
    let there = |name: &str| plugins.iter().any(|folder| folder.join(name).is_file());
    if there("portmap") {
        chain
            .push(json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}));
    }
    if there("bandwidth") {
        chain.push(json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}));
    }
    let list = json!({"name": "k8s-pod-network", "cniVersion": "1.0.0", "plugins": chain});
    format!("{list:#}\n")
}

/// Networks that runtimes find before the agent's, such as what another one has left: `10-calico.conflist`.
fn before_ours(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let network = |name: &String| {
        let end = Path::new(name).extension().unwrap_or_default();
        ["conf", "conflist", "json"].iter().any(|one| end == *one)
    };
    let mut before: Vec<String> = names
        .filter(network)
        .filter(|name| name.as_str() < CONFLIST)
        .collect();
    before.sort();
    before
}

/// Writes the configuration once the agent is ready: a runtime that finds it may add pods at once. Tries until it is
/// written; one that is there as it should be is left alone.
pub(crate) async fn network(
    config: InstallConfig,
    socket: PathBuf,
    mut facts: watch::Receiver<Arc<Facts>>,
) {
    let Some(folder) = config.cni_net.clone() else {
        return;
    };
    if facts.wait_for(|facts| facts.ready).await.is_err() {
        return;
    }
    let path = folder.join(CONFLIST);
    let bin = config
        .cni_bin
        .as_deref()
        .unwrap_or_else(|| Path::new(CNI_BIN));
    let mut pause = Duration::from_secs(1);
    loop {
        let text = match &config.cni_config {
            Some(own) => std::fs::read_to_string(own).map_err(failed(own)),
            None => Ok(conflist(
                &socket,
                &[bin, Path::new("/usr/lib/cni")],
                config.enforce_pool_selectors,
            )),
        };
        let written = text.and_then(|text| {
            if std::fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
                return Ok(());
            }
            write_atomically(&path, text.as_bytes(), 0o600).map_err(failed(&path))
        });
        match written {
            Ok(()) => {
                let before = before_ours(&folder);
                if !before.is_empty() {
                    tracing::warn!(
                        ?before,
                        "runtimes take the first network by name, and that is not ours: remove these files"
                    );
                }
                return tracing::info!(path = %path.display(), "the network can be used by runtimes");
            }
            Err(error) => {
                tracing::warn!(%error, "the network's configuration is not written; tried again")
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
}

#[cfg(test)]
mod tests;
