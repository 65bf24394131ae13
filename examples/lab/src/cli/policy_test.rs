//! Cases of policy over a scenario: who should reach whom, without a cluster.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ocicatctl::manifest::Manifest;
use ocicatctl::policy::{Cluster, Report, read};

use crate::launch::File;

/// A case failed.
const FAILED: u8 = 4;

/// What is tested, and how that is told.
#[derive(Debug, Args)]
pub(super) struct PolicyTest {
    /// The scenario: its pods, namespaces and the manifests that it applies.
    #[arg(short, long, value_name = "SCENARIO")]
    file: String,
    /// How to report.
    #[arg(long, short, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// The files with the cases.
    #[arg(required = true)]
    cases: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Junit,
}

impl PolicyTest {
    /// Reads everything, checks every case, and says what became of them.
    pub(super) fn run(&self) -> Result<ExitCode> {
        let objects = crate::planned::objects(&self.file)?;
        let manifests = objects.into_iter().map(Manifest::stored);
        let cluster = Cluster::of(&manifests.collect::<Result<Vec<_>, _>>()?)?;
        let mut report = Report::default();
        for name in &self.cases {
            let file = File::read(name)?;
            for (case, document) in read(&file.name, &file.text)? {
                report.outcomes.push(cluster.check(&case, &document)?);
            }
        }
        let told = match self.output {
            Format::Text => report.text(),
            Format::Json => report.json(),
            Format::Junit => report.junit("ocicat-lab"),
        };
        print!("{told}");
        let failed = report.failed() > 0;
        Ok(ExitCode::from(if failed { FAILED } else { 0 }))
    }
}
