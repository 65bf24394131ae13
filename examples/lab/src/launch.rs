//! What travels from the process at the terminal to the one inside.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use ocicatctl::Fault;
use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

/// The demo's scenario, as it also lies in the project's sources.
const DEMO: &str = include_str!("../scenarios/demo.yaml");

/// The soak's, likewise.
const SOAK: &str = include_str!("../scenarios/soak.yaml");

/// A file, read where the user's files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The name that the user gave.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// A [`Fault`] without a line when it cannot be read.
    pub fn read(name: &str) -> Result<Self, Fault> {
        let text = fs::read_to_string(name).map_err(|error| Fault::of_file(name, error))?;
        Ok(Self {
            name: name.to_owned(),
            text,
        })
    }
}

/// A scenario's file and the manifests that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The scenario.
    pub scenario: File,
    /// The manifests, in the order of the scenario's `apply`.
    pub manifests: Vec<File>,
}

impl Bundle {
    /// Reads a scenario and its manifests, and checks the scenario.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn read(name: &str) -> Result<(Self, Scenario), Fault> {
        let scenario = File::read(name)?;
        let checked = Scenario::parse(&scenario.name, &scenario.text)?;
        let folder = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
        let manifests = checked
            .apply
            .iter()
            .map(|file| File::read(&folder.join(file).to_string_lossy()));
        let manifests = manifests.collect::<Result<_, _>>()?;
        Ok((
            Self {
                scenario,
                manifests,
            },
            checked,
        ))
    }

    /// The demo's scenario, which the program carries, on another datastore.
    #[must_use]
    pub fn demo(datastore: &str) -> Self {
        let scenario = File {
            name: "demo.yaml".to_owned(),
            text: format!("{DEMO}datastore: {datastore}\n"),
        };
        Self {
            scenario,
            manifests: Vec::new(),
        }
    }

    /// The soak's scenario, which the program carries.
    #[must_use]
    pub fn soak() -> Self {
        let scenario = File {
            name: "soak.yaml".to_owned(),
            text: SOAK.to_owned(),
        };
        Self {
            scenario,
            manifests: Vec::new(),
        }
    }
}

/// What the inside process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The scenario.
    pub bundle: Bundle,
    /// `None`: bring the cluster up and serve commands.
    pub demo: Option<Demo>,
    /// The scenario's steps are done and checked, then the lab ends.
    #[serde(default)]
    pub test: bool,
    /// Random churn for a while, then the lab ends.
    #[serde(default)]
    pub soak: Option<Soak>,
    /// Whether standard input is the socket on which commands come.
    pub attached: bool,
}

/// How a soak is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soak {
    /// How long things are churned.
    pub seconds: u64,
    /// What the changes depend on.
    pub seed: u64,
}

/// How the demo is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demo {
    /// One JSON object instead of text.
    pub json: bool,
    /// The cluster stays when the demo is over.
    pub keep: bool,
}

impl Launch {
    /// The launch as text.
    ///
    /// # Errors
    /// Never in practice: it is plain data.
    pub fn encode(&self) -> Result<String> {
        serde_json::to_string(self).context("encoding the launch")
    }

    /// Reads what the outer process wrote.
    ///
    /// # Errors
    /// When it is not there: the program was started by hand.
    pub fn load() -> Result<Self> {
        let path = crate::sandbox::LAUNCH;
        let text = fs::read(path).with_context(|| format!("reading {path}"))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {path}"))
    }
}
