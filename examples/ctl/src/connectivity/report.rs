//! What was found, and what could not be tested.

use serde_json::json;

use super::probe::Outcome;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::table::Table;

/// A question with its answer.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What held meanwhile.
    pub(super) test: String,
    /// Who asked.
    pub(super) from: String,
    /// Who was asked, and where.
    pub(super) to: String,
    pub(super) address: String,
    /// Whether an answer had to come.
    pub(super) expected: bool,
    pub(super) outcome: Outcome,
}

impl Row {
    fn is_right(&self) -> bool {
        self.outcome.ms.is_some() == self.expected
    }

    fn result(&self) -> String {
        let said = match (&self.outcome.ms, &self.outcome.error) {
            (Some(ms), _) => format!("reached in {ms:.1} ms"),
            (None, Some(why)) => why.clone(),
            (None, None) => "no answer".to_owned(),
        };
        match (self.is_right(), self.expected) {
            (true, true) => said,
            (true, false) => format!("denied, as it should be ({said})"),
            (false, true) => format!("WRONG, should be reached: {said}"),
            (false, false) => format!("WRONG, should be denied: {said}"),
        }
    }
}

/// All answers.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    /// What was not tested, and why.
    pub(super) untested: Vec<String>,
}

impl Report {
    /// Prints it.
    ///
    /// # Errors
    /// [`Failure::Found`] when an answer was not as it should be, or nothing could be asked.
    pub(super) fn print(&self, format: Format) -> Result<(), Failure> {
        let row = |row: &Row| {
            json!({
                "test": row.test, "from": row.from, "to": row.to, "address": row.address,
                "expected": row.expected, "reached": row.outcome.ms.is_some(), "ms": row.outcome.ms,
                "why": row.outcome.error, "right": row.is_right(),
            })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        let value = json!({"questions": rows, "untested": self.untested});
        if let Some(text) = output::value(&value, format)? {
            println!("{text}");
        } else {
            println!("{}", self.table());
            for one in &self.untested {
                println!("not tested: {one}");
            }
        }
        let wrong = self.rows.iter().filter(|row| !row.is_right()).count();
        match (wrong, self.rows.len()) {
            (_, 0) => Err(Failure::Found("nothing could be tested".into())),
            (0, all) => {
                if !format.is_json() {
                    eprintln!("{all} questions, all answered as they should be");
                }
                Ok(())
            }
            (wrong, all) => Err(Failure::Found(format!(
                "{wrong} of {all} questions were not answered as they should be"
            ))),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["TEST", "FROM", "TO", "ADDRESS", "RESULT"]);
        for row in &self.rows {
            let cells = [&row.test, &row.from, &row.to, &row.address, &row.result()];
            table.row(cells.map(String::as_str));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(expected: bool, ms: Option<f64>) -> Row {
        let error = ms.is_none().then(|| "no answer".to_owned());
        Row {
            test: "no policy".into(),
            from: "a".into(),
            to: "b".into(),
            address: "10.0.0.1:8080".into(),
            expected,
            outcome: Outcome { ms, error },
        }
    }

    #[test]
    fn what_is_wrong_is_counted_and_said() {
        let mut report = Report::default();
        assert!(matches!(report.print(Format::Json), Err(Failure::Found(_))));
        report.rows = vec![row(true, Some(1.0)), row(false, None)];
        assert_eq!(report.print(Format::Table), Ok(()));
        report.rows.push(row(true, None));
        report.rows.push(row(false, Some(2.0)));
        let text = report.table().to_string();
        assert!(
            text.contains("WRONG, should be denied: reached in 2.0 ms"),
            "{text}"
        );
        let failed = report.print(Format::Yaml).expect_err("two are wrong");
        assert_eq!(
            failed.to_string(),
            "2 of 4 questions were not answered as they should be"
        );
    }
}
