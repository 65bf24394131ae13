//! The arguments of `ocicatctl`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod calicoctl;
mod connectivity;
mod objects;

pub use calicoctl::understood;
pub use connectivity::{Connectivity, ConnectivityProbe, ConnectivityTest};
pub use objects::{
    Apply, Chosen, Delete, Files, Get, InNamespace, Label, Patch, PatchForm, Strictness, Validation,
};

use crate::output::{Output, OutputParser};

/// Reads and writes the objects of an ocicat cluster, and looks at its nodes.
///
/// Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 a check, test or comparison found something, 5 conflict,
/// 6 the datastore or the agent does not answer.
#[derive(Debug, Parser)]
#[command(name = "ocicatctl", version, max_term_width = 120)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten, next_help_heading = "Options of every command")]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The datastore: `sqlite:PATH`, `etcd:URLS`, `kubernetes:[KUBECONFIG]`. Default: that of the node's configuration.
    #[arg(long, global = true, env = "OCICAT_DATASTORE", hide_env_values = true)]
    pub datastore: Option<String>,
    /// The node's configuration, from which the datastore is taken when no other is named.
    #[arg(long, global = true, default_value = "/etc/ocicat/node.toml")]
    pub config: PathBuf,
    /// The folder of the node agent's sockets.
    #[arg(long, global = true, env = "OCICAT_RUN", default_value = "/run/ocicat")]
    pub run: PathBuf,
    /// How to print; `json` also makes an error one JSON object on standard error. The last two are for `get`.
    #[arg(short, long, global = true, value_parser = OutputParser, default_value = "table")]
    pub output: Output,
    /// For scripts that were written for calicoctl: versions that differ are told by `version`, and stop nothing.
    #[arg(long, global = true, hide = true)]
    pub allow_version_mismatch: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show objects.
    Get(Get),
    /// Make objects that do not exist yet.
    Create(Files),
    /// Make objects, or replace those that exist.
    Apply(Apply),
    /// Replace objects that exist.
    Replace(Files),
    /// Change some fields of an object.
    Patch(Patch),
    /// Delete objects; those that do not exist are an error unless --skip-not-exists.
    Delete(Delete),
    /// Set or remove labels of an object.
    Label(Label),
    /// Check files without a datastore.
    Validate(Files),
    /// Print the objects of files as Calico's, version v3: policies, namespaces and service accounts of Kubernetes, and objects
    /// of crd.projectcalico.org/v1. Needs no datastore.
    Convert(Files),
    /// Addresses: show, check, release, configure, collect.
    #[command(subcommand)]
    Ipam(Ipam),
    /// This node: BGP, diagnosis, kernel.
    #[command(subcommand)]
    Node(Node),
    /// What policy allows, and why.
    #[command(subcommand)]
    Policy(Policy),
    /// The way of a packet from one pod to another, and who decides on it.
    Trace(Trace),
    /// Tests of the running network.
    #[command(subcommand)]
    Connectivity(Connectivity),
    /// The datastore as a whole.
    #[command(subcommand)]
    Datastore(Datastore),
    /// Versions of this program, the agents and the cluster.
    Version,
    /// Prints a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// `ipam`.
#[derive(Debug, Subcommand)]
pub enum Ipam {
    /// How full pools and blocks are, and who has an address.
    Show {
        /// Each block, too.
        #[arg(long)]
        show_blocks: bool,
        /// Addresses that nodes have borrowed from the blocks of others.
        #[arg(long)]
        show_borrowed: bool,
        /// The settings.
        #[arg(long)]
        show_configuration: bool,
        /// Who has this address.
        #[arg(long)]
        ip: Option<IpAddr>,
        /// Draw each address of each block, also when the output is no terminal.
        #[arg(long, requires = "show_blocks")]
        picture: bool,
    },
    /// Compares what is allocated with what is in use; exit code 4 when something is wrong.
    Check {
        /// Write the report, from which `release` works, into this file.
        #[arg(long)]
        report: Option<PathBuf>,
        /// List every address, not only problems.
        #[arg(long)]
        show_all_ips: bool,
    },
    /// Gives addresses back.
    Release {
        /// One address.
        #[arg(long, conflicts_with = "from_report")]
        ip: Vec<IpAddr>,
        /// Everything that a report of `check` calls a leak, unless it has been taken again since.
        #[arg(long, required_unless_present = "ip")]
        from_report: Vec<PathBuf>,
    },
    /// Changes the settings; prints them.
    Configure {
        /// No node takes an address from another node's block.
        #[arg(long, alias = "strictaffinity")]
        strict_affinity: Option<bool>,
        /// Nodes claim blocks as they need them.
        #[arg(long)]
        auto_allocate_blocks: Option<bool>,
        /// The most blocks of a node; 0 for the default of 20. Needs strict affinity.
        #[arg(long)]
        max_blocks_per_host: Option<u32>,
        /// For how many seconds a released address is not handed out again, 0 to 1200.
        #[arg(long)]
        ip_cooldown_seconds: Option<u32>,
    },
    /// Releases what nodes that are gone have left behind.
    Gc {
        /// Only show it.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `node`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// BGP peers of this node and their sessions.
    Status {
        /// The routes, too, with the reason why each was chosen.
        #[arg(long)]
        routes: bool,
    },
    /// Writes an archive with all that support needs; without secrets.
    Diags {
        /// Where to; default `ocicat-diags-NODE-TIME.tar.gz` in this folder.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// What this kernel can do, each feature tried in namespaces of its own; exit code 4 when something needed is missing.
    Checksystem,
    /// Every parameter that is in force here, and where its value comes from.
    Config,
    /// Packets by policy and rule, and those that were dropped, by reason.
    Counters {
        /// Also rules that no packet has met.
        #[arg(long)]
        all: bool,
    },
    /// Announces this node's routes as ones that go away (RFC 8326), until `--off`, also through restarts.
    Drain {
        /// As usual again.
        #[arg(long)]
        off: bool,
    },
}

/// `policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// What becomes of one connection, and which rule decides.
    Explain(Connection),
    /// Runs the cases of files against the datastore or against manifests; exit code 4 when one does not hold.
    Test {
        /// Files with `cases:`.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Manifests to test instead of the datastore.
        #[arg(short, long)]
        manifests: Vec<PathBuf>,
        /// How manifests are read.
        #[command(flatten)]
        strictness: Strictness,
        /// Write a JUnit report.
        #[arg(long)]
        junit: Option<PathBuf>,
    },
    /// What may pass between all pods.
    Matrix {
        /// Addresses outside the cluster, to and from which it is shown, too.
        #[arg(long)]
        outside: Vec<IpAddr>,
        /// Only pods of this namespace.
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// What files would open and close if they were applied; exit code 4 when anything opens.
    Diff {
        /// Files, folders, or `-`.
        #[arg(short, long, required = true)]
        filename: Vec<PathBuf>,
        /// How the files are read.
        #[command(flatten)]
        strictness: Strictness,
        /// The files' objects would be deleted.
        #[arg(long)]
        delete: bool,
        /// Addresses outside the cluster.
        #[arg(long)]
        outside: Vec<IpAddr>,
    },
}

/// A connection from one end to another.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// Who opens it: `NAMESPACE/POD` or an address.
    #[arg(long)]
    pub from: String,
    /// Who gets it: `NAMESPACE/POD` or an address.
    #[arg(long)]
    pub to: String,
    /// The port.
    #[arg(long)]
    pub port: Option<u16>,
    /// `tcp`, `udp`, `sctp`, `icmp` or a number.
    #[arg(long, default_value = "tcp")]
    pub protocol: String,
}

/// `trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// The connection.
    #[command(flatten)]
    pub connection: Connection,
    /// Watch what the kernels do with the first such packet, too; exit code 4 when they decide otherwise than policy says.
    /// Open the connection meanwhile, or let --send do it. Needs nft(8) and root.
    #[arg(long)]
    pub real: bool,
    /// A command for the shell that opens the connection: `--send 'kubectl exec -n shop web -- nc -zw1 10.244.0.7 80'`.
    #[arg(long, requires = "real", value_name = "COMMAND")]
    pub send: Option<String>,
    /// How long to watch, seconds.
    #[arg(long, default_value_t = 10, requires = "real")]
    pub timeout: u64,
    /// A further node to watch, and the command that runs another command there: `--on node2='ssh node2'`.
    #[arg(long, requires = "real", value_name = "NODE=COMMAND")]
    pub on: Vec<String>,
}

/// `datastore`.
#[derive(Debug, Subcommand)]
pub enum Datastore {
    /// Moves a cluster from one datastore to another.
    #[command(subcommand)]
    Migrate(Migrate),
}

/// `datastore migrate`: `lock` here, `export` here, `import` there, change the agents' configuration, `unlock` there.
#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// Says in ClusterInformation that the datastore is not ready: agents, Calico's too, add no pods and write nothing until
    /// `unlock`; what runs keeps its network.
    Lock,
    /// Lets agents work again.
    Unlock,
    /// Writes every object, addresses included, as YAML documents.
    Export {
        /// Where to; standard output when absent.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Reads what `export` wrote into a datastore that has no objects yet.
    Import {
        /// The file.
        #[arg(short, long)]
        filename: PathBuf,
    },
}
