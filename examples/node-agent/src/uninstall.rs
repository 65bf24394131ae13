//! The end of an installation: nothing of ours stays on the node.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::bail;
use ocicat_dataplane::linux::{self, LinuxAttach, LinuxDataplane};
use ocicat_dataplane::{Attach, Detachment};

use crate::config::{Config, InstallConfig};
use crate::install;
use crate::install::record::{self, Record};

/// What an uninstall did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// What was removed.
    pub removed: Vec<String>,
    /// What looks like ours and is not, and stays.
    pub left: Vec<String>,
    /// What could not be removed, and why.
    pub faults: Vec<String>,
}

impl Outcome {
    fn fault(&mut self, what: impl Display, why: impl Display) {
        self.faults.push(format!("{what}: {why}"));
    }

    /// Notes what became of a path; one that is not there is no matter.
    fn note(&mut self, path: &Path, done: io::Result<()>) {
        match done {
            Ok(()) => self.removed.push(path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.fault(path.display(), error),
        }
    }
}

/// Removes pods' links, routes, tunnels, rules, the policy table, the plugins, the network's configuration, the words to
/// other programs, and the agent's folders, a datastore in them included. It does not stop at what cannot be removed; a
/// second call goes on.
///
/// Pods that still run lose their network. What is in a datastore elsewhere stays: `ocicatctl delete node` and
/// `ocicatctl ipam gc` are for that. Settings of the whole node, such as forwarding, stay as they are until it is started
/// again: others may rely on them by now.
///
/// # Errors
/// An agent that still runs; then nothing is touched.
pub async fn run(config: &Config) -> anyhow::Result<Outcome> {
    let socket = config.paths.run.join("node.sock");
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        bail!("an agent listens on {}: stop it first", socket.display());
    }
    let mut out = Outcome::default();
    let state = &config.paths.state;
    let mut record = Record::load(state).unwrap_or_else(|error| {
        out.fault(record::path(state).display(), error);
        Record::default()
    });
    // First what lets new pods in.
    let files: BTreeSet<PathBuf> = install::files(&config.install).into_iter().collect();
    for file in record.files.union(&files) {
        out.note(file, std::fs::remove_file(file));
    }
    plugins(&config.install, &record, &mut out);
    links(config, &mut out);
    kernel(config, &mut out).await;
    let mut folders: Vec<&PathBuf> = record.statuses.iter().collect();
    folders.extend([&config.paths.run, state]);
    for folder in folders {
        clear(folder, &mut out);
    }
    // Those in others come first.
    for folder in record.folders.iter().rev() {
        match std::fs::remove_dir(folder) {
            // Somebody else has something in it by now.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            done => out.note(folder, done),
        }
    }
    if !out.faults.is_empty() && record != Record::default() {
        // For the next call.
        if let Err(error) = record.save(state) {
            out.fault(record::path(state).display(), error);
        }
    }
    Ok(out)
}

/// Removes plugins whose content is what the agent wrote, or what it would write.
fn plugins(config: &InstallConfig, record: &Record, out: &mut Outcome) {
    let shipped = install::shipped(config).unwrap_or_else(|error| {
        out.fault("the plugins that were installed", error);
        Vec::new()
    });
    let mut places: BTreeSet<&PathBuf> = record.plugins().collect();
    places.extend(shipped.iter().map(|(_, to)| to));
    for place in places {
        let content = match std::fs::read(place) {
            Ok(content) => content,
            Err(error) => {
                out.note(place, Err(error));
                continue;
            }
        };
        let same = |(from, to): &(PathBuf, PathBuf)| {
            to == place && std::fs::read(from).is_ok_and(|ours| ours == content)
        };
        if record.has_plugin(place, &content) || shipped.iter().any(same) {
            out.note(place, std::fs::remove_file(place));
        } else {
            let place = place.display();
            let text = format!("{place}: its content is not what the agent installs");
            out.left.push(text);
        }
    }
}

/// Removes the links to pods: those with Calico's prefix and an alias that says whose they are.
fn links(config: &Config, out: &mut Outcome) {
    let attach = match &config.paths.sysctl {
        Some(folder) => LinuxAttach::new().sysctl(folder),
        None => LinuxAttach::new(),
    };
    let interfaces = linux::interfaces().unwrap_or_else(|error| {
        out.fault("the links cannot be read", error);
        Vec::new()
    });
    for interface in interfaces {
        let Some(alias) = interface.alias.filter(|alias| alias.contains('/')) else {
            continue;
        };
        if !interface.name.as_str().starts_with("cali") {
            continue;
        }
        let host_link = interface.name;
        let name = format!("link {host_link}");
        match attach.detach(&Detachment { host_link, alias }) {
            Ok(_) => out.removed.push(name),
            Err(error) => out.fault(name, error),
        }
    }
}

async fn kernel(config: &Config, out: &mut Outcome) {
    let what = "routes, tunnels, rules and policy of this kernel";
    let mut options = linux::Options::default();
    options.sysctl.clone_from(&config.paths.sysctl);
    let removed = match LinuxDataplane::new(options) {
        Ok(mut dataplane) => dataplane.remove().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match removed {
        Ok(()) => out.removed.push(what.to_owned()),
        Err(why) => out.fault(what, why),
    }
}

/// Removes a folder with everything in it, as far as that can be.
fn clear(folder: &Path, out: &mut Outcome) {
    let before = out.faults.len();
    let filled = std::fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_some());
    empty(folder, out);
    if out.faults.len() > before {
        return;
    }
    match std::fs::remove_dir(folder) {
        // A folder of the host that is mounted where this runs: what was in it is gone.
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            let what = format!("everything in {}", folder.display());
            out.removed.extend(filled.then_some(what));
        }
        done => out.note(folder, done),
    }
}

/// Removes what is in a folder.
fn empty(folder: &Path, out: &mut Outcome) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => return out.fault(folder.display(), error),
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let removed = if path.is_dir() && !path.is_symlink() {
            empty(&path, out);
            std::fs::remove_dir(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match removed.map_err(|error| (error.kind(), error)) {
            // What is still in it has been named.
            Ok(()) | Err((ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty, _)) => {}
            Err((_, error)) => out.fault(path.display(), error),
        }
    }
}
