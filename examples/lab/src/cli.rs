//! The command line.

mod policy_test;

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::channel::{Questions, Request};
use crate::launch::{Bundle, Demo, File, Launch, Soak};
use crate::probe::{End, Probe};
use crate::scenario::Protocol;
use crate::{background, client, inside, sandbox};

/// A cluster in network namespaces, on one machine, without root.
///
/// Nodes, a router, hosts and pods are namespaces of this machine; agents, CNI plugins, BGP sessions, routes and policies
/// are the real ones. Nothing of it stays on the machine.
#[derive(Debug, Parser)]
#[command(name = "ocicat-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show everything: a cluster is built, probed, restricted, hurt and taken down, and every step is checked.
    Demo {
        /// Print one JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Leave the cluster running for exploring: what would remove nodes and pods is left out.
        #[arg(long)]
        keep: bool,
        /// Where the cluster's objects are kept: sqlite, or an etcd of the lab's own.
        #[arg(long, default_value = "sqlite", value_parser = ["sqlite", "etcd"])]
        datastore: String,
    },
    /// Churn pods, policies, nodes, agents and etcd at random, and check that nothing is lost, leaked or grown.
    Soak {
        /// How many minutes.
        #[arg(long, default_value_t = 2.0)]
        minutes: f64,
        /// What the changes depend on; printed, so that a run can be had again.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Build the cluster of a scenario and leave it running in the background.
    Up {
        /// The scenario.
        #[arg(short, long, value_name = "SCENARIO")]
        file: String,
    },
    /// Build the clusters of scenarios, one after the other, do their steps and check what those expect.
    ///
    /// The exit code is 4 when something is not as expected.
    Test {
        /// The scenarios.
        #[arg(short, long, required = true, num_args = 1.., value_name = "SCENARIO")]
        file: Vec<String>,
    },
    /// Check who would reach whom in a scenario's cluster, without building it.
    ///
    /// The exit code is 4 when a case is not as expected.
    PolicyTest(policy_test::PolicyTest),
    /// End a cluster.
    Down {
        /// Its name; not needed when only one runs.
        name: Option<String>,
    },
    /// Create or replace the objects of manifests; returns when every agent enforces them.
    Apply(Files),
    /// Delete the objects that manifests name; returns when every agent has let go of them.
    Delete(Files),
    /// Make namespaces, pods and manifests equal to another scenario, with the least change.
    Sync {
        #[command(flatten)]
        lab: Lab,
        /// The scenario.
        #[arg(short, long, value_name = "SCENARIO")]
        file: String,
    },
    /// Run a program in a pod (`namespace/pod`), on a node (`node:NAME`) or on a host (`host:NAME`).
    Exec {
        #[command(flatten)]
        lab: Lab,
        /// Where.
        end: End,
        /// The program and its arguments, after `--`.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
    /// Ask with real packets who reaches whom.
    Probe(ProbeArgs),
}

#[derive(Debug, Args)]
struct Lab {
    /// The lab's name; not needed when only one runs.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct Files {
    #[command(flatten)]
    lab: Lab,
    /// Manifests: Calico v3 and Kubernetes objects, YAML or JSON.
    #[arg(short, long, required = true, num_args = 1.., value_name = "FILE")]
    file: Vec<String>,
}

#[derive(Debug, Args)]
struct ProbeArgs {
    #[command(flatten)]
    lab: Lab,
    /// Only from this end: `namespace/pod`, `host:NAME` or `node:NAME`.
    #[arg(long)]
    from: Option<End>,
    /// Only to this end.
    #[arg(long)]
    to: Option<End>,
    /// This port instead of those that are served.
    #[arg(long)]
    port: Option<NonZeroU16>,
    /// Only this protocol: TCP, UDP or ICMP.
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Exactly these probes, one JSON object a line: {"from": .., "to": .., "port": .., "protocol": ..}
    #[arg(long, conflicts_with_all = ["from", "to", "port", "protocol"], value_name = "FILE")]
    file: Option<String>,
    /// How long to wait for an answer.
    #[arg(long, default_value = "500ms", value_parser = duration)]
    timeout: Duration,
    /// Print the answers as one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Runs the program: the hidden roles first, then the command line.
#[must_use]
pub fn main() -> ExitCode {
    let role = std::env::args().nth(1);
    let ended = match role.as_deref() {
        Some(sandbox::INIT) => sandbox::init(),
        Some(sandbox::INSIDE) => inside::main(),
        Some(background::KEEP) => background::keep(),
        _ => run(Cli::parse().command),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo {
            json,
            keep,
            datastore,
        } => demo(Demo { json, keep }, &datastore),
        Command::Soak { minutes, seed } => soak(minutes, seed),
        Command::Up { file } => {
            let (bundle, scenario) = Bundle::read(&file)?;
            check_manifests(&bundle.manifests)?;
            background::start(
                &scenario.name,
                &Launch {
                    bundle,
                    demo: None,
                    test: false,
                    soak: None,
                    attached: true,
                },
            )
        }
        Command::Test { file } => test(&file),
        Command::PolicyTest(cases) => cases.run(),
        Command::Down { name } => client::down(name.as_deref()),
        Command::Apply(files) => {
            let read = files.read()?;
            client::ask(files.lab.name.as_deref(), &Request::Apply { files: read })
                .map(ExitCode::from)
        }
        Command::Delete(files) => {
            let read = files.read()?;
            client::ask(files.lab.name.as_deref(), &Request::Delete { files: read })
                .map(ExitCode::from)
        }
        Command::Sync { lab, file } => {
            let (bundle, _) = Bundle::read(&file)?;
            check_manifests(&bundle.manifests)?;
            client::ask(lab.name.as_deref(), &Request::Sync { bundle }).map(ExitCode::from)
        }
        Command::Exec { lab, end, program } => client::exec(lab.name.as_deref(), end, &program),
        Command::Probe(arguments) => {
            let questions = arguments.questions()?;
            client::ask(arguments.lab.name.as_deref(), &Request::Probe(questions))
                .map(ExitCode::from)
        }
    }
}

/// Each scenario in a lab of its own: this process leaves its namespaces for it, which it can do once.
fn test(files: &[String]) -> Result<ExitCode> {
    let [file] = files else {
        return each(files);
    };
    let (bundle, _) = Bundle::read(file)?;
    check_manifests(&bundle.manifests)?;
    let launch = Launch {
        bundle,
        demo: None,
        test: true,
        soak: None,
        attached: false,
    };
    let status = sandbox::enter(&launch.encode()?, std::process::Stdio::null())?;
    Ok(sandbox::exit_code(status))
}

fn each(files: &[String]) -> Result<ExitCode> {
    let mut worst = 0;
    for file in files {
        let mut command = std::process::Command::new("/proc/self/exe");
        let status = command.args(["test", "-f", file]).status()?;
        worst = worst.max(status.code().unwrap_or(1));
    }
    Ok(ExitCode::from(u8::try_from(worst).unwrap_or(1)))
}

fn soak(minutes: f64, seed: Option<u64>) -> Result<ExitCode> {
    use std::hash::{BuildHasher, RandomState};
    let time = Duration::try_from_secs_f64(minutes * 60.0).context("--minutes")?;
    let options = Soak {
        seconds: time.as_secs(),
        seed: seed.unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000),
    };
    let launch = Launch {
        bundle: Bundle::soak(),
        demo: None,
        test: false,
        soak: Some(options),
        attached: false,
    };
    let status = sandbox::enter(&launch.encode()?, std::process::Stdio::null())?;
    Ok(sandbox::exit_code(status))
}

fn demo(demo: Demo, datastore: &str) -> Result<ExitCode> {
    let launch = Launch {
        bundle: Bundle::demo(datastore),
        demo: Some(demo),
        test: false,
        soak: None,
        attached: demo.keep,
    };
    if demo.keep {
        return background::start("demo", &launch);
    }
    let status = sandbox::enter(&launch.encode()?, std::process::Stdio::null())?;
    Ok(sandbox::exit_code(status))
}

/// Faults in manifests are shown before anything is built.
fn check_manifests(files: &[File]) -> Result<()> {
    for file in files {
        ocicatctl::manifest::read(&file.name, &file.text)?;
    }
    Ok(())
}

impl Files {
    fn read(&self) -> Result<Vec<File>> {
        let files = self
            .file
            .iter()
            .map(|name| File::read(name))
            .collect::<Result<Vec<_>, _>>()?;
        check_manifests(&files)?;
        Ok(files)
    }
}

impl ProbeArgs {
    fn questions(&self) -> Result<Questions> {
        let probes = self.file.as_deref().map(read_probes).transpose()?;
        Ok(Questions {
            probes,
            from: self.from.clone(),
            to: self.to.clone(),
            port: self.port,
            protocol: self.protocol,
            timeout_ms: u64::try_from(self.timeout.as_millis())?,
            json: self.json,
        })
    }
}

fn read_probes(name: &str) -> Result<Vec<Probe>> {
    let file = File::read(name)?;
    let lines = file
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let probe = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{name}:{}", number + 1))
    };
    lines.map(probe).collect()
}

/// A time such as `500ms` or `2s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 500ms or 2s");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert!(duration("5").is_err() && duration("-1s").is_err());
    }
}
