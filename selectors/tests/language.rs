//! The language: what matches, what is refused and where, what the canonical form is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ocicat_selectors::{Fault, LabelFn, MAX_DEPTH, MAX_LENGTH, ParseError, Selector};

fn parse(text: &str) -> Selector {
    text.parse()
        .unwrap_or_else(|e: ParseError| panic!("{text:?}: {}", e.render()))
}

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// A selector, what it matches, what it does not; `-` is no labels at all.
const MATCHES: &[(&str, &[&str], &[&str])] = &[
    ("", &["-", "a=1"], &[]),
    (" \t ", &["-"], &[]),
    ("all()", &["-", "a=1"], &[]),
    ("all( )", &["-"], &[]),
    ("global()", &["-", "a=1"], &[]),
    ("a == 'x'", &["a=x", "a=x b=y"], &["-", "a=y", "b=x"]),
    ("a != 'x'", &["-", "a=y", "b=x"], &["a=x"]),
    ("a in {'x','y'}", &["a=x", "a=y"], &["-", "a=z"]),
    ("a in {}", &[], &["-", "a=x", "a="]),
    ("a not in {'x','y'}", &["-", "a=z"], &["a=x", "a=y"]),
    ("a notin {'x',}", &["-", "a=z"], &["a=x"]),
    ("a not   in {}", &["-", "a=z"], &[]),
    (
        "a contains 'bc'",
        &["a=abcd", "a=bc"],
        &["-", "a=b", "b=bc"],
    ),
    ("a contains ''", &["a=", "a=x"], &["-"]),
    (
        "a starts with 'ab'",
        &["a=abc", "a=ab"],
        &["-", "a=b", "a=xab"],
    ),
    ("a startswith 'ab'", &["a=abc"], &["-", "a=b"]),
    ("a ends with 'bc'", &["a=abc"], &["-", "a=bcx"]),
    ("a endswith\t'bc'", &["a=abc"], &["-"]),
    ("has(a)", &["a=", "a=x"], &["-", "b=x"]),
    ("has( a\t)", &["a=x"], &["-"]),
    ("!has(a)", &["-", "b=x"], &["a=x"]),
    ("! ! has(a)", &["a=x"], &["-"]),
    ("!!!has(a)", &["-"], &["a=x"]),
    (
        "!a == 'x' && b == 'y'",
        &["b=y", "a=z b=y"],
        &["-", "a=x", "a=x b=y"],
    ),
    (
        "!(a == 'x' && b == 'y')",
        &["-", "a=x", "b=y"],
        &["a=x b=y"],
    ),
    // && binds tighter than ||.
    (
        "a=='1'||b=='1'&&c=='1'",
        &["a=1", "b=1 c=1"],
        &["b=1", "c=1"],
    ),
    (
        "(a=='1'||b=='1')&&c=='1'",
        &["a=1 c=1", "b=1 c=1"],
        &["a=1", "c=1"],
    ),
    ("((((has(a)))))", &["a=1"], &["-"]),
    // Names of functions and operators are labels where a label stands.
    ("all == 'x'", &["all=x"], &["-"]),
    ("has == 'x' && in == 'y'", &["has=x in=y"], &["has=x"]),
    ("not in {'in'}", &[], &["-"]),
    ("in in {'in'}", &["in=in"], &["-"]),
    ("pcns.x/y-z_0.1 == 'v'", &["pcns.x/y-z_0.1=v"], &["-"]),
    // No escapes: a quote of the other kind is a character.
    (r#"a == 'x"y'"#, &[r#"a=x"y"#], &["a=xy"]),
    (r#"a == "\""#, &[r"a=\"], &["a="]),
    ("a == 'ü'", &["a=ü"], &["a=u"]),
];

#[test]
fn every_operator_with_the_label_present_and_absent() {
    for (text, matching, others) in MATCHES {
        let selector = parse(text);
        for case in *matching {
            assert!(selector.matches(&labels(case)), "{text} of {case}");
        }
        for case in *others {
            assert!(!selector.matches(&labels(case)), "{text} of {case}");
        }
        let again = parse(&selector.to_string());
        assert_eq!(again, selector, "{text}");
        assert_eq!(again.expr(), selector.expr(), "{text}");
    }
}

/// A text, the byte that the error points at, a part of the message.
const REFUSED: &[(&str, usize, &str)] = &[
    ("b == b", 5, "found `b`, expected a value in quotes"),
    ("a in b", 5, "expected `{`"),
    ("b contains b", 11, "expected a value in quotes"),
    ("b starts with b", 14, "expected a value in quotes"),
    ("b ends with b", 12, "expected a value in quotes"),
    ("b starts without 'b'", 9, "expected `with`"),
    ("b not of {}", 6, "expected `in`"),
    ("'b1' == b", 0, "found the quoted \"b1\", expected a label"),
    ("b", 1, "found the end, expected ==, !="),
    ("a ", 2, "found the end, expected ==, !="),
    ("a b", 2, "found `b`, expected ==, !="),
    ("a == 'b' c == 'd'", 9, "found `c`, expected &&, ||"),
    ("!", 1, "expected a label"),
    ("!= 'a'", 0, "found `!=`, expected a label"),
    ("foo == \"bar\" &", 13, "found a single `&`, expected `&&`"),
    ("foo == \"bar\" |", 13, "found a single `|`, expected `||`"),
    ("foo = 'a'", 4, "found a single `=`, expected `==`"),
    ("foo != ||", 7, "found `||`, expected a value in quotes"),
    ("foo in {\"\", ||", 12, "expected a value in quotes or `}`"),
    ("foo in {,}", 8, "found `,`"),
    ("foo in {'a' 'b'}", 12, "expected `,` or `}`"),
    ("foo in \"\"", 7, "expected `{`"),
    ("a == \"FOO", 5, "this \" is never closed"),
    ("a == \"FOO'", 5, "this \" is never closed"),
    ("'FOO", 0, "this ' is never closed"),
    ("(", 0, "this ( is never closed"),
    ("has(a) && (", 10, "this ( is never closed"),
    ("(a == \"foo\"", 0, "this ( is never closed"),
    (")", 0, "this ) closes nothing"),
    ("has(a))", 6, "this ) closes nothing"),
    ("()", 1, "found `)`, expected a label"),
    ("(has(a) && )", 11, "found `)`, expected a label"),
    ("%", 0, "unknown character '%'"),
    ("a == 'b' && %", 12, "unknown character '%'"),
    ("a == 'b'\n", 8, "unknown character '\\n'"),
    ("has(foo) &&", 11, "found the end, expected a label"),
    ("|| has(foo)", 0, "found `||`"),
    ("has (foo)", 4, "found `(`, expected ==, !="),
    ("has()", 4, "found `)`, expected a label's key"),
    ("has('a')", 4, "expected a label's key"),
    ("has(a b)", 6, "found `b`, expected `)`"),
    ("all(a)", 4, "expected `)`"),
    ("ü == 'a'", 0, "unknown character 'ü'"),
    ("a == 'ü' %", 10, "unknown character '%'"),
];

#[test]
fn what_is_refused_and_where() {
    for (text, at, message) in REFUSED {
        let error = text.parse::<Selector>().expect_err(text);
        assert_eq!(error.span().start, *at, "{text}: {error}");
        assert!(error.to_string().contains(message), "{text}: {error}");
        let rendered = error.render();
        let mark = rendered.lines().nth(2).unwrap();
        let column = text[..*at].chars().count() + 2;
        assert_eq!(
            mark.chars().position(|c| c == '^'),
            Some(column),
            "{rendered}"
        );
    }
}

#[test]
fn a_long_text_is_shown_around_the_error() {
    let text = format!("{} && %{}", ["has(a)"; 20].join(" && "), "x".repeat(50));
    let rendered = text.parse::<Selector>().unwrap_err().render();
    let lines: Vec<_> = rendered.lines().collect();
    assert!(
        lines[1].starts_with("  ...") && lines[1].ends_with("..."),
        "{rendered}"
    );
    let column = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][column..=column], "%", "{rendered}");
}

#[test]
fn canonical_forms() {
    for (text, canonical) in [
        ("", "all()"),
        (" all() ", "all()"),
        (" (all() )", "all()"),
        ("! (has( b)||! has(a ))", "!(has(b) || !has(a))"),
        (
            "! (a == \"b\"&&! c != \"d\")",
            "!(a == \"b\" && !c != \"d\")",
        ),
        ("a == \"'\"", "a == \"'\""),
        ("a == '\"'", "a == '\"'"),
        ("a == 'b'", "a == \"b\""),
        ("a startswith '\"'", "a starts with '\"'"),
        ("a endswith 'x'", "a ends with \"x\""),
        ("a notin {'z','x','z',}", "a not in {\"x\", \"z\"}"),
        ("a in {}", "a in {}"),
        ("has(a)&&has(b)&&has(c)", "(has(a) && has(b) && has(c))"),
        ("has(a)&&(has(b)&&has(c))", "(has(a) && has(b) && has(c))"),
        ("(has(a)||has(b))||has(c)", "(has(a) || has(b) || has(c))"),
        ("has(a)||has(b)&&has(c)", "(has(a) || (has(b) && has(c)))"),
        ("!(!has(a))", "has(a)"),
        (
            "!(!(has(a)&&has(b)))&&has(c)",
            "(has(a) && has(b) && has(c))",
        ),
        ("!!!global()", "!global()"),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
        assert_eq!(parse(canonical).to_string(), canonical);
    }
}

#[cfg(feature = "uid")]
#[test]
fn unique_ids_are_calicos() {
    for (text, id) in [
        ("", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        (" (all() )", "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug"),
        (
            "! (has( b)||! has(a ))",
            "s:Iss0uCleLYv1GSv_pNm7hAO58kE9jAx1NKyG3Q",
        ),
        (
            "! (a == \"b\"&&! c != \"d\")",
            "s:lh3haoY1ikTRkd4UZu0nWSaIBknYLPJLX16d-w",
        ),
    ] {
        assert_eq!(parse(text).unique_id(), id, "{text}");
    }
}

#[test]
fn hostile_texts_are_refused_at_once() {
    let huge = "has(a) && ".repeat(100_000);
    let parentheses = "(".repeat(100_000);
    let short_parentheses = "(".repeat(MAX_LENGTH);
    let quotes = "'".repeat(MAX_LENGTH);
    let bangs = "!".repeat(MAX_LENGTH);
    let words = "a ".repeat(MAX_LENGTH / 2);
    for text in [
        &huge,
        &parentheses,
        &short_parentheses,
        &quotes,
        &bangs,
        &words,
    ] {
        let start = Instant::now();
        let error = text.parse::<Selector>().unwrap_err();
        let _ = error.render();
        // Microseconds, in truth; what grows faster than the text would take hours.
        assert!(start.elapsed() < Duration::from_secs(10), "{error}");
    }
    assert!(matches!(
        huge.parse::<Selector>().unwrap_err().fault(),
        Fault::LongText {
            length: 1_000_000,
            ..
        }
    ));
    assert!(matches!(
        short_parentheses.parse::<Selector>().unwrap_err().fault(),
        Fault::Deep { limit: MAX_DEPTH }
    ));
}

#[test]
fn the_limits_themselves_are_allowed() {
    let nest = |depth: usize| format!("{}has(a){}", "!(".repeat(depth), ")".repeat(depth));
    assert_eq!(parse(&nest(MAX_DEPTH)).to_string(), "has(a)");
    assert!(nest(MAX_DEPTH + 1).parse::<Selector>().is_err());
    // The deepest tree: operators alternate, so that nothing is flattened.
    let mut deep = String::from("has(a)");
    for i in 0..MAX_DEPTH {
        deep = format!("({deep} {} !has(b))", if i % 2 == 0 { "&&" } else { "||" });
    }
    let selector = parse(&deep);
    assert_eq!(parse(&selector.to_string()), selector);
    assert!(selector.matches(&labels("-")));
    assert!(!selector.matches(&labels("b=1")));
    let b = selector.restrictions().get("b").cloned();
    assert_eq!(b, Some(ocicat_selectors::Restriction::Absent));
    // Parentheses that only the canonical form needs count too.
    let deep = format!("has(b) && (has(c) || {deep})");
    assert!(deep.parse::<Selector>().is_err());
    let long = format!("has({})", "a".repeat(512));
    assert_eq!(parse(&long).to_string(), long);
    let error = format!("has({})", "a".repeat(513))
        .parse::<Selector>()
        .unwrap_err();
    assert!(matches!(
        error.fault(),
        Fault::LongLabel {
            length: 513,
            limit: 512
        }
    ));
}

#[test]
fn labels_come_in_many_forms() {
    let selector = parse("app == 'web'");
    #[cfg(feature = "std")]
    assert!(selector.matches(&std::collections::HashMap::from([("app", "web")])));
    assert!(selector.matches(&BTreeMap::from([("app".to_owned(), "web".to_owned())])));
    assert!(selector.matches(&[("app", "web")]));
    assert!(selector.matches(&LabelFn::new(|key| (key == "app").then_some("web"))));
    assert!(!selector.matches(&&BTreeMap::<String, String>::new()));
}

#[test]
fn selectors_are_put_together() {
    let (a, b) = (parse("has(a)"), parse("has(b) || has(c)"));
    assert_eq!(
        a.clone().and(b.clone()).to_string(),
        "(has(a) && (has(b) || has(c)))"
    );
    assert_eq!(
        b.clone().or(a.clone()).to_string(),
        "(has(b) || has(c) || has(a))"
    );
    assert_eq!(a.clone().and(Selector::all()), a);
    assert_eq!(Selector::all().and(a.clone()), a);
    assert_eq!(!!a.clone(), a);
    assert_eq!((!b).to_string(), "!(has(b) || has(c))");
    assert!(a.rename_labels(|label| format!("{label} ")).is_err());
}

#[test]
fn restrictions() {
    for (text, expected) in [
        ("all()", ""),
        ("a == 'x'", "a: one of {\"x\"}"),
        ("a != 'x'", ""),
        ("!a != 'x'", "a: one of {\"x\"}"),
        ("a in {'x','y'} && a in {'y','z'}", "a: one of {\"y\"}"),
        ("a == 'x' && a == 'y'", "a: one of {} unsatisfiable"),
        (
            "has(a) && a == 'x' && b contains 'c'",
            "a: one of {\"x\"} b: present",
        ),
        ("!has(a)", "a: absent"),
        ("!has(a) && has(a)", "a: one of {} unsatisfiable"),
        ("a == 'x' || a == 'y'", "a: one of {\"x\", \"y\"}"),
        ("a == 'x' || has(a)", "a: present"),
        ("a == 'x' || has(b)", ""),
        ("a == 'x' || !has(a)", ""),
        ("a in {} || b == 'x'", "b: one of {\"x\"}"),
        ("!(a == 'x' || has(b))", "b: absent"),
        ("!(a != 'x' && !has(b))", ""),
        ("!all()", "unsatisfiable"),
    ] {
        let restrictions = parse(text).restrictions();
        let mut said: Vec<String> = restrictions
            .iter()
            .map(|(label, restriction)| match restriction {
                ocicat_selectors::Restriction::OneOf(v) => format!("{label}: one of {v:?}"),
                other => format!("{label}: {}", format!("{other:?}").to_lowercase()),
            })
            .collect();
        if restrictions.is_unsatisfiable() {
            said.push("unsatisfiable".into());
        }
        assert_eq!(said.join(" "), expected, "{text}");
    }
}
