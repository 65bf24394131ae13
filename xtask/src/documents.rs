//! The commands in documents: run as they stand, and what is shown must be in what they print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace;

/// A command of a document and the lines that are shown below it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    line: usize,
    command: String,
    output: Vec<String>,
}

/// Runs the commands of every document in `docs/labs`, in the order of the documents.
pub(crate) fn labs() -> Result<(), String> {
    let folder = workspace::root().join("docs/labs");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    files.sort();
    for file in files {
        let text =
            fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        for shown in commands(&text) {
            run(&folder, &shown).map_err(|error| {
                format!(
                    "{}:{}: {}\n{error}",
                    file.display(),
                    shown.line,
                    shown.command
                )
            })?;
        }
    }
    Ok(())
}

/// The commands in the fenced blocks that are marked `console`: lines that begin with `$ `.
fn commands(text: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(kind) => inside = !inside && kind == "console",
            None if !inside => {}
            None => match (line.strip_prefix("$ "), all.last_mut()) {
                (Some(command), _) => all.push(Shown {
                    line: number + 1,
                    command: command.to_owned(),
                    output: Vec::new(),
                }),
                (None, Some(last)) => last.output.push(line.to_owned()),
                (None, None) => {}
            },
        }
    }
    all
}

fn run(folder: &Path, shown: &Shown) -> Result<(), String> {
    println!("$ {}", shown.command);
    let programs = workspace::target().join("debug");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &shown.command])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", programs.display()))
        .output()
        .map_err(|error| error.to_string())?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    print!("{printed}");
    if !output.status.success() {
        return Err(format!("{}", output.status));
    }
    match shown.output.iter().find(|line| !is_in(line, &printed)) {
        Some(line) => Err(format!("this is not in what it prints: {line}")),
        None => Ok(()),
    }
}

/// Whether some line has the parts of `shown` between its `...`, in their order.
fn is_in(shown: &str, printed: &str) -> bool {
    printed.lines().chain([""]).any(|line| {
        let mut rest = line;
        shown
            .trim()
            .split("...")
            .all(|part| match rest.find(part.trim()) {
                Some(at) => {
                    rest = &rest[at + part.trim().len()..];
                    true
                }
                None => false,
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_what_they_show_are_read() {
        let text = "a\n```console\n$ one\nx ... y\n$ two\n```\n```\n$ not this\n```\n";
        let found = commands(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].output.len()), (3, 1));
        assert_eq!(found[1].command, "two");
    }

    #[test]
    fn dots_stand_for_anything() {
        assert!(is_in(
            "allowed ... ICMP",
            "x\nallowed  1.2 ms a -> b ICMP\n"
        ));
        assert!(!is_in("ICMP ... allowed", "allowed a -> b ICMP\n"));
        assert!(is_in("...", ""));
    }
}
