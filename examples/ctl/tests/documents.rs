//! The commands that documents show for reading are ones that the programs take: every `ocicatctl` and every `ocicat-node` in a
//! block of code, and every `cargo xtask`. That those which are marked to be run do what is shown below them is
//! `cargo xtask documents`' business.

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

/// The lines of blocks of code, with what goes on in the next line behind it; and commands that stand in the text.
fn commands(text: &str) -> Vec<(usize, String)> {
    let (mut all, mut inside, mut open) = (Vec::<(usize, String)>::new(), false, false);
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
                Some((_, last)) => *last += part,
                None => all.push((index + 1, part.to_owned())),
            }
            open = goes_on;
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            all.extend(spans.map(|span| (index + 1, span.to_owned())));
        }
    }
    all
}

/// The words of the commands of a line that begin with a program's name, as a shell would split them.
fn of_program(line: &str, program: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let words = split(line);
    let ends = |word: &str| matches!(word, "|" | "&&" | ";" | "||" | "<<POOL" | "#" | "&");
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
        for (line, command) in commands(&text) {
            let at = || format!("{}:{line}: {command}", path.display());
            for words in of_program(&command, "ocicatctl") {
                // The program's name alone, and a verb alone in a sentence, are no commands to be typed.
                let verb_alone = words.len() < 3 && !command.contains('-');
                counts[0] += 1;
                let words = understood(words.iter().map(Into::into));
                if let Err(error) = Cli::try_parse_from(words)
                    && error.use_stderr()
                    && !(verb_alone && is_incomplete(&error))
                {
                    wrong.push(format!("{}\n{error}", at()));
                }
            }
            for words in of_program(&command, "ocicat-node") {
                counts[1] += 1;
                let known = ["uninstall", "--stay", "--config"];
                if words
                    .get(1)
                    .is_some_and(|word| !known.contains(&word.as_str()) && !word.starts_with('/'))
                {
                    wrong.push(at());
                }
            }
            for words in of_program(&command, "cargo") {
                if words.get(1).is_some_and(|word| word == "xtask") {
                    counts[2] += 1;
                    let verb = words.get(2).map_or("help", String::as_str);
                    if !usage.contains(&format!("(\"{verb}\","))
                        && !usage.contains(&format!("\"{verb}\" |"))
                    {
                        wrong.push(at());
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        counts[0] > 60 && counts[1] > 1 && counts[2] > 10,
        "{counts:?}"
    );
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
