//! What became of cases: text, JSON, JUnit.

use std::fmt::Write;

use ocicat_policy::Trace;
use serde::Serialize;

use super::case::Expect;

/// What became of a case.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// The case's name.
    pub name: String,
    /// Whether it is as expected.
    pub passed: bool,
    /// What should have become of it.
    pub expect: Expect,
    /// Who should have decided it.
    pub by: Option<String>,
    /// Who decided it, in the words of `by`.
    pub decided_by: String,
    /// What became of it, and why.
    pub trace: Trace,
}

/// What became of all cases, in their order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// One for each case.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// How many cases are not as expected.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.outcomes.iter().filter(|o| !o.passed).count()
    }

    /// Lines for people: each case, and for those that fail the reasons.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for outcome in &self.outcomes {
            if outcome.passed {
                out.push_str(&format!("ok    {}\n", outcome.name));
            } else {
                out.push_str(&format!(
                    "FAIL  {}: {}\n",
                    outcome.name,
                    outcome.complaint()
                ));
                let trace = outcome.trace.to_string();
                for line in trace.lines() {
                    let _ = writeln!(out, "      {line}");
                }
            }
        }
        let failed = self.failed();
        let passed = self.outcomes.len() - failed;
        let _ = writeln!(out, "\n{passed} passed, {failed} failed");
        out
    }

    /// One JSON object: `{passed, failed, cases: [{name, passed, expect, by, decided_by, trace}]}`.
    #[must_use]
    pub fn json(&self) -> String {
        let failed = self.failed();
        let value = serde_json::json!({
            "passed": self.outcomes.len() - failed,
            "failed": failed,
            "cases": self.outcomes,
        });
        format!("{value:#}\n")
    }

    /// A JUnit report with one suite, called `suite`.
    #[must_use]
    pub fn junit(&self, suite: &str) -> String {
        let suite = escaped(suite);
        let (tests, failed) = (self.outcomes.len(), self.failed());
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let counts = format!("tests=\"{tests}\" failures=\"{failed}\" errors=\"0\"");
        let _ = writeln!(out, "<testsuites {counts}>");
        let _ = writeln!(out, "  <testsuite name=\"{suite}\" {counts}>");
        for outcome in &self.outcomes {
            let name = escaped(&outcome.name);
            let case = format!("    <testcase classname=\"{suite}\" name=\"{name}\"");
            if outcome.passed {
                let _ = writeln!(out, "{case}/>");
            } else {
                let complaint = escaped(&outcome.complaint());
                let trace = escaped(&outcome.trace.to_string());
                let _ = writeln!(out, "{case}>");
                let _ = writeln!(
                    out,
                    "      <failure message=\"{complaint}\">{trace}</failure>"
                );
                let _ = writeln!(out, "    </testcase>");
            }
        }
        out.push_str("  </testsuite>\n</testsuites>\n");
        out
    }
}

impl Outcome {
    /// What is not as expected.
    fn complaint(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {by}"));
        format!(
            "expected {}{}, found {} by {}",
            self.expect.word(),
            by.unwrap_or_default(),
            self.trace.verdict(),
            self.decided_by
        )
    }
}

/// A text inside XML; what XML cannot say becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(character),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_holds_any_text() {
        assert_eq!(
            escaped("a <b> & \"c\"\u{1}\n"),
            "a &lt;b&gt; &amp; &quot;c&quot;\u{fffd}\n"
        );
    }
}
