//! What a kernel can do, tried before it is needed.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};

use super::netns::own;
use super::sysctl::Sysctl;
use crate::KernelError;
use crate::netlink::Socket;

mod network;
mod policy;

/// One thing that a kernel can do or cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Feature {
    /// What it is, such as `vxlan`: fit for a table and for a log.
    pub name: &'static str,
    /// Whether it is there; else what the kernel said when it was tried.
    pub available: Result<(), String>,
    /// What is lost without it, and the remedy.
    pub costs: &'static str,
}

/// What is tried, and how; in the order of the answer.
struct Trial {
    name: &'static str,
    costs: &'static str,
    run: fn(&mut Bench<'_>) -> Result<(), String>,
}

/// Where it is tried.
struct Bench<'a> {
    socket: Socket,
    /// Another network namespace, of the same thread.
    other: OwnedFd,
    sysctl: Sysctl<'a>,
}

/// Tries everything that a node's network may need, in two network namespaces of its own that are gone when it returns:
/// nothing of the calling thread's is looked at or changed. The kernel may load modules for it, as it would when they are
/// needed. It takes some milliseconds, blocking, and a thread.
///
/// Where no network namespace can be made (no `CAP_SYS_ADMIN`), the first feature says so and the others were not
/// tried.
#[must_use]
pub fn probe() -> Vec<Feature> {
    probe_with(None)
}

/// As [`probe`], with the settings of network namespaces found as files elsewhere than below `/proc/sys/net`
/// ([`Options::sysctl`](super::Options::sysctl)).
#[must_use]
pub fn probe_with(settings: Option<&Path>) -> Vec<Feature> {
    let settings = settings.map(PathBuf::from);
    let thread = std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || run(settings.as_deref()));
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(features)) => features,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => untried(&format!("no thread could be started: {error}")),
    }
}

/// On a thread of its own, which ends with its network namespaces.
fn run(settings: Option<&Path>) -> Vec<Feature> {
    let mut bench = match bench(settings) {
        Ok(bench) => bench,
        Err(error) => return untried(&error.to_string()),
    };
    let mut features = vec![NAMESPACES.feature(Ok(()))];
    features.extend(trials().map(|trial| trial.feature((trial.run)(&mut bench))));
    features
}

fn trials() -> impl Iterator<Item = &'static Trial> {
    network::TRIALS.iter().chain(policy::TRIALS)
}

fn untried(why: &str) -> Vec<Feature> {
    let first = NAMESPACES.feature(Err(why.to_owned()));
    let rest = trials().map(|trial| trial.feature(Err("not tried".to_owned())));
    std::iter::once(first).chain(rest).collect()
}

const NAMESPACES: Trial = Trial {
    name: "network namespaces",
    costs: "pods' links cannot be made, and nothing else can be tried: CAP_SYS_ADMIN, CONFIG_NET_NS",
    run: |_| Ok(()),
};

impl Trial {
    fn feature(&self, available: Result<(), String>) -> Feature {
        Feature {
            name: self.name,
            available,
            costs: self.costs,
        }
    }
}

fn bench(settings: Option<&Path>) -> Result<Bench<'_>, KernelError> {
    let enter =
        || unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| KernelError::new(errno as i32, None));
    enter()?;
    let other = own()?.into();
    enter()?;
    Ok(Bench {
        socket: Socket::open()?,
        other,
        sysctl: Sysctl::new(settings),
    })
}

fn words(error: impl Into<KernelError>) -> String {
    error.into().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_namespace_nothing_is_said_to_be_there() {
        let features = untried("not permitted");
        assert_eq!(features[0].available, Err("not permitted".to_owned()));
        let rest = &features[1..];
        assert!(rest.len() > 30);
        assert!(
            rest.iter()
                .all(|feature| feature.available == Err("not tried".to_owned()))
        );
        let names: std::collections::BTreeSet<_> = features.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), features.len(), "a name is there twice");
    }
}
