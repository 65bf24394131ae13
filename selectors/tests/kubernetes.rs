//! Kubernetes' LabelSelector in both directions.

use ocicat_selectors::Selector;
use ocicat_selectors::kubernetes::{LabelSelector, LabelSelectorError, Operator, Requirement};

fn requirement(key: &str, operator: Operator, values: &[&str]) -> Requirement {
    Requirement {
        key: key.into(),
        operator,
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    }
}

fn selector(labels: &[(&str, &str)], expressions: &[Requirement]) -> LabelSelector {
    LabelSelector {
        match_labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        match_expressions: expressions.to_vec(),
    }
}

#[test]
fn there_and_back() {
    use Operator::{DoesNotExist, Exists, In, NotIn};
    for (kubernetes, text) in [
        (selector(&[], &[]), "all()"),
        (
            selector(&[("b", "2"), ("a", "")], &[]),
            "(a == \"\" && b == \"2\")",
        ),
        (
            selector(&[("a", "1")], &[requirement("b", In, &["y", "x"])]),
            "(a == \"1\" && b in {\"x\", \"y\"})",
        ),
        (
            selector(
                &[],
                &[
                    requirement("c", DoesNotExist, &[]),
                    requirement("a", NotIn, &["x"]),
                    requirement("b", Exists, &[]),
                ],
            ),
            "(a not in {\"x\"} && has(b) && !has(c))",
        ),
    ] {
        let converted = Selector::try_from(&kubernetes).unwrap();
        assert_eq!(converted.to_string(), text);
        let back = LabelSelector::try_from(&converted).unwrap();
        assert_eq!(Selector::try_from(&back).unwrap(), converted);
    }
    let back = LabelSelector::try_from(&"!a == 'x' && a in {'y'} && a == 'y'".parse().unwrap());
    assert_eq!(
        back.unwrap(),
        selector(
            &[("a", "y")],
            &[
                requirement("a", NotIn, &["x"]),
                requirement("a", In, &["y"])
            ]
        )
    );
}

#[test]
fn what_cannot_be_said() {
    for text in [
        "a == 'x' || b == 'y'",
        "a contains 'x'",
        "!a starts with 'x'",
        "!(a == 'x' && b == 'y')",
        "a in {}",
        "!global()",
    ] {
        let selector: Selector = text.parse().unwrap();
        let error = LabelSelector::try_from(&selector).unwrap_err();
        assert_eq!(error.part, selector.to_string());
    }
}

#[test]
fn what_kubernetes_refuses_too() {
    let convert = |r| Selector::try_from(&selector(&[], &[r])).unwrap_err();
    assert!(matches!(
        convert(requirement("a", Operator::In, &[])),
        LabelSelectorError::NoValues { .. }
    ));
    assert!(matches!(
        convert(requirement("a", Operator::Exists, &["x"])),
        LabelSelectorError::Values { .. }
    ));
    assert!(matches!(
        convert(requirement("a b", Operator::Exists, &[])),
        LabelSelectorError::Label(_)
    ));
    assert!(matches!(
        convert(requirement("a", Operator::In, &["'\""])),
        LabelSelectorError::Value(_)
    ));
}

#[cfg(feature = "serde")]
#[test]
fn the_json_is_kubernetes() {
    let json = r#"{"matchLabels":{"a":"1"},"matchExpressions":[{"key":"b","operator":"DoesNotExist"},{"key":"c","operator":"NotIn","values":["x"]}]}"#;
    let parsed: LabelSelector = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&parsed).unwrap(), json);
    let text = "(a == \"1\" && !has(b) && c not in {\"x\"})";
    let selector = Selector::try_from(&parsed).unwrap();
    assert_eq!(selector.to_string(), text);
    let as_json = serde_json::to_string(&selector).unwrap();
    assert_eq!(
        serde_json::from_str::<Selector>(&as_json).unwrap(),
        selector
    );
    assert!(serde_json::from_str::<Selector>("\"a =\"").is_err());
    assert_eq!(
        serde_json::from_str::<LabelSelector>("{}").unwrap(),
        LabelSelector::default()
    );
}
