//! `cargo xtask crds`: the definitions of Calico's kinds for the Kubernetes API, made from the datastore's types.

use std::fs;

use crate::workspace;

/// The groups, and the file below `examples/deploy/crds` with the definitions of each. Those of the folder itself are what
/// new clusters get.
const FILES: [(&str, &str); 2] = [
    ("projectcalico.org/v3", "projectcalico.org.yaml"),
    ("crd.projectcalico.org/v1", "v1/crd.projectcalico.org.yaml"),
];

/// Writes the definitions, or says whether those that are there are what would be written.
///
/// # Errors
/// Files that are not, when `check`.
pub(crate) fn run(check: bool) -> Result<(), String> {
    let folder = workspace::root().join("examples/deploy/crds");
    let mut stale = Vec::new();
    for (group, file) in FILES {
        let wanted = definitions(group)?;
        let path = folder.join(file);
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        if check {
            stale.push(path.display().to_string());
            continue;
        }
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, wanted))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not what the types say: {}; run cargo xtask crds",
        stale.join(", ")
    ))
}

/// The definitions of a group as one text.
fn definitions(group: &str) -> Result<String, String> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--locked", "-p", "ocicat-datastore"]);
    cargo.args(["--features=crds", "--example=crds", "--", group]);
    let output = cargo.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let head = format!(
        "# Made from the types of ocicat-datastore by `cargo xtask crds`: the kinds of {group}.\n"
    );
    let text = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    Ok(head + &text)
}
