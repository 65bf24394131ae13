//! What documents show for reading is what the programs take: every `ocicatctl`, `ocicat-node` and `cargo xtask` in a block of
//! code or a sentence, objects, and the agent's configuration. That the commands which are marked to be run do what is shown
//! below them is `cargo xtask documents`' business.

use std::path::{Path, PathBuf};

use clap::Parser;
use ocicatctl::cli::{Cli, understood};

/// Every document of the repository, what is built and generated left out.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if path.extension().is_some_and(|end| end == "md") {
            found.push(path);
        }
    }
}

/// A line of a document that may be a command.
struct Shown {
    line: usize,
    command: String,
    /// In a sentence, where a verb may stand without what it needs.
    spoken_of: bool,
}

fn shown(index: usize, command: &str, spoken_of: bool) -> Shown {
    Shown {
        line: index + 1,
        command: command.to_owned(),
        spoken_of,
    }
}

/// The lines of blocks of code, with what goes on in the next line behind it; and commands that stand in the text.
fn commands(text: &str) -> Vec<Shown> {
    let (mut all, mut inside, mut open) = (Vec::<Shown>::new(), false, false);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            (inside, open) = (!inside, false);
        } else if inside {
            let (part, goes_on) = match line.strip_suffix('\\') {
                Some(part) => (part, true),
                None => (line, false),
            };
            match all.last_mut().filter(|_| open) {
                Some(last) => last.command += part,
                None => all.push(shown(index, part, false)),
            }
            open = goes_on;
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            all.extend(spans.map(|span| shown(index, span, true)));
        }
    }
    all
}

/// The words of the commands of a line that begin with a program's name, as a shell would split them.
fn of_program(line: &str, program: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let words = split(line);
    let ends = |word: &str| matches!(word, "|" | "&&" | ";" | "||" | ">" | "<<POOL" | "#" | "&");
    let mut at = 0;
    while let Some(start) = words[at..].iter().position(|word| word == program) {
        let rest = &words[at + start..];
        let end = rest
            .iter()
            .position(|word| ends(word))
            .unwrap_or(rest.len());
        found.push(rest[..end].to_vec());
        at += start + end;
    }
    found
}

fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in line.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (';' | ' ' | ')' | '(', None) => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                if letter != ' ' {
                    words.push(";".to_owned());
                }
            }
            _ => word.push(letter),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn documents_show_commands_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    documents(&root, &mut found);
    assert!(found.len() > 20, "{found:?}");
    let usage = std::fs::read_to_string(root.join("xtask/src/main.rs")).unwrap();
    let (mut counts, mut wrong) = ([0; 3], Vec::new());
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for shown in commands(&text) {
            let programs = [("ocicatctl", 0), ("ocicat-node", 1), ("cargo", 2)];
            for (program, index) in programs {
                for words in of_program(&shown.command, program) {
                    let fault = match program {
                        "ocicatctl" => ctl(&words, shown.spoken_of),
                        "ocicat-node" => node(&words),
                        _ => xtask(&words, &usage),
                    };
                    counts[index] += 1;
                    let at = || format!("{}:{}: {}", path.display(), shown.line, shown.command);
                    wrong.extend(fault.map(|fault| format!("{}\n{fault}", at())));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        counts[0] > 60 && counts[1] > 5 && counts[2] > 20,
        "{counts:?}"
    );
}

/// The blocks of a kind: the line behind which one begins, and its text without the indent of the first line.
fn blocks(text: &str, kind: &str) -> Vec<(usize, String)> {
    let (mut all, mut open, mut indent) = (Vec::<(usize, String)>::new(), false, 0);
    for (index, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(found) if found == kind => {
                (open, indent) = (true, line.len() - line.trim_start().len());
                all.push((index + 1, String::new()));
            }
            _ => {
                if let Some((_, block)) = all.last_mut().filter(|_| open) {
                    block.push_str(line.get(indent..).unwrap_or_default());
                    block.push('\n');
                }
            }
        }
    }
    all
}

#[test]
fn documents_show_objects_and_configurations_that_are_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    documents(&root, &mut found);
    let (mut objects, mut configurations, mut wrong) = (0, 0, Vec::new());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("document.toml");
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for (line, block) in blocks(&text, "yaml") {
            if block.starts_with("apiVersion:") {
                let name = format!("{}:{line} and", path.display());
                let read = ocicatctl::manifest::contents(&name, &block);
                objects += read.manifests.len();
                let faults = read.faults.iter().chain(&read.unknown);
                wrong.extend(faults.map(ToString::to_string));
            }
        }
        for (line, block) in blocks(&text, "toml") {
            if !block.contains("[datastore]") {
                continue;
            }
            std::fs::write(&file, block).unwrap();
            configurations += 1;
            if let Err(error) = ocicat_node::config::Config::load(Some(&file), []) {
                wrong.push(format!("{}:{line}: {error}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        objects > 1 && configurations > 0,
        "{objects} {configurations}"
    );
}

fn ctl(words: &[String], spoken_of: bool) -> Option<String> {
    let words = understood(words.iter().map(Into::into));
    let error = Cli::try_parse_from(words).err()?;
    let wrong = error.use_stderr() && !(spoken_of && is_incomplete(&error));
    wrong.then(|| error.to_string())
}

fn node(words: &[String]) -> Option<String> {
    let known = ["uninstall", "--stay", "--config", "--version"];
    let is = |word: &String| known.contains(&word.as_str()) || word.ends_with(".toml");
    let wrong = words.iter().skip(1).find(|word| !is(word))?;
    Some(format!("ocicat-node has no {wrong}"))
}

fn xtask(words: &[String], usage: &str) -> Option<String> {
    if words.get(1)? != "xtask" {
        return None;
    }
    let verb = words.get(2)?;
    let known = usage.contains(&format!("(\"{verb}\","));
    (!known).then(|| format!("cargo xtask has no {verb}"))
}

/// A verb that needs more is spoken of, not shown.
fn is_incomplete(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{
        DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument, MissingSubcommand,
    };
    matches!(
        error.kind(),
        DisplayHelpOnMissingArgumentOrSubcommand | MissingRequiredArgument | MissingSubcommand
    )
}
