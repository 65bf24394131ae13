//! Tables for people: probes' answers, matrices, expected against seen.

use crate::probe::{Answer, Verdict};

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
