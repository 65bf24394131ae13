//! Stages: named steps that print how long they took, and stop the run when they fail.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::workspace;

/// Runs named steps, keeps their times and the tests they counted.
#[derive(Default)]
pub(crate) struct Stages {
    times: Vec<(String, f64)>,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Stages {
    /// Runs a command as a step.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) -> Result<(), String> {
        self.step(name, || run(command))
    }

    /// Runs a command as a step and counts the tests in its output, as `cargo test` prints them.
    pub(crate) fn tests(&mut self, name: &str, command: &mut Command) -> Result<(), String> {
        let mut counts = [0; 3];
        let outcome = self.step(name, || {
            run_and_watch(command, |line| count(line, &mut counts))
        });
        self.passed += counts[0];
        self.failed += counts[1];
        self.ignored += counts[2];
        outcome
    }

    /// Runs a function as a step.
    pub(crate) fn step(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        println!("--- {name}");
        let start = Instant::now();
        let outcome = work();
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "--- {name}: {} in {seconds:.1} s",
            if outcome.is_ok() { "ok" } else { "FAILED" }
        );
        self.times.push((name.to_owned(), seconds));
        outcome.map_err(|error| format!("{name}: {error}"))
    }

    /// Prints the table of times and, last, the count of tests.
    pub(crate) fn summary(&self) {
        println!("\n{:<40} {:>8}", "stage", "seconds");
        for (name, seconds) in &self.times {
            println!("{name:<40} {seconds:>8.1}");
        }
        let total: f64 = self.times.iter().map(|(_, seconds)| seconds).sum();
        println!("{:<40} {total:>8.1}", "all");
        println!("{}", disk());
        let ignored = match self.ignored {
            0 => String::new(),
            ignored => format!(", {ignored} skipped"),
        };
        println!("\n{} passed, {} failed{ignored}", self.passed, self.failed);
    }
}

/// What the target folder holds and what its disk has left: a full one fails in places that do not say so.
fn disk() -> String {
    let target = workspace::target();
    let size = first_word(Command::new("du").arg("-sm").arg(&target));
    let free = first_word(Command::new("sh").args([
        "-c",
        "df -Pm \"$0\" | awk 'NR == 2 { print $4 }'",
        &target.to_string_lossy(),
    ]));
    format!("target holds {size} MiB, its disk has {free} MiB left")
}

fn first_word(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout);
    let text = String::from_utf8_lossy(&output.unwrap_or_default()).into_owned();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// Runs a command; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| cannot(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{}: {status}", shown(command)))
    }
}

/// As [`run`]; `see` gets each line of the output as it is printed.
pub(crate) fn run_and_watch(
    command: &mut Command,
    mut see: impl FnMut(&str),
) -> Result<(), String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| cannot(command, &error))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            see(&line);
        }
    }
    let status = child.wait().map_err(|error| cannot(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{}: {status}", shown(command)))
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn count(line: &str, counts: &mut [u64; 3]) {
    let Some(result) = line.strip_prefix("test result: ") else {
        return;
    };
    let words: Vec<&str> = result.split_whitespace().collect();
    for pair in words.windows(2) {
        let Ok(number) = pair[0].parse::<u64>() else {
            continue;
        };
        match pair[1].trim_end_matches(';') {
            "passed" => counts[0] += number,
            "failed" => counts[1] += number,
            "ignored" => counts[2] += number,
            _ => {}
        }
    }
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

fn cannot(command: &Command, error: &std::io::Error) -> String {
    format!("cannot run {}: {error}", shown(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_cargo_test_are_read() {
        let mut counts = [0; 3];
        count(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out;",
            &mut counts,
        );
        count(
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured",
            &mut counts,
        );
        count("test tests::other ... ok", &mut counts);
        assert_eq!(counts, [14, 3, 1]);
    }
}
