//! Label and field selectors.

use serde_json::Value;

use super::refusal::Refusal;
use super::route::Route;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Present,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// Which objects a list or a watch is of.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    namespace: Option<String>,
    labels: Vec<(String, Test)>,
    fields: Vec<(String, Test)>,
}

impl Selector {
    pub(super) fn of(route: &Route) -> Result<Self, Refusal> {
        let labels = labels(route.parameter("labelSelector"))?;
        let fields = terms(route.parameter("fieldSelector"))
            .iter()
            .map(|term| requirement(term))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Refusal::bad("unable to parse fieldSelector"))?;
        for (field, _) in &fields {
            let pods = route.resource.plural == "pods"
                && matches!(field.as_str(), "spec.nodeName" | "status.phase");
            if !pods && !matches!(field.as_str(), "metadata.name" | "metadata.namespace") {
                return Err(Refusal::bad(format!("field label not supported: {field}")));
            }
        }
        Ok(Self {
            namespace: route.namespace.clone(),
            labels,
            fields,
        })
    }

    /// Whether nothing but the namespace is asked for.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let home = metadata["namespace"].as_str();
        let labels = &metadata["labels"];
        (self.namespace.is_none() || self.namespace.as_deref() == home)
            && self
                .labels
                .iter()
                .all(|(label, test)| holds(test, labels[label.as_str()].as_str()))
            && self.fields.iter().all(|(field, test)| {
                let path = format!("/{}", field.replace('.', "/"));
                let value = object.pointer(&path).and_then(Value::as_str);
                holds(test, Some(value.unwrap_or_default()))
            })
    }
}

fn holds(test: &Test, value: Option<&str>) -> bool {
    let among =
        |values: &[String]| value.is_some_and(|value| values.iter().any(|one| one == value));
    match test {
        Test::Present => value.is_some(),
        Test::Absent => value.is_none(),
        Test::In(values) => among(values),
        Test::NotIn(values) => !among(values),
    }
}

/// The parts between commas that are in no parentheses.
fn terms(text: &str) -> Vec<String> {
    let (mut terms, mut depth) = (vec![String::new()], 0_i32);
    for letter in text.chars() {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        match terms.last_mut() {
            Some(last) if letter != ',' || depth > 0 => last.push(letter),
            _ => terms.push(String::new()),
        }
    }
    terms.retain(|term| !term.trim().is_empty());
    terms
}

fn requirement(term: &str) -> Option<(String, Test)> {
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((name, value)) = term.split_once(operator) {
            let values = vec![value.trim().to_owned()];
            let test = if negated {
                Test::NotIn(values)
            } else {
                Test::In(values)
            };
            return Some((name.trim().to_owned(), test));
        }
    }
    None
}

fn labels(text: &str) -> Result<Vec<(String, Test)>, Refusal> {
    let bad = || Refusal::bad(format!("unable to parse requirement in {text:?}"));
    terms(text)
        .iter()
        .map(|term| {
            let term = term.trim();
            if let Some(parsed) = requirement(term) {
                return Ok(parsed);
            }
            if let Some(name) = term.strip_prefix('!') {
                return Ok((name.trim().to_owned(), Test::Absent));
            }
            let Some((head, values)) = term.split_once('(') else {
                return if term.contains(' ') {
                    Err(bad())
                } else {
                    Ok((term.to_owned(), Test::Present))
                };
            };
            let values = values
                .trim_end_matches(')')
                .split(',')
                .map(|value| value.trim().to_owned());
            let values: Vec<String> = values.collect();
            match head.split_whitespace().collect::<Vec<_>>()[..] {
                [name, "in"] => Ok((name.to_owned(), Test::In(values))),
                [name, "notin"] => Ok((name.to_owned(), Test::NotIn(values))),
                _ => Err(bad()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_select() {
        let object = json!({ "metadata": { "labels": { "a": "1", "b": "2" } } });
        for (text, wanted) in [
            ("", true),
            ("a", true),
            ("!a", false),
            ("c", false),
            ("!c", true),
            ("a=1", true),
            ("a==2", false),
            ("a!=2,b=2", true),
            ("c!=1", true),
            ("a in (1, 3)", true),
            ("a notin (1,3)", false),
            ("c notin (1)", true),
            ("a in (1,3),b", true),
        ] {
            let labels = labels(text).expect("a selector");
            let selector = Selector {
                labels,
                ..Selector::default()
            };
            assert_eq!(selector.matches(&object), wanted, "{text}");
        }
        assert!(labels("a b").is_err());
    }
}
