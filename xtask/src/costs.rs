//! `cargo xtask costs`: what each crate costs who adds it, as the table in README.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use crate::stage::run;
use crate::workspace::{self, CRATES};

/// Where the table is in README.md.
const BEGIN: &str = "<!-- costs: cargo xtask costs --write -->";
const END: &str = "<!-- /costs -->";

/// Prints the table; with `write` it replaces the one in README.md, after measuring the times of builds from nothing.
pub(crate) fn run_costs(write: bool) -> Result<(), String> {
    let table = rows(write)?.join("\n");
    println!("{table}");
    if write { replace(&table) } else { Ok(()) }
}

/// The table's lines; `measured` says whether builds are timed.
fn rows(measured: bool) -> Result<Vec<String>, String> {
    let mut lines = vec![
        "| crate | crates it brings | with all features | features | build from nothing | lines with `unsafe` |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for name in CRATES {
        let plain = dependencies(name, &["--no-default-features"])?;
        let all = dependencies(name, &["--all-features"])?;
        let seconds = if measured {
            format!("{:.0} s", build(name)?)
        } else {
            "not measured".to_owned()
        };
        let features = features(name)?.join(", ");
        let dangerous = unsafe_lines(&workspace::folder(name).join("src"))?;
        lines.push(format!(
            "| `{name}` | {} | {} | {features} | {seconds} | {dangerous} |",
            plain.len(),
            all.len()
        ));
    }
    Ok(lines)
}

/// The crates that come along, itself left out.
fn dependencies(name: &str, features: &[&str]) -> Result<BTreeSet<String>, String> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "tree", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}",
    ]);
    cargo.args(features);
    let out = cargo
        .output()
        .map_err(|error| format!("cargo tree: {error}"))?;
    if !out.status.success() {
        return Err(format!(
            "cargo tree: {}",
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let packages = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(packages
        .filter(|one| !one.is_empty() && *one != name)
        .map(str::to_owned)
        .collect())
}

fn features(name: &str) -> Result<Vec<String>, String> {
    let path = workspace::folder(name).join("Cargo.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let section = text.split("\n[features]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim());
    let mut names: Vec<String> = names
        .filter(|name| *name != "default" && !name.starts_with(['#', '"', ' ']))
        .map(|name| format!("`{name}`"))
        .collect();
    names.sort_by(|one, other| one.trim_matches('`').cmp(other.trim_matches('`')));
    Ok(names)
}

/// Seconds of a release build without features, in a folder of its own.
fn build(name: &str) -> Result<f64, String> {
    let folder = workspace::target().join("costs");
    let _ = std::fs::remove_dir_all(&folder);
    let began = Instant::now();
    let mut cargo = workspace::cargo();
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--no-default-features",
        "-p",
        name,
    ]);
    run(cargo.env("CARGO_TARGET_DIR", &folder))?;
    let seconds = began.elapsed().as_secs_f64();
    let _ = std::fs::remove_dir_all(&folder);
    Ok(seconds)
}

/// Lines that begin something unsafe; comments and lint attributes do not count.
fn unsafe_lines(folder: &Path) -> Result<usize, String> {
    let mut count = 0;
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            count += unsafe_lines(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let is = |line: &&str| {
                let code = line.split("//").next().unwrap_or_default();
                ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                    .iter()
                    .any(|one| code.contains(one))
            };
            count += text.lines().filter(is).count();
        }
    }
    Ok(count)
}

fn replace(table: &str) -> Result<(), String> {
    let (before, _, after) = readme()?;
    let text = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    let path = workspace::root().join("README.md");
    std::fs::write(&path, text).map_err(|error| error.to_string())
}

/// README.md: what is before the table, the table, what is behind it.
fn readme() -> Result<(String, String, String), String> {
    let path = workspace::root().join("README.md");
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (table, after) = rest.split_once(END)?;
        let [before, table, after] = [before, table.trim(), after].map(str::to_owned);
        Some((before, table, after))
    });
    parts.ok_or_else(|| format!("README.md has no {BEGIN} and {END}"))
}

/// Compares the table in README.md with what there is, but for the times, which differ from machine to machine.
pub(crate) fn check() -> Result<(), String> {
    let (_, stated, _) = readme()?;
    let rows = rows(false)?;
    match difference(&stated, &rows) {
        Some(line) => Err(format!(
            "README.md does not say what crates cost now (`cargo xtask costs --write`): {line}"
        )),
        None => Ok(()),
    }
}

/// The first row that the table does not have.
fn difference<'a>(stated: &str, rows: &'a [String]) -> Option<&'a String> {
    let untimed = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let timed = cells.len().saturating_sub(2);
        let cells = cells.iter().enumerate().filter(|(at, _)| *at != timed);
        cells.map(|(_, cell)| *cell).collect::<Vec<_>>().join(" | ")
    };
    let stated: BTreeSet<String> = stated.lines().skip(2).map(untimed).collect();
    rows.iter()
        .skip(2)
        .find(|row| !stated.contains(&untimed(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_alone_may_differ() {
        let table = |seconds: &str, unsafe_lines: u32| {
            let row = format!("| `x` | 6 | 17 | `a`, `b` | {seconds} | {unsafe_lines} |");
            vec!["| crate |".to_owned(), "|---|".to_owned(), row]
        };
        let stated = table("5 s", 0).join("\n");
        assert_eq!(difference(&stated, &table("not measured", 0)), None);
        let other = table("5 s", 1);
        assert_eq!(difference(&stated, &other), other.last());
    }
}
