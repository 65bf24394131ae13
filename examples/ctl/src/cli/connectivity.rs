//! The arguments of `connectivity`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `connectivity`.
#[derive(Debug, Subcommand)]
pub enum Connectivity {
    /// Makes pods of its own, has them ask each other and takes them away; exit code 4 when an answer is wrong.
    ///
    /// On Kubernetes: a server and clients on each node, in the namespace `ocicat-connectivity`: on the same node, across nodes, by a
    /// Service, under a policy that forbids it, and after it. Elsewhere: containers on this host by its CNI configuration
    /// (root is needed), and from them what other nodes have. What could not be tested is said.
    Test(ConnectivityTest),
    /// What the pods of a test run to answer.
    #[command(hide = true)]
    Serve {
        /// Who answers.
        #[arg(long)]
        name: String,
        /// The port.
        #[arg(long, default_value_t = crate::connectivity::PORT)]
        port: u16,
    },
    /// What the pods of a test run to ask.
    #[command(hide = true)]
    Probe(ConnectivityProbe),
}

/// `connectivity test`.
#[derive(Debug, Args)]
pub struct ConnectivityTest {
    /// How long an answer may take, milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub timeout: u64,
    /// Kubernetes: the image with `ocicatctl`; that of the cluster's agents when absent.
    #[arg(long)]
    pub image: Option<String>,
    /// Kubernetes: the most nodes to test, by name.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub nodes: u8,
    /// Kubernetes: how long pods may take to start, seconds.
    #[arg(long, default_value_t = 60)]
    pub start: u64,
    /// Elsewhere: the network's CNI configuration; the first of --cni-net with the plugin `ocicat` when absent.
    #[arg(long)]
    pub cni_config: Option<PathBuf>,
    /// Elsewhere: the folder of CNI configurations.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_net: PathBuf,
    /// Elsewhere: the folders of CNI plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin: Vec<PathBuf>,
}

/// `connectivity probe`.
#[derive(Debug, Args)]
pub struct ConnectivityProbe {
    /// How long an answer may take, milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub timeout: u64,
    /// How long to ask again while the answer is not as expected, seconds.
    #[arg(long, default_value_t = 20)]
    pub within: u64,
    /// No answer is expected.
    #[arg(long)]
    pub silent: bool,
    /// Where to write what was found, as JSON; standard output when absent.
    #[arg(long)]
    pub write: Option<PathBuf>,
    /// Whom to ask.
    #[arg(required = true)]
    pub targets: Vec<SocketAddr>,
}
