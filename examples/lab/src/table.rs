//! Tables for people: probes' answers, and matrices of what is expected against what is seen.

use std::collections::BTreeMap;

use crate::probe::{Answer, End, Verdict};
use crate::scenario::Protocol;

/// One line about one answer.
#[must_use]
pub fn answer(answer: &Answer) -> String {
    let mark = match answer.outcome.result {
        Verdict::Allowed => "allowed",
        Verdict::Denied => "denied ",
        Verdict::Error => "ERROR  ",
    };
    let detail = answer
        .outcome
        .detail
        .as_ref()
        .map(|detail| format!("  ({detail})"))
        .unwrap_or_default();
    format!(
        "{mark}  {:>7.1} ms  {}{detail}",
        answer.outcome.ms, answer.probe
    )
}

/// An answer beside what was expected of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The answer.
    pub answer: Answer,
    /// Whether it should be allowed.
    pub expected: bool,
    /// Whether it is the answer to the second asking.
    pub again: bool,
}

impl Judged {
    /// Whether an answer was expected and none came in time.
    #[must_use]
    pub fn is_late(&self) -> bool {
        let outcome = &self.answer.outcome;
        self.expected && outcome.result == Verdict::Denied && outcome.detail.is_none()
    }

    /// Whether the answer is the expected one.
    #[must_use]
    pub fn holds(&self) -> bool {
        let seen = match self.answer.outcome.result {
            Verdict::Allowed => true,
            Verdict::Denied => false,
            Verdict::Error => return false,
        };
        seen == self.expected
    }
}

impl Judged {
    /// The answer as `probe --json` has it, with what was expected.
    #[must_use]
    pub fn to_data(&self) -> serde_json::Value {
        let mut data = serde_json::to_value(&self.answer).unwrap_or_default();
        data["expected"] = if self.expected { "allowed" } else { "denied" }.into();
        data
    }
}

/// What a matrix's letters mean.
pub const LEGEND: &str = "rows send, columns answer; I ICMP, T TCP, U UDP get through, . denied; expected>seen where they differ";

/// A matrix: a row for each end that asks, a column for each that is asked, a letter for each question.
#[must_use]
pub fn matrix(judged: &[Judged]) -> String {
    let mut cells: BTreeMap<(&End, &End), (String, String)> = BTreeMap::new();
    let (mut rows, mut columns): (Vec<&End>, Vec<&End>) = (Vec::new(), Vec::new());
    for one in judged {
        let probe = &one.answer.probe;
        if !rows.contains(&&probe.from) {
            rows.push(&probe.from);
        }
        if !columns.contains(&&probe.to) {
            columns.push(&probe.to);
        }
        let cell = cells.entry((&probe.from, &probe.to)).or_default();
        cell.0.push(letter(probe.protocol, one.expected));
        cell.1.push(match one.answer.outcome.result {
            Verdict::Error => '?',
            verdict => letter(probe.protocol, verdict == Verdict::Allowed),
        });
    }
    columns.sort();
    let text = |row: &End, column: &End| match cells.get(&(row, column)) {
        Some((expected, seen)) if expected == seen => seen.clone(),
        Some((expected, seen)) => format!("{expected}>{seen}"),
        None => "-".to_owned(),
    };
    let width = |column: &End| {
        rows.iter()
            .map(|row| text(row, column).len())
            .chain([column.to_string().len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().map(|column| width(column)).collect();
    let first = rows
        .iter()
        .map(|row| row.to_string().len())
        .max()
        .unwrap_or(0);
    let line = |head: String, texts: Vec<String>| {
        let cells = texts
            .iter()
            .zip(&widths)
            .map(|(text, width)| format!("  {text:<width$}"));
        format!("{head:<first$}{}", cells.collect::<String>())
            .trim_end()
            .to_owned()
    };
    let head = line(
        String::new(),
        columns.iter().map(ToString::to_string).collect(),
    );
    let body = rows.iter().map(|row| {
        line(
            row.to_string(),
            columns.iter().map(|column| text(row, column)).collect(),
        )
    });
    std::iter::once(head)
        .chain(body)
        .collect::<Vec<_>>()
        .join("\n")
}

fn letter(protocol: Protocol, allowed: bool) -> char {
    match protocol {
        _ if !allowed => '.',
        Protocol::Icmp => 'I',
        Protocol::Tcp => 'T',
        Protocol::Udp => 'U',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Outcome, Probe};

    #[test]
    fn a_matrix_shows_where_expected_and_seen_differ() {
        let judged = |from: &str, to: &str, protocol, expected, result| {
            let end = |text: &str| text.parse::<End>().expect("an end");
            let probe = Probe {
                from: end(from),
                to: end(to),
                port: None,
                protocol,
                family: None,
            };
            let outcome = Outcome {
                result,
                ms: 1.0,
                detail: None,
            };
            Judged {
                answer: Answer { probe, outcome },
                expected,
                again: false,
            }
        };
        let table = matrix(&[
            judged("a/x", "a/y", Protocol::Icmp, true, Verdict::Allowed),
            judged("a/x", "a/y", Protocol::Tcp, false, Verdict::Denied),
            judged("a/y", "a/x", Protocol::Udp, true, Verdict::Denied),
            judged("a/y", "a/x", Protocol::Tcp, true, Verdict::Error),
        ]);
        assert_eq!(table, "     a/x    a/y\na/x  -      I.\na/y  UT>.?  -");
    }
}
