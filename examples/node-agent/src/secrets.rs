//! Passwords of BGP sessions: read from files, and where the datastore is Kubernetes from its Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use ocicat_datastore::Store;
use ocicat_datastore::model::Secret;
use tokio::sync::watch;

use crate::peers::SecretRef;

/// How often secrets are read again: they change without a word.
const PERIOD: Duration = Duration::from_secs(10);

/// Passwords by `name/key` of their secret.
pub(crate) type Secrets = BTreeMap<String, String>;

/// The name under which a password is found.
pub(crate) fn name(reference: &SecretRef) -> String {
    format!("{}/{}", reference.name, reference.key)
}

/// Reads a password of the file `FOLDER/NAME/KEY`; a line end at its end is no part of it.
fn from_file(folder: &Path, reference: &SecretRef) -> Option<String> {
    let plain = |part: &str| !part.is_empty() && part != ".." && !part.contains(['/', '\0']);
    if !plain(&reference.name) || !plain(&reference.key) {
        return None;
    }
    let path = folder.join(&reference.name).join(&reference.key);
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Where secrets are.
pub(crate) struct Sources {
    /// The folder of files.
    pub(crate) folder: PathBuf,
    /// The datastore, which has Secrets where it is Kubernetes.
    pub(crate) store: Store,
    /// The agent's own namespace.
    pub(crate) namespace: String,
}

impl Sources {
    async fn read(&self, reference: &SecretRef) -> Option<String> {
        if let Some(secret) = from_file(&self.folder, reference) {
            return Some(secret);
        }
        let name = (self.namespace.as_str(), reference.name.as_str());
        let secret = self.store.get::<Secret>(name).await.ok()??;
        let bytes = BASE64.decode(secret.data.get(&reference.key)?).ok()?;
        String::from_utf8(bytes).ok()
    }
}

/// Keeps `found` true to the secrets that are wanted, until nobody wants any more. What cannot be read stays as it was
/// known last, so that a datastore that is away ends no session.
pub(crate) async fn follow(
    sources: Sources,
    mut wanted: watch::Receiver<BTreeSet<SecretRef>>,
    found: watch::Sender<Arc<Secrets>>,
) {
    loop {
        let references = wanted.borrow_and_update().clone();
        let before = Arc::clone(&found.borrow());
        let mut secrets = Secrets::new();
        for reference in &references {
            let name = name(reference);
            let read = sources.read(reference).await;
            if let Some(secret) = read.or_else(|| before.get(&name).cloned()) {
                secrets.insert(name, secret);
            }
        }
        found.send_if_modified(|old| {
            let changed = **old != secrets;
            if changed {
                *old = Arc::new(secrets);
            }
            changed
        });
        let idle = references.is_empty();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PERIOD), if !idle => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_are_read_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bgp")).unwrap();
        std::fs::write(folder.path().join("bgp/tor"), "hush\n").unwrap();
        let reference = |name: &str, key: &str| SecretRef {
            name: name.to_owned(),
            key: key.to_owned(),
            optional: false,
        };
        let wanted = BTreeSet::from([
            reference("bgp", "tor"),
            reference("..", "passwd"),
            reference("bgp", "none"),
            reference("bgp", "rr"),
        ]);
        let (want, wanted) = watch::channel(wanted);
        let (found, mut seen) = watch::channel(Arc::default());
        let store = Store::new(Arc::new(ocicat_datastore::Memory::new()));
        let mut secret = Secret::default();
        "bgp".clone_into(&mut secret.metadata.name);
        secret.metadata.namespace = Some("kube-system".to_owned());
        secret
            .data
            .insert("rr".to_owned(), "d2hpc3Blcg==".to_owned());
        store.create(secret).await.unwrap();
        let sources = Sources {
            folder: folder.path().to_path_buf(),
            store,
            namespace: "kube-system".to_owned(),
        };
        let task = tokio::spawn(follow(sources, wanted, found));
        seen.changed().await.unwrap();
        let expected = [("bgp/tor", "hush"), ("bgp/rr", "whisper")];
        let expected: Secrets = expected
            .map(|(name, secret)| (name.to_owned(), secret.to_owned()))
            .into();
        assert_eq!(**seen.borrow_and_update(), expected);
        std::fs::write(folder.path().join("bgp/tor"), "louder").unwrap();
        seen.changed().await.unwrap();
        assert_eq!(seen.borrow_and_update()["bgp/tor"], "louder");
        // A file that is gone for a moment, as when it is replaced, ends no session.
        std::fs::remove_file(folder.path().join("bgp/tor")).unwrap();
        tokio::time::sleep(PERIOD * 2).await;
        assert!(!seen.has_changed().unwrap());
        drop(want);
        task.await.unwrap();
    }
}
