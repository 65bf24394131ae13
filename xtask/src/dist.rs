//! `cargo xtask dist`: what is shipped. Static programs, the image of the DaemonSet as a tar that any runtime imports,
//! manifests as single files, and the checksums of all.

mod image;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::stage::run;
use crate::workspace;

/// The version of everything that is shipped.
const VERSION: &str = "0.1.0";

/// The packages of the examples' workspace with programs that are shipped, and the programs.
const PACKAGES: &[(&str, &[&str])] = &[
    ("ocicat", &["ocicat", "ocicat-ipam"]),
    ("ocicat-node", &["ocicat-node"]),
    ("ocicatctl", &["ocicatctl"]),
    ("ocicat-bgpd", &["ocicat-bgpd"]),
    ("ocicat-lab", &["ocicat-lab"]),
];

/// What goes into the image: programs, and the plugins that the agent installs.
const IN_IMAGE: &[&str] = &["ocicat-node", "ocicatctl", "ocicat-bgpd"];
const PLUGINS: &[&str] = &["ocicat", "ocicat-ipam"];

/// Manifests that become one file each, and their parts in order.
const MANIFESTS: &[(&str, &[&str])] = &[
    (
        "ocicat-kubernetes.yaml",
        &[
            "crds/projectcalico.org.yaml",
            "kubernetes/rbac.yaml",
            "kubernetes/config.yaml",
            "kubernetes/daemonset.yaml",
        ],
    ),
    // For a cluster that has Calico's definitions.
    (
        "ocicat-for-calico.yaml",
        &[
            "kubernetes/rbac.yaml",
            "kubernetes/config.yaml",
            "kubernetes/daemonset.yaml",
        ],
    ),
    (
        "ocicat-etcd.yaml",
        &["etcd/config.yaml", "etcd/daemonset.yaml"],
    ),
    ("ocicat-reflector.yaml", &["reflector/reflector.yaml"]),
    ("ocicat-uninstall.yaml", &["kubernetes/uninstall.yaml"]),
];

/// Builds everything into `target/dist`.
pub(crate) fn dist() -> Result<(), String> {
    let out = workspace::target().join("dist");
    let bin = out.join("bin");
    std::fs::create_dir_all(&bin).map_err(|error| at(&bin, &error))?;
    for (package, programs) in PACKAGES {
        for built in static_programs(package, programs)? {
            let name = built.file_name().unwrap_or_default();
            copy(&built, &bin.join(name))?;
        }
    }
    // Its store would come along into the thin plugin if both were built at once.
    for built in static_programs("ocicat", &["ocicat-direct"])? {
        copy(&built, &bin.join("ocicat-direct"))?;
    }
    copy(&bin.join("ocicatctl"), &bin.join("kubectl-ocicat"))?;
    let files = |names: &[&str]| names.iter().map(|name| bin.join(name)).collect::<Vec<_>>();
    let tag = format!("docker.io/ocicat/node:{VERSION}");
    let tar = out.join(format!("ocicat-node-{VERSION}.tar"));
    image::write(&tar, &tag, &files(IN_IMAGE), &files(PLUGINS))
        .map_err(|error| at(&tar, &error))?;
    manifests(&out)?;
    let deploy = workspace::root().join("examples/deploy");
    for file in [
        "systemd/ocicat-node.service",
        "systemd/node.toml",
        "image/Containerfile",
    ] {
        let name = Path::new(file).file_name().unwrap_or_default();
        copy(&deploy.join(file), &out.join(name))?;
    }
    checksums(&out)?;
    println!("{}", out.display());
    Ok(())
}

/// Builds programs of a package by themselves, without anything that is loaded at run time, and checks that.
///
/// # Errors
/// When one does not build, or wants a dynamic linker.
pub(crate) fn static_programs(package: &str, programs: &[&str]) -> Result<Vec<PathBuf>, String> {
    let triple = host()?;
    let mut cargo = workspace::cargo();
    cargo
        .arg("build")
        .arg("--manifest-path")
        .arg(workspace::examples());
    cargo.args(["--release", "--package", package, "--target", &triple]);
    for program in programs {
        cargo.args(["--bin", program]);
    }
    if programs.contains(&"ocicat-direct") {
        cargo.args(["--features", "direct"]);
    }
    // With a target named, the flag does not reach build scripts and procedural macros.
    cargo.env(
        "RUSTFLAGS",
        "-C target-feature=+crt-static -C strip=symbols",
    );
    run(&mut cargo)?;
    let folder = workspace::target().join(&triple).join("release");
    let built: Vec<PathBuf> = programs.iter().map(|name| folder.join(name)).collect();
    for path in &built {
        if is_dynamic(path)? {
            return Err(format!("{} needs a dynamic linker", path.display()));
        }
    }
    Ok(built)
}

/// The compiler's own target.
fn host() -> Result<String, String> {
    let out = std::process::Command::new("rustc").arg("-vV").output();
    let out = out.map_err(|error| format!("rustc: {error}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned)
        .ok_or_else(|| "rustc does not say what it runs on".to_owned())
}

/// Whether an ELF file asks for an interpreter (a program header of type `PT_INTERP`, elf(5)).
fn is_dynamic(path: &Path) -> Result<bool, String> {
    let bytes = std::fs::read(path).map_err(|error| at(path, &error))?;
    let number = |offset: usize, size: usize| {
        let field = bytes.get(offset..offset + size)?;
        let bytes = field.iter().rev();
        Some(bytes.fold(0_usize, |all, byte| all << 8 | usize::from(*byte)))
    };
    let headers = || Some((number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?));
    let (start, size, count) =
        headers().ok_or_else(|| format!("{}: is no ELF file", path.display()))?;
    Ok((0..count).any(|index| number(start + index * size, 4) == Some(3)))
}

/// Writes each manifest as one file.
fn manifests(out: &Path) -> Result<(), String> {
    let deploy = workspace::root().join("examples/deploy");
    for (name, parts) in MANIFESTS {
        let mut texts = Vec::new();
        for part in *parts {
            for file in files_of(&deploy.join(part))? {
                let text = std::fs::read_to_string(&file).map_err(|error| at(&file, &error))?;
                texts.push(text.trim_start_matches("---\n").trim_end().to_owned());
            }
        }
        let path = out.join(name);
        std::fs::write(&path, texts.join("\n---\n") + "\n").map_err(|error| at(&path, &error))?;
    }
    Ok(())
}

/// A file, or every YAML file of a folder and the folders in it, by name.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| at(path, &error))?;
    let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    inside.sort();
    let mut files = Vec::new();
    for path in inside {
        if path.is_dir()
            || path
                .extension()
                .is_some_and(|extension| extension == "yaml")
        {
            files.extend(files_of(&path)?);
        }
    }
    Ok(files)
}

/// `SHA256SUMS`, as sha256sum(1) checks it.
fn checksums(out: &Path) -> Result<(), String> {
    let mut lines = Vec::new();
    for folder in [out.to_path_buf(), out.join("bin")] {
        let entries = std::fs::read_dir(&folder).map_err(|error| at(&folder, &error))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path
                .strip_prefix(out)
                .unwrap_or(&path)
                .display()
                .to_string();
            if path.is_file() && name != "SHA256SUMS" {
                let bytes = std::fs::read(&path).map_err(|error| at(&path, &error))?;
                lines.push(format!("{}  {name}", hex(&Sha256::digest(&bytes))));
            }
        }
    }
    lines.sort_by(|one, other| one.split(' ').nth(2).cmp(&other.split(' ').nth(2)));
    let path = out.join("SHA256SUMS");
    std::fs::write(&path, lines.join("\n") + "\n").map_err(|error| at(&path, &error))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map_err(|error| at(from, &error))?;
    Ok(())
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests;
