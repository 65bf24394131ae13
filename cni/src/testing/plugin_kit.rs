//! Tests for anyone's plugin: what the specification demands, and what goes wrong in practice.
//!
//! The program is run as a runtime would run it, in a network namespace that stands for the host and is thrown away afterwards, so
//! that nothing of this machine is touched. It needs root (or a user namespace) and `ip` of iproute2.
//!
//! The check `killed` ends the program in the midst of ADD together with its children, as a service manager ends a control
//! group: it runs in a process group of its own, all of which gets SIGKILL, and DEL follows when no member is alive. A plugin
//! whose helpers leave the group (`setsid`) must expect them to go on, here and in production.
//!
//! ```no_run
//! use ocicat_cni::testing::plugin_kit;
//! use serde_json::json;
//!
//! let config = json!({"ipam": {"type": "host-local", "subnet": "10.66.0.0/24", "dataDir": "/tmp/kit"}});
//! let report = plugin_kit::Kit::new("/usr/lib/cni/ptp", config)
//!     .folder("/usr/lib/cni")
//!     .except("host-namespace", "ptp takes the host's own namespace")
//!     .run();
//! println!("{report}");
//! report.assert();
//! ```

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

mod attached;
mod bench;
mod faults;
mod group;
mod protocol;

use bench::{Bench, Fault};

/// A plugin's program and how to run it.
#[derive(Clone)]
pub struct Kit {
    program: PathBuf,
    config: Value,
    folders: Vec<PathBuf>,
    exceptions: Vec<(String, String)>,
    prepare: Option<Arc<Prepare>>,
}

/// What a check needs on the host; dropped after the check.
pub type Prepared = Box<dyn Any + Send>;

type Prepare = dyn Fn() -> Result<Prepared, String> + Send + Sync;

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The rule is kept.
    Passed,
    /// The rule is broken: what was done and what came of it.
    Failed(String),
    /// The check does not apply, such as GC for a plugin without version 1.1.0, or the caller has excepted it.
    NotApplicable(String),
}

/// The verdicts of a run, in the order of the checks.
#[derive(Clone, Debug)]
#[must_use = "a run that nobody looks at tests nothing"]
pub struct Report {
    /// The check's name and its verdict.
    pub verdicts: Vec<(&'static str, Verdict)>,
}

type Check = fn(&Bench) -> Result<(), Fault>;

const CHECKS: &[(&str, Check)] = &[
    ("version", protocol::version),
    ("commands", protocol::commands),
    ("variables", protocol::variables),
    ("names", protocol::names),
    ("configuration", protocol::configuration),
    ("nothing-to-delete", protocol::nothing_to_delete),
    ("status", protocol::status),
    ("add", attached::add),
    ("every-version", attached::every_version),
    ("unknown-keys", attached::unknown_keys),
    ("add-twice", attached::add_twice),
    ("two-interfaces", attached::two_interfaces),
    ("check", attached::check),
    ("delete-again", attached::delete_again),
    ("namespace-gone", attached::namespace_gone),
    ("older-container", attached::older_container),
    ("gc", attached::gc),
    ("gc-of-another-network", attached::gc_of_another_network),
    ("missing-namespace", faults::missing_namespace),
    ("host-namespace", faults::host_namespace),
    ("interface-taken", faults::interface_taken),
    ("many-at-once", faults::many_at_once),
    ("two-deletes-at-once", faults::two_deletes_at_once),
    ("killed", faults::killed),
];

impl Kit {
    /// A plugin's program and the keys of its configuration. `type`, `name` and `cniVersion` are set by the kit.
    ///
    /// # Panics
    /// Never; a program that is not there fails its checks.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, config: Value) -> Self {
        Self {
            program: program.into(),
            config,
            folders: Vec::new(),
            exceptions: Vec::new(),
            prepare: None,
        }
    }

    /// The same with one more folder of `CNI_PATH`, for plugins that call others.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// The same without a check, with the reason, which goes into the report.
    #[must_use]
    pub fn except(mut self, check: impl Into<String>, why: impl Into<String>) -> Self {
        self.exceptions.push((check.into(), why.into()));
        self
    }

    /// The same with something to be done on each check's host before it, such as starting an agent. What it returns is dropped
    /// after the check, and should then take along what it started. Threads and programs that it starts are in the host's
    /// network namespace.
    #[must_use]
    pub fn before_each(
        mut self,
        prepare: impl Fn() -> Result<Prepared, String> + Send + Sync + 'static,
    ) -> Self {
        self.prepare = Some(Arc::new(prepare));
        self
    }

    /// The names of the checks, in their order.
    pub fn checks() -> impl Iterator<Item = &'static str> {
        CHECKS.iter().map(|(name, _)| *name)
    }

    /// Runs every check, each with a host namespace of its own.
    pub fn run(&self) -> Report {
        let verdicts = CHECKS
            .iter()
            .map(|(name, check)| (*name, self.verdict(name, *check)));
        Report {
            verdicts: verdicts.collect(),
        }
    }

    /// Runs one check; `None` when there is none of that name.
    #[must_use]
    pub fn run_one(&self, name: &str) -> Option<Verdict> {
        let (_, check) = CHECKS.iter().find(|(known, _)| *known == name)?;
        Some(self.verdict(name, *check))
    }

    fn verdict(&self, name: &str, check: Check) -> Verdict {
        if let Some((_, why)) = self
            .exceptions
            .iter()
            .find(|(excepted, _)| excepted == name)
        {
            return Verdict::NotApplicable(why.clone());
        }
        let outcome = bench::on_a_host_of_its_own(|| {
            let prepared = self.prepare.as_ref().map(|prepare| prepare()).transpose()?;
            let bench = Bench::new(&self.program, &self.config, &self.folders, name)?;
            let outcome = check(&bench);
            drop(prepared);
            outcome
        });
        match outcome {
            Ok(()) => Verdict::Passed,
            Err(Fault::Broken(what)) => Verdict::Failed(what),
            Err(Fault::NotApplicable(why)) => Verdict::NotApplicable(why),
        }
    }
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit")
            .field("program", &self.program)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Report {
    /// The checks that failed, with what they found.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.verdicts
            .iter()
            .filter_map(|(name, verdict)| match verdict {
                Verdict::Failed(what) => Some((*name, what.as_str())),
                _ => None,
            })
    }

    /// For tests: fails with the whole report when a check has failed.
    ///
    /// # Panics
    /// When a check has failed.
    #[allow(clippy::panic)]
    pub fn assert(&self) {
        assert!(
            self.failures().next().is_none(),
            "the plugin breaks rules:\n{self}"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, verdict) in &self.verdicts {
            match verdict {
                Verdict::Passed => writeln!(f, "{name}: passed")?,
                Verdict::Failed(what) => writeln!(f, "{name}: FAILED: {what}")?,
                Verdict::NotApplicable(why) => writeln!(f, "{name}: not applicable: {why}")?,
            }
        }
        Ok(())
    }
}
