//! The public API of every crate as text, read from what rustdoc wrote, and compared with the snapshot in the tree.
//!
//! A snapshot's first line holds a fingerprint of the crate's CHANGELOG: a new snapshot is only written when the
//! CHANGELOG has changed too, so that no change of the API goes unnamed. It also holds the version of rustdoc, whose
//! wording differs between versions: another version's snapshot cannot be compared, and that is said.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use crate::package::{read, write};
use crate::stage;
use crate::workspace::{self, CRATES, cargo};

/// Compares the public API of every crate with its snapshot, or writes the snapshots.
pub(crate) fn run(bless: bool) -> Result<(), String> {
    stage::run(cargo().args([
        "doc",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-deps",
        "--all-features",
    ]))?;
    let mut problems = Vec::new();
    for name in CRATES {
        let outcome = if bless {
            write_snapshot(name)
        } else {
            compare(name)
        };
        problems.extend(outcome.err());
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

fn compare(name: &str) -> Result<(), String> {
    let path = workspace::folder(name).join("public-api.txt");
    let snapshot = read(&path)?;
    let (made_by, here) = (
        snapshot
            .lines()
            .next()
            .and_then(|head| head.split_once(" rustc ")),
        rustc()?,
    );
    if let Some((_, made_by)) = made_by
        && made_by != here
    {
        println!("{name}: the snapshot is of rustc {made_by}, this is {here}: not compared");
        return Ok(());
    }
    let old: BTreeSet<&str> = snapshot.lines().skip(1).collect();
    let api = public_api(name)?;
    let new: BTreeSet<&str> = api.iter().map(String::as_str).collect();
    if old == new {
        return Ok(());
    }
    let mut text = format!(
        "the public API of {name} changed; name it in its CHANGELOG.md, then `cargo xtask api --bless`:"
    );
    for gone in old.difference(&new) {
        text.push_str(&format!("\n  - {gone}"));
    }
    for come in new.difference(&old) {
        text.push_str(&format!("\n  + {come}"));
    }
    Err(text)
}

fn write_snapshot(name: &str) -> Result<(), String> {
    let folder = workspace::folder(name);
    let path = folder.join("public-api.txt");
    let mut hasher = DefaultHasher::new();
    read(&folder.join("CHANGELOG.md"))?.hash(&mut hasher);
    let head = format!("# changelog {:016x} rustc {}", hasher.finish(), rustc()?);
    let body = public_api(name)?.into_iter().collect::<Vec<_>>().join("\n");
    if let Ok(old) = fs::read_to_string(&path) {
        let (old_head, old_body) = old.split_once('\n').unwrap_or_default();
        if old_body.trim_end() == body {
            return Ok(());
        }
        if old_head == head {
            return Err(format!(
                "the public API of {name} changed, but its CHANGELOG.md did not: say there what changed"
            ));
        }
    }
    write(&path, &format!("{head}\n{body}\n"))
}

/// The compiler's version without the patch level, such as `1.95`.
fn rustc() -> Result<String, String> {
    let output = std::process::Command::new("rustc")
        .arg("--version")
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(1).unwrap_or_default();
    Ok(version
        .rsplit_once('.')
        .map_or(version, |(minor, _)| minor)
        .to_owned())
}

/// One line an item: its page, then its declaration or a method's signature.
fn public_api(name: &str) -> Result<BTreeSet<String>, String> {
    let folder = workspace::target().join("doc").join(name.replace('-', "_"));
    let mut lines = BTreeSet::new();
    pages(&folder, "", &mut lines)?;
    if lines.is_empty() {
        return Err(format!(
            "rustdoc wrote nothing for {name} in {}",
            folder.display()
        ));
    }
    Ok(lines)
}

fn pages(folder: &Path, module: &str, lines: &mut BTreeSet<String>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if path.is_dir() {
            pages(&path, &format!("{module}{name}::"), lines)?;
        } else if let Some(item) = name.strip_suffix(".html")
            && let Some((kind, item)) = item.split_once('.')
        {
            let html = read(&path)?;
            let html = html
                .split("id=\"synthetic-implementations\"")
                .next()
                .unwrap_or_default();
            for signature in signatures(html) {
                lines.insert(format!("{kind} {module}{item}: {signature}"));
            }
        }
    }
    Ok(())
}

fn signatures(html: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [
        ("<pre class=\"rust item-decl\">", "</pre>"),
        ("class=\"code-header\">", "</h"),
    ] {
        let mut rest = html;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((inner, next)) = after.split_once(close) else {
                break;
            };
            found.push(text(inner));
            rest = next;
        }
    }
    found
}

/// The text of a piece of HTML, with single blanks.
fn text(html: &str) -> String {
    let mut plain = String::new();
    let mut inside = false;
    for character in html.chars() {
        match character {
            '<' => inside = true,
            '>' => inside = false,
            _ if inside => {}
            _ => plain.push(character),
        }
    }
    let plain = plain
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&#39;", "'")
        .replace("&quot;", "\"")
        .replace("&nbsp;", " ")
        .replace("&amp;", "&");
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_without_markup() {
        let html = "<pre class=\"rust item-decl\"><code>pub struct A&lt;T&gt; {\n    <a>b</a>: u8,\n}</code></pre>\
                    <h4 class=\"code-header\">pub fn c(&amp;self)</h4>";
        assert_eq!(
            signatures(html),
            ["pub struct A<T> { b: u8, }", "pub fn c(&self)"]
        );
    }
}
