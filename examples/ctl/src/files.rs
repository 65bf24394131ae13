//! Objects in files, folders and standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use ocicat_datastore::validate;

use crate::cli::Validation;
use crate::document::Fault;
use crate::failure::Failure;
use crate::manifest::{self, Manifest};

/// Every object of the files. `kubernetes`: for a store that keeps Kubernetes' own kinds as they are. `namespace` is
/// that of objects that state none. Fields that a kind does not have are named on standard error if `validation` only warns.
///
/// # Errors
/// A file that cannot be read, and everything that is wrong with objects, a line each.
pub fn read(
    paths: &[PathBuf],
    kubernetes: bool,
    namespace: Option<&str>,
    validation: Validation,
) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    let mut faults = Vec::new();
    for path in listed(paths)? {
        let (name, text) = text(&path)?;
        let contents = manifest::contents(&name, &text);
        manifests.extend(contents.manifests);
        let unknown = match validation {
            Validation::Strict => contents.unknown,
            Validation::Warn => {
                for fault in &contents.unknown {
                    eprintln!("warning: {fault}");
                }
                Vec::new()
            }
            Validation::Ignore => Vec::new(),
        };
        let mut wrong = [unknown, contents.faults].concat();
        wrong.sort_by_key(|fault| fault.line);
        faults.extend(wrong.iter().map(Fault::to_string));
    }
    for manifest in &mut manifests {
        if let Some(namespace) = namespace {
            manifest.default_namespace(namespace);
        }
        if !kubernetes && let Err(fault) = manifest.convert() {
            faults.push(fault.to_string());
        }
    }
    let objects: Vec<_> = manifests.iter().map(|one| one.object.clone()).collect();
    for (key, problem) in validate::objects(&objects) {
        let manifest = manifests.iter().find(|one| one.object.key() == key);
        faults.extend(manifest.map(|one| one.fault(&problem.field, &problem.reason).to_string()));
    }
    faults.dedup();
    if faults.is_empty() {
        Ok(manifests)
    } else {
        Err(Failure::Failed(faults.join("\n")))
    }
}

/// The files, folders replaced by what is in them (by name, folders in folders too).
fn listed(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let inside = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
            let mut inside = inside
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()?;
            inside.sort();
            inside.retain(|path| path.is_dir() || is_manifest(path));
            files.extend(listed(&inside)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(std::ffi::OsStr::to_str);
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// A file's name in messages, and its text.
///
/// # Errors
/// When it cannot be read.
pub fn text(path: &Path) -> Result<(String, String), Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(("stdin".to_owned(), text));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok((path.display().to_string(), text))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let text = format!("{}: {error}", path.display());
    if error.kind() == std::io::ErrorKind::NotFound {
        Failure::NotFound(text)
    } else {
        Failure::Failed(text)
    }
}
