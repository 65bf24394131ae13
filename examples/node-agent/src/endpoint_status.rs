//! Felix's endpoint-status files: a file for each pod whose policy is in the kernel, for plugins and others that wait for it.
//!
//! The file of a pod is `<endpointStatusPathPrefix>/endpoint-status/<orchestrator> <workload> <endpoint>`, each part escaped as
//! in a path of a URL. Off by default: ocicat's own plugin waits over the agent's socket.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ocicat_datastore::model::WorkloadEndpoint;
use serde::Serialize;
use tokio::sync::watch;

use crate::install;
use crate::snapshot::write_atomically;

/// How often the folder is compared with what should be there, beside at every change.
const PERIOD: Duration = Duration::from_secs(10);
/// Every user may read them, as they may Felix's.
const MODE: u32 = 0o644;

/// The files that there should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statuses {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// Names and contents.
    pub(crate) files: BTreeMap<String, String>,
}

impl Statuses {
    /// None, in the folder of a prefix.
    pub(crate) fn under(prefix: &str) -> Self {
        Self {
            folder: Path::new(prefix).join("endpoint-status"),
            files: BTreeMap::new(),
        }
    }
}

/// The content of a file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    iface_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ipv4_nets: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ipv6_nets: Vec<&'a str>,
}

/// The name and the content of an endpoint's file.
pub(crate) fn file(namespace: &str, endpoint: &WorkloadEndpoint) -> (String, String) {
    let spec = &endpoint.spec;
    let workload = match (&spec.pod, &spec.workload) {
        (Some(pod), _) => format!("{namespace}/{pod}"),
        (None, Some(workload)) => workload.clone(),
        (None, None) => endpoint.metadata.name.clone(),
    };
    let parts = [&spec.orchestrator, &workload, &spec.endpoint].map(|part| escaped(part));
    let of_family = |six: bool| {
        let nets = spec.ip_networks.iter().map(String::as_str);
        nets.filter(|net| net.contains(':') == six).collect()
    };
    let content = Content {
        iface_name: spec.interface_name.as_deref().unwrap_or_default(),
        mac: spec.mac.as_deref(),
        ipv4_nets: of_family(false),
        ipv6_nets: of_family(true),
    };
    let content = serde_json::to_string(&content).unwrap_or_default();
    (parts.join(" "), content)
}

/// A text as a segment of a URL's path.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Keeps the folder as it should be, until the sender is gone: the files stay then, as the pods do.
/// The folder is noted among what the agent has put on the host, in the folder of its state.
pub(crate) async fn keep(mut wanted: watch::Receiver<Option<Arc<Statuses>>>, state: PathBuf) {
    let mut before = None;
    loop {
        let now = wanted.borrow_and_update().clone();
        let left = before.take().filter(|old| {
            let folder = |one: &Option<Arc<Statuses>>| one.as_ref().map(|one| one.folder.clone());
            folder(old) != folder(&now)
        });
        let (work, state) = (now.clone(), state.clone());
        let done = tokio::task::spawn_blocking(move || {
            // Turned off, or elsewhere now: what was written is taken away.
            if let Some(Some(old)) = left {
                bring(&Statuses {
                    folder: old.folder.clone(),
                    ..Statuses::default()
                })?;
            }
            work.map_or(Ok(0), |work: Arc<Statuses>| {
                install::record::statuses(&state, &work.folder)?;
                bring(&work)
            })
        });
        if let Ok(Err(error)) = done.await {
            tracing::warn!(%error, "endpoint-status files cannot be written");
        }
        let on = now.is_some();
        before = Some(now);
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PERIOD), if on => {}
        }
    }
}

/// Brings the folder to what should be in it; how many files were written or removed.
fn bring(wanted: &Statuses) -> io::Result<usize> {
    let folder = &wanted.folder;
    let mut done = 0;
    let there = match std::fs::read_dir(folder) {
        Ok(there) => there.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    for entry in there {
        let name = entry.file_name();
        let known = name
            .to_str()
            .is_some_and(|name| wanted.files.contains_key(name));
        if !known && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
            done += 1;
        }
    }
    for (name, content) in &wanted.files {
        let path = folder.join(name);
        if std::fs::read(&path).ok().as_deref() != Some(content.as_bytes()) {
            write_atomically(&path, content.as_bytes(), MODE)?;
            done += 1;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use ocicat_datastore::Object;
    use serde_json::json;

    use super::*;

    fn endpoint(spec: serde_json::Value) -> WorkloadEndpoint {
        let value = json!({"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"name": "n-k8s-pod--1-eth0", "namespace": "shop"}, "spec": spec});
        Object::from_value(value).unwrap().decode().unwrap()
    }

    #[test]
    fn names_and_contents_are_felixs() {
        let pod = endpoint(
            json!({"orchestrator": "k8s", "node": "n", "pod": "pod-1", "endpoint": "eth0",
            "interfaceName": "cali1", "mac": "01:02:03:04:05:06", "ipNetworks": ["10.0.0.1/32", "fd00::1/128"]}),
        );
        let (name, content) = file("shop", &pod);
        assert_eq!(name, "k8s shop%2Fpod-1 eth0");
        let content: serde_json::Value = serde_json::from_str(&content).unwrap();
        assert_eq!(
            content,
            json!({"ifaceName": "cali1", "mac": "01:02:03:04:05:06",
            "ipv4Nets": ["10.0.0.1/32"], "ipv6Nets": ["fd00::1/128"]})
        );
        let other = endpoint(
            json!({"orchestrator": "a b", "node": "n", "workload": "c/d", "endpoint": "e%"}),
        );
        assert_eq!(file("shop", &other).0, "a%20b c%2Fd e%25");
    }

    #[tokio::test(start_paused = true)]
    async fn the_folder_follows_and_is_repaired() {
        let place = tempfile::tempdir().unwrap();
        let prefix = place.path().join("calico");
        let mut statuses = Statuses::under(prefix.to_str().unwrap());
        statuses
            .files
            .insert("k8s a%2Fb eth0".to_owned(), "{}".to_owned());
        let folder = statuses.folder.clone();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join("k8s gone eth0"),
            "of a pod that went while no agent ran",
        )
        .unwrap();
        assert_eq!(bring(&statuses).unwrap(), 2);
        assert_eq!(bring(&statuses).unwrap(), 0, "nothing is written twice");
        std::fs::write(folder.join("k8s a%2Fb eth0"), "drift").unwrap();
        assert_eq!(bring(&statuses).unwrap(), 1);
        let (tell, told) = watch::channel(Some(Arc::new(statuses)));
        let keeping = tokio::spawn(keep(told, place.path().join("state")));
        tell.send_replace(None);
        drop(tell);
        keeping.await.unwrap();
        assert!(std::fs::read_dir(&folder).unwrap().count() <= 1);
    }
}
