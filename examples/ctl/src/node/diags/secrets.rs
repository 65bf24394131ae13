//! What must not get into an archive.

use std::path::{Path, PathBuf};

use crate::cli::Global;

/// Texts that must not leave the node.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// What lies in the folder of secrets (`NAME/KEY`, as deep as it goes), in the files that the datastore's URLs name, in the
    /// agent's snapshot, in the kubeconfig's credentials, and in the environment's passwords. What is shorter than four
    /// characters is no secret, and would be found everywhere.
    pub(super) fn of(global: &Global) -> Self {
        let config = crate::connection::config(global).unwrap_or_default();
        let mut urls = vec![config.datastore.url.clone()];
        urls.extend(global.datastore.clone());
        let mut paths = files_below(&config.paths.secrets);
        for url in &urls {
            let parameters = url.split_once('?').map(|(_, all)| all).unwrap_or_default();
            let files = parameters.split('&').filter_map(|one| one.split_once('='));
            let files = files.filter(|(name, _)| matches!(*name, "cert" | "key" | "password-file"));
            paths.extend(files.map(|(_, value)| value.into()));
        }
        let texts = paths
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok());
        let passwords = std::env::vars()
            .filter(|(name, _)| name.contains("PASSWORD") || name.contains("TOKEN"))
            .map(|(_, value)| value);
        let credentials = urls.iter().filter_map(|url| kubeconfig(url)).flatten();
        let known = snapshot(&config.paths.state).unwrap_or_default();
        let all = texts.chain(passwords).chain(credentials).chain(known);
        let lines = all.flat_map(|text| {
            let lines = text.lines().map(|line| line.trim().to_owned());
            lines.collect::<Vec<_>>()
        });
        let lines: Vec<String> = lines.filter(|line| line.len() > 3).collect();
        Self::new(lines)
    }

    /// The secrets, as they are and as JSON writes them.
    pub(super) fn new(secrets: Vec<String>) -> Self {
        let escaped = secrets.iter().filter_map(|secret| {
            let quoted = serde_json::to_string(secret).ok()?;
            Some(quoted.trim_matches('"').to_owned())
        });
        let mut all: Vec<String> = escaped.chain(secrets.iter().cloned()).collect();
        // The longest first: one may be a part of another.
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.dedup();
        Self(all)
    }

    /// The text without secrets.
    pub(super) fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            text = text.replace(secret.as_str(), "[redacted]");
        }
        text
    }
}

/// Every file in a folder and those in it.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Passwords that the agent knows from elsewhere, Kubernetes' Secrets, and keeps for a start without the API.
fn snapshot(state: &Path) -> Option<Vec<String>> {
    let text = std::fs::read(state.join("state/snapshot.json")).ok()?;
    let snapshot: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let secrets = snapshot.get("secrets")?.as_object()?.values();
    Some(
        secrets
            .filter_map(|one| Some(one.as_str()?.to_owned()))
            .collect(),
    )
}

/// What a kubeconfig keeps secret: the values of its credentials.
fn kubeconfig(url: &str) -> Option<Vec<String>> {
    let rest = url.strip_prefix("kubernetes:")?;
    let stated = rest.split('?').next().filter(|path| !path.is_empty());
    let path = match stated {
        Some(path) => PathBuf::from(path),
        None => std::env::var_os("KUBECONFIG")?.into(),
    };
    let text = std::fs::read_to_string(path).ok()?;
    const NAMES: [&str; 4] = [
        "token",
        "password",
        "client-key-data",
        "client-certificate-data",
    ];
    let mut found = Vec::new();
    for part in text.split([',', '{', '}', '\n']) {
        let Some((name, value)) = part.split_once(':') else {
            continue;
        };
        let name = name.trim().trim_start_matches("- ").trim_matches('"');
        if NAMES.contains(&name) {
            found.push(value.trim().trim_matches(['"', '\'']).to_owned());
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_where_they_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("secrets/bgp");
        std::fs::create_dir_all(&inside).expect("made");
        std::fs::write(inside.join("rack-1"), "hunter22\n").expect("written");
        let config = folder.path().join("config");
        let text = "users: [{name: u, user: {token: tok-en}}]\n- name: v\n  user:\n    client-key-data: \"a2V5\"\n";
        std::fs::write(&config, text).expect("written");
        let key = folder.path().join("tls.key");
        std::fs::write(&key, "-----BEGIN\nMIIBVQ\n").expect("written");
        let node = folder.path().join("node.toml");
        let text = format!("[paths]\nsecrets = '{}/secrets'\n", folder.path().display());
        std::fs::write(&node, text).expect("written");
        let global = |url: String| Global {
            datastore: Some(url),
            config: node.clone(),
            run: "/nonexistent".into(),
            output: crate::output::Output::default(),
            allow_version_mismatch: false,
        };
        let of = |url: String| Secrets::of(&global(url)).redacted("hunter22 tok-en a2V5 MIIBVQ x");
        let kubernetes = of(format!("kubernetes:{}?context=c", config.display()));
        assert_eq!(kubernetes, "[redacted] [redacted] [redacted] MIIBVQ x");
        let etcd = of(format!("etcd:http://e?ca=/x&key={}", key.display()));
        assert_eq!(etcd, "[redacted] tok-en a2V5 [redacted] x");
    }

    #[test]
    fn a_secret_is_found_in_json_too() {
        let secrets = Secrets::new(vec!["pa\"ss\\word".into(), "pa\"ss".into()]);
        let text = serde_json::json!({"a": "pa\"ss\\word", "b": "pa\"ss"}).to_string();
        assert_eq!(
            secrets.redacted(&text),
            r#"{"a":"[redacted]","b":"[redacted]"}"#
        );
        assert_eq!(secrets.redacted("pa\"ss\\word"), "[redacted]");
    }
}
