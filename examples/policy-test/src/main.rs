//! `ocicat-policy-test`: see the crate's documentation.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use ocicat_policy_test::{Cluster, Report, read};
use ocicatctl::{Fault, manifest};

/// Tests network policy without a cluster.
#[derive(Parser)]
#[command(name = "ocicat-policy-test", version)]
struct Arguments {
    /// Manifests: a file, or a folder whose .yaml, .yml and .json files are read, those of its folders too.
    #[arg(long, short, required = true)]
    manifests: Vec<PathBuf>,
    /// How to report.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The files with the cases.
    #[arg(required = true)]
    cases: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
    Junit,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = match run(&arguments) {
        Ok(report) => report,
        Err(fault) => {
            eprintln!("ocicat-policy-test: {fault}");
            return ExitCode::from(2);
        }
    };
    let out = match arguments.output {
        Output::Text => report.text(),
        Output::Json => report.json(),
        Output::Junit => report.junit("ocicat-policy-test"),
    };
    // A closed pipe, as of `head`, is no failure.
    let _ = std::io::stdout().write_all(out.as_bytes());
    ExitCode::from(if report.failed() == 0 { 0 } else { 4 })
}

fn run(arguments: &Arguments) -> Result<Report, Fault> {
    let mut files = Vec::new();
    for path in &arguments.manifests {
        collect(path, &mut files)?;
    }
    let mut manifests = Vec::new();
    for file in &files {
        manifests.extend(manifest::read(&file.to_string_lossy(), &text(file)?)?);
    }
    let cluster = Cluster::of(&manifests)?;
    let mut report = Report::default();
    for file in &arguments.cases {
        for (case, document) in read(&file.to_string_lossy(), &text(file)?)? {
            report.outcomes.push(cluster.check(&case, &document)?);
        }
    }
    Ok(report)
}

/// The files at a path, in the order of their names.
fn collect(path: &Path, into: &mut Vec<PathBuf>) -> Result<(), Fault> {
    if !path.is_dir() {
        into.push(path.to_path_buf());
        return Ok(());
    }
    let fault = |error| Fault::of_file(&path.to_string_lossy(), error);
    let mut entries = Vec::new();
    for entry in path.read_dir().map_err(fault)? {
        entries.push(entry.map_err(fault)?.path());
    }
    entries.sort();
    let is_manifest = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str());
        path.is_dir() || matches!(extension, Some("yaml" | "yml" | "json"))
    };
    for entry in entries.iter().filter(|path| is_manifest(path)) {
        collect(entry, into)?;
    }
    Ok(())
}

fn text(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path).map_err(|error| Fault::of_file(&path.to_string_lossy(), error))
}
