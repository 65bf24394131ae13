//! What the demo found: steps, checks and figures; printed as they come, or given as data at the end.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::Output;

/// Everything that the demo found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    ok: bool,
    seconds: f64,
    steps: Vec<Step>,
    figures: Map<String, Value>,
    #[serde(skip)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Step {
    number: u32,
    title: String,
    seconds: f64,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    data: Map<String, Value>,
    #[serde(skip)]
    began: Instant,
}

#[derive(Debug, Serialize)]
struct Check {
    what: String,
    ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    seen: String,
}

impl Report {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            ok: true,
            seconds: 0.0,
            steps: Vec::new(),
            figures: Map::new(),
            output,
        }
    }

    /// Begins a step; the one before ends.
    pub(crate) fn step(&mut self, number: u32, title: &str) {
        self.end_step();
        self.output.line(format!("\n{number}. {title}"));
        let (title, began) = (title.to_owned(), Instant::now());
        self.steps.push(Step {
            number,
            title,
            seconds: 0.0,
            checks: Vec::new(),
            data: Map::new(),
            began,
        });
    }

    fn end_step(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            step.seconds = rounded(step.began.elapsed());
        }
    }

    /// Says a line that belongs to the step.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        self.output.line(format!("   {}", line.as_ref()));
    }

    /// Says a table that belongs to the step.
    pub(crate) fn table(&self, table: &str) {
        for line in table.lines() {
            self.say(line);
        }
    }

    /// An expectation: held or not, and what was seen.
    pub(crate) fn check(&mut self, ok: bool, what: impl Into<String>, seen: impl Into<String>) {
        let (what, seen) = (what.into(), seen.into());
        let mark = if ok { "ok  " } else { "FAIL" };
        let detail = if seen.is_empty() {
            String::new()
        } else {
            format!(": {seen}")
        };
        self.output.line(format!("   {mark} {what}{detail}"));
        self.ok &= ok;
        if let Some(step) = self.steps.last_mut() {
            step.checks.push(Check { what, ok, seen });
        }
    }

    /// Data of the step, for `--json`.
    pub(crate) fn data(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(step) = self.steps.last_mut() {
            step.data.insert(name.to_owned(), value.into());
        }
    }

    /// A figure for the summary.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// A time for the summary, in milliseconds.
    pub(crate) fn time(&mut self, name: &str, time: Duration) {
        self.figure(name, (time.as_secs_f64() * 10_000.0).round() / 10.0);
    }

    /// The demo broke off.
    pub(crate) fn broken(&mut self, error: &anyhow::Error) {
        self.check(false, "the demo ran to its end", format!("{error:#}"));
    }

    /// Ends the report: the summary, and whether every expectation held.
    pub(crate) fn end(&mut self) -> bool {
        self.end_step();
        self.seconds = rounded(self.output.began().elapsed());
        let count = self
            .steps
            .iter()
            .map(|step| step.checks.len())
            .sum::<usize>();
        let failed: Vec<String> = self
            .steps
            .iter()
            .flat_map(|step| {
                step.checks
                    .iter()
                    .filter(|check| !check.ok)
                    .map(|check| format!("{}. {}", step.number, check.what))
            })
            .collect();
        self.output.line("\nSummary");
        for (name, value) in &self.figures {
            self.output
                .line(format!("   {:<44} {value}", name.replace('_', " ")));
        }
        self.output.line(format!(
            "\n{} of {count} expectations held, {:.1} s",
            count - failed.len(),
            self.seconds
        ));
        for failure in &failed {
            self.output.line(format!("   FAIL {failure}"));
        }
        self.ok
    }

    /// The whole report as one JSON object.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
