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

/// Copies the plugins, each beside the old one and then in its place: a runtime finds the old or the new one, whole.
pub(crate) fn plugins(config: &InstallConfig) -> Result<usize, InstallError> {
    let Some(from) = &config.plugins else {
        return Ok(0);
    };
    let to = config
        .cni_bin
        .clone()
        .unwrap_or_else(|| PathBuf::from(CNI_BIN));
    let mut copied = 0;
    for entry in std::fs::read_dir(from).map_err(failed(from))? {
        let path = entry.map_err(failed(from))?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else {
            continue;
        };
        let content = std::fs::read(&path).map_err(failed(&path))?;
        let target = to.join(name);
        if std::fs::read(&target).is_ok_and(|old| old == content) {
            continue;
        }
        write_atomically(&target, &content, 0o755).map_err(failed(&target))?;
        copied += 1;
    }
    Ok(copied)
}

/// Every file that the agent may have put on this host.
pub(crate) fn files(config: &InstallConfig) -> Vec<PathBuf> {
    let bin = config
        .cni_bin
        .as_deref()
        .unwrap_or_else(|| Path::new(CNI_BIN));
    let from = config.plugins.iter().flat_map(std::fs::read_dir);
    let names = from.flatten().flatten().map(|entry| entry.file_name());
    let mut files: Vec<PathBuf> = names.map(|name| bin.join(name)).collect();
    files.extend(config.cni_net.iter().map(|folder| folder.join(CONFLIST)));
    let etc = config.host_etc.iter();
    files.extend(etc.flat_map(|etc| HOST_FILES.map(|file| etc.join(file))));
    files
}

/// Tells NetworkManager, systemd-networkd and udev to leave the agent's links and routes alone, where they are.
pub(crate) fn host(config: &InstallConfig) -> Result<Vec<PathBuf>, InstallError> {
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
        if !etc.join(program).is_dir()
            || std::fs::read(&path).is_ok_and(|old| old == text.as_bytes())
        {
            continue;
        }
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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn plugins_take_the_old_ones_place() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("bin"));
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("ocicat"), "new").unwrap();
        let config = InstallConfig {
            plugins: Some(from),
            cni_bin: Some(to.clone()),
            ..InstallConfig::default()
        };
        assert_eq!(plugins(&config).unwrap(), 1);
        let mode = std::fs::metadata(to.join("ocicat"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(plugins(&config).unwrap(), 0, "the same again");
        assert_eq!(plugins(&InstallConfig::default()).unwrap(), 0);
    }

    #[test]
    fn programs_that_are_there_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let config = InstallConfig {
            host_etc: Some(folder.path().to_path_buf()),
            ..InstallConfig::default()
        };
        assert!(host(&config).unwrap().is_empty(), "nobody is there");
        std::fs::create_dir(folder.path().join("NetworkManager")).unwrap();
        std::fs::create_dir(folder.path().join("systemd")).unwrap();
        assert_eq!(host(&config).unwrap().len(), 4);
        assert!(host(&config).unwrap().is_empty());
        let text = std::fs::read_to_string(folder.path().join("NetworkManager/conf.d/ocicat.conf"))
            .unwrap();
        assert!(
            text.contains("interface-name:cali*;") && text.contains("interface-name:vxlan.calico"),
            "{text}"
        );
    }

    #[test]
    fn host_ports_and_bandwidth_are_chained_where_they_are_installed() {
        let folder = tempfile::tempdir().unwrap();
        let types = || {
            let text = conflist(Path::new("/run/x.sock"), &[folder.path()], true);
            let list: serde_json::Value = serde_json::from_str(&text).unwrap();
            let plugins = list["plugins"].as_array().unwrap().iter();
            plugins
                .map(|one| one["type"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(types(), ["ocicat"]);
        std::fs::write(folder.path().join("portmap"), "").unwrap();
        std::fs::write(folder.path().join("bandwidth"), "").unwrap();
        assert_eq!(types(), ["ocicat", "portmap", "bandwidth"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_network_is_offered_when_the_agent_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let config = InstallConfig {
            cni_net: Some(folder.path().join("net.d")),
            ..InstallConfig::default()
        };
        let (tell, facts) = watch::channel(Arc::new(Facts::default()));
        let path = folder.path().join("net.d").join(CONFLIST);
        let task = tokio::spawn(network(config, "/run/ocicat/cni.sock".into(), facts));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!path.exists());
        let ready = Facts {
            ready: true,
            ..Facts::default()
        };
        tell.send_replace(Arc::new(ready));
        task.await.unwrap();
        let text: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(text["plugins"][0]["type"], "ocicat");
        assert_eq!(text["plugins"][0]["socket"], "/run/ocicat/cni.sock");
    }
}
