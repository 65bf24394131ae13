//! `cargo xtask package`: that a stranger can depend on each crate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stage;
use crate::workspace::{self, CRATES, cargo};

/// What every archive must hold, beside the code.
const REQUIRED: [&str; 5] = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "Cargo.toml",
];

/// Packages every crate, unpacks the archives and builds one small program against each, outside the workspace.
pub(crate) fn run() -> Result<(), String> {
    let mut package = cargo();
    package.args([
        "package",
        "--quiet",
        "--locked",
        "--no-verify",
        "--allow-dirty",
    ]);
    for name in CRATES {
        package.args(["-p", name]);
    }
    stage::run(&mut package)?;
    let place = Place::new()?;
    for name in CRATES {
        unpack(name, &place.0)?;
    }
    for name in CRATES {
        program(name, &place.0)?;
        println!("{name}: a program of its own builds and runs against the archive");
    }
    Ok(())
}

/// A folder outside the workspace that goes away with its owner.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ocicat-package-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unpack(name: &str, place: &Path) -> Result<(), String> {
    let archive = workspace::target().join(format!("package/{name}-{}.crate", version(name)?));
    stage::run(
        Command::new("tar")
            .arg("xzf")
            .arg(&archive)
            .arg("-C")
            .arg(place),
    )?;
    let folder = place.join(name);
    fs::rename(place.join(format!("{name}-{}", version(name)?)), &folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in REQUIRED {
        if !folder.join(file).is_file() {
            return Err(format!("the archive of {name} has no {file}"));
        }
    }
    let manifest = read(&folder.join("Cargo.toml"))?;
    for key in [
        "description",
        "license",
        "rust-version",
        "[package.metadata.docs.rs]",
    ] {
        if !manifest.contains(key) {
            return Err(format!("the archive of {name}: Cargo.toml has no {key}"));
        }
    }
    Ok(())
}

/// The program is the crate's smallest use, kept in xtask/programs.
fn program(name: &str, place: &Path) -> Result<(), String> {
    let short = name.trim_start_matches("ocicat-");
    let source = workspace::root().join(format!("xtask/programs/{short}.rs"));
    let folder = place.join(format!("use-{short}"));
    fs::create_dir_all(folder.join("src"))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let code = read(&source)?;
    let features = code
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("// features: "))
        .unwrap_or_default();
    let mut manifest = format!(
        "[package]\nname = \"use-{short}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         {name} = {{ version = \"{}\", features = [{features}] }}\n\n[patch.crates-io]\n",
        version(name)?
    );
    for other in CRATES {
        manifest.push_str(&format!(
            "{other} = {{ path = \"{}\" }}\n",
            place.join(other).display()
        ));
    }
    write(&folder.join("Cargo.toml"), &manifest)?;
    write(&folder.join("src/main.rs"), &code)?;
    let mut build = cargo();
    build
        .current_dir(&folder)
        .args(["run", "--quiet"])
        .env("CARGO_TARGET_DIR", place.join("target"));
    stage::run(&mut build)
}

fn version(name: &str) -> Result<String, String> {
    let manifest = read(&workspace::folder(name).join("Cargo.toml"))?;
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = "));
    line.map(|value| value.trim_matches('"').to_owned())
        .ok_or_else(|| format!("{name} states no version"))
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
