//! Random selectors against an evaluator that was written without the parser or the tree in view.

use std::collections::BTreeMap;

use ocicat_selectors::kubernetes::LabelSelector;
use ocicat_selectors::{Restriction, Selector};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// A selector as the test means it.
#[derive(Clone, Debug)]
enum Model {
    All,
    Has(String),
    Compare(String, &'static str, String),
    Set(String, bool, Vec<String>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

impl Model {
    fn truth(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::Has(key) => labels.contains_key(key),
            Self::Compare(key, operator, wanted) => match (labels.get(key), *operator) {
                (None, operator) => operator == "!=",
                (Some(v), "==") => v == wanted,
                (Some(v), "!=") => v != wanted,
                (Some(v), "contains") => v.contains(wanted),
                (Some(v), "starts with" | "startswith") => v.starts_with(wanted),
                (Some(v), _) => v.ends_with(wanted),
            },
            Self::Set(key, negated, wanted) => match labels.get(key) {
                None => *negated,
                Some(v) => wanted.contains(v) != *negated,
            },
            Self::Not(inner) => !inner.truth(labels),
            Self::And(parts) => parts.iter().all(|p| p.truth(labels)),
            Self::Or(parts) => parts.iter().any(|p| p.truth(labels)),
        }
    }

    /// The model as a text, with `noise` deciding blanks, quotes and aliases.
    fn text(&self, noise: &mut impl Iterator<Item = u8>) -> String {
        let blank = |noise: &mut dyn Iterator<Item = u8>| match noise.next().unwrap_or(1) % 4 {
            0 => "",
            1 => " ",
            2 => "\t ",
            _ => "  ",
        };
        match self {
            Self::All => "all()".into(),
            Self::Has(key) => format!("has({}{key}{})", blank(noise), blank(noise)),
            Self::Compare(key, operator, value) => {
                let symbol = matches!(*operator, "==" | "!=");
                let gap = if symbol { blank(noise) } else { " " };
                format!(
                    "{key}{gap}{operator}{}{}",
                    blank(noise),
                    quote(value, noise)
                )
            }
            Self::Set(key, negated, values) => {
                let operator = match (*negated, noise.next().unwrap_or(0) % 2) {
                    (false, _) => "in",
                    (true, 0) => "not in",
                    (true, _) => "notin",
                };
                let values: Vec<_> = values.iter().map(|v| quote(v, noise)).collect();
                let comma = format!(",{}", blank(noise));
                format!(
                    "{key} {operator}{}{{{}}}",
                    blank(noise),
                    values.join(&comma)
                )
            }
            Self::Not(inner) => format!("!{}({})", blank(noise), inner.text(noise)),
            Self::And(parts) => joined(parts, "&&", noise),
            Self::Or(parts) => joined(parts, "||", noise),
        }
    }
}

fn joined(parts: &[Model], operator: &str, noise: &mut impl Iterator<Item = u8>) -> String {
    let parts: Vec<_> = parts.iter().map(|p| p.text(noise)).collect();
    format!("({})", parts.join(&format!(" {operator} ")))
}

fn quote(value: &str, noise: &mut dyn Iterator<Item = u8>) -> String {
    if value.contains('"') || (noise.next().unwrap_or(0) % 2 == 0 && !value.contains('\'')) {
        format!("'{value}'")
    } else {
        format!("\"{value}\"")
    }
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c/d", "e.f-g"]).prop_map(Into::into)
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "x", "y", "xy", "yx", "it's", "say \"x\""]).prop_map(Into::into)
}

fn operator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "==",
        "!=",
        "contains",
        "starts with",
        "startswith",
        "ends with",
        "endswith",
    ])
}

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        1 => Just(Model::All),
        2 => key().prop_map(Model::Has),
        6 => (key(), operator(), value()).prop_map(|(k, o, v)| Model::Compare(k, o, v)),
        4 => (key(), any::<bool>(), vec(value(), 0..4)).prop_map(|(k, n, v)| Model::Set(k, n, v)),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|m| Model::Not(Box::new(m))),
            vec(inner.clone(), 1..4).prop_map(Model::And),
            vec(inner, 1..4).prop_map(Model::Or),
        ]
    })
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(key(), value(), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_mean_what_they_say(
        model in model(),
        noise in vec(any::<u8>(), 64),
        worlds in vec(labels(), 1..8),
    ) {
        let text = model.text(&mut noise.into_iter());
        let selector: Selector = text.parse().unwrap();
        let again: Selector = selector.to_string().parse().unwrap();
        prop_assert_eq!(again.expr(), selector.expr());
        prop_assert_eq!(again.to_string(), selector.to_string());
        let renamed = selector.rename_labels(|label| format!("p.{label}")).unwrap();
        for labels in &worlds {
            let truth = model.truth(labels);
            prop_assert_eq!(selector.matches(labels), truth, "{} of {:?}", text, labels);
            prop_assert_eq!((!selector.clone()).matches(labels), !truth);
            let prefixed: BTreeMap<_, _> =
                labels.iter().map(|(k, v)| (format!("p.{k}"), v.clone())).collect();
            prop_assert_eq!(renamed.matches(&prefixed), truth);
        }
    }

    #[test]
    fn restrictions_are_necessary(model in model(), worlds in vec(labels(), 1..16)) {
        let selector: Selector = model.text(&mut std::iter::repeat(1)).parse().unwrap();
        let restrictions = selector.restrictions();
        for labels in &worlds {
            if !model.truth(labels) {
                continue;
            }
            prop_assert!(!restrictions.is_unsatisfiable(), "{selector} matches {labels:?}");
            for (label, restriction) in restrictions.iter() {
                let value = labels.get(label.as_str());
                let met = match restriction {
                    Restriction::Present => value.is_some(),
                    Restriction::Absent => value.is_none(),
                    Restriction::OneOf(values) => {
                        value.is_some_and(|v| values.contains(v.as_str()))
                    }
                    _ => true,
                };
                prop_assert!(met, "{selector} matches {labels:?}, not {restriction:?}");
            }
        }
    }

    #[test]
    fn kubernetes_selectors_mean_the_same(model in model(), worlds in vec(labels(), 1..8)) {
        let selector: Selector = model.text(&mut std::iter::repeat(1)).parse().unwrap();
        if let Ok(kubernetes) = LabelSelector::try_from(&selector) {
            let back = Selector::try_from(&kubernetes).unwrap();
            for labels in &worlds {
                prop_assert_eq!(back.matches(labels), selector.matches(labels), "{} {}", selector, back);
            }
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[a-c(){}!=&|'\", \thasinotwl%ü\n]{0,60}") {
        match text.parse::<Selector>() {
            Ok(selector) => {
                let again: Selector = selector.to_string().parse().unwrap();
                prop_assert_eq!(again, selector);
            }
            Err(error) => {
                prop_assert!(error.span().end <= text.len());
                prop_assert!(text.get(error.span()).is_some());
                prop_assert!(error.render().contains(&error.fault().to_string()));
            }
        }
    }
}
