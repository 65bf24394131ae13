//! The commands in documents: run as they stand, and what is shown must be in what they print.
//!
//! Blocks that are marked `console` are run: each line that begins with `$ ` is a command for the shell, in the folder of
//! the document, and each line below it must be in its output, with `...` for what differs from run to run. Other blocks are
//! for reading.

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

/// The folders of documents whose commands are run, each in its own folder.
const FOLDERS: [&str; 2] = ["docs/labs", "docs/guides"];

/// Runs the commands of every document, in the order of the documents.
pub(crate) fn run_all() -> Result<(), String> {
    for folder in FOLDERS.map(|folder| workspace::root().join(folder)) {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "md"))
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file);
            let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
            let mut labs = Vec::new();
            let store = Store::for_documents_in(&folder)?;
            let outcome = commands(&text).iter().try_for_each(|shown| {
                let at = || format!("{}:{}: {}", file.display(), shown.line, shown.command);
                run(&folder, shown, &store, &mut labs).map_err(|error| format!("{}\n{error}", at()))
            });
            for lab in labs {
                let _ = shell(&folder, &format!("ocicat-lab down {lab}"), &store).output();
            }
            outcome?;
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

/// Runs a command; labs that it started are noted, so that they end when the document fails.
fn run(folder: &Path, shown: &Shown, store: &Store, labs: &mut Vec<String>) -> Result<(), String> {
    println!("$ {}", shown.command);
    let output = shell(folder, &shown.command, store).output();
    let output = output.map_err(|error| error.to_string())?;
    let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.push_str(&String::from_utf8_lossy(&output.stderr));
    print!("{printed}");
    let up = |line: &str| {
        Some(
            line.strip_prefix("lab ")?
                .strip_suffix(" is up:")?
                .to_owned(),
        )
    };
    labs.extend(printed.lines().filter_map(up));
    if let Some(gone) = shown.command.strip_prefix("ocicat-lab down ") {
        labs.retain(|lab| lab != gone);
    }
    if !output.status.success() {
        return Err(format!("{}", output.status));
    }
    match shown.output.iter().find(|line| !is_in(line, &printed)) {
        Some(line) => Err(format!("this is not in what it prints: {line}")),
        None => Ok(()),
    }
}

/// A line for the shell, with the programs that were built in its PATH.
fn shell(folder: &Path, line: &str, store: &Store) -> Command {
    let programs = workspace::target().join("debug");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", programs.display()));
    if let Some(folder) = &store.0 {
        let url = format!("sqlite:{}/try.db", folder.display());
        command.env("OCICAT_DATASTORE", url);
    }
    command
}

/// A datastore of a document's own, gone when the document has been run; labs bring theirs.
struct Store(Option<PathBuf>);

impl Store {
    fn for_documents_in(folder: &Path) -> Result<Self, String> {
        if folder.ends_with("labs") {
            return Ok(Self(None));
        }
        let own = workspace::target()
            .join("documents")
            .join(std::process::id().to_string());
        fs::create_dir_all(&own).map_err(|error| format!("{}: {error}", own.display()))?;
        Ok(Self(Some(own)))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let _ = fs::remove_dir_all(folder);
        }
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
