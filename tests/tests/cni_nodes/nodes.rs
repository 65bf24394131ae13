//! Nodes with real agents, for tests with our own runtime side and with other people's runtimes.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary uses a part of it"
)]

use std::sync::Arc;

pub(crate) mod agent;
pub(crate) mod cluster;
pub(crate) mod host;

pub(crate) use agent::{Node, program};
pub(crate) use cluster::Cluster;
pub(crate) use host::{Host, Sandbox};

/// A cluster of `count` nodes on one link, whose agents are ready.
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
    pub(crate) cluster: Cluster,
    pub(crate) folder: tempfile::TempDir,
}

impl Nodes {
    /// One node, or two.
    pub(crate) fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::new(folder.path());
        let hosts = [Host::new(), Host::new()];
        hosts[0].join(&hosts[1], ["192.168.90.1/24", "192.168.90.2/24"]);
        let hosts = hosts.map(Arc::new);
        let named = ["n1", "n2"].into_iter().zip(hosts);
        let mut nodes: Vec<Node> = named
            .map(|(name, host)| Node::new(name, host, folder.path(), &cluster.url))
            .collect();
        nodes.iter_mut().take(count).for_each(Node::spawn);
        nodes.iter().take(count).for_each(Node::wait_until_ready);
        Self {
            nodes,
            cluster,
            folder,
        }
    }
}
