//! JSON as YAML, for people to read.

use serde_json::Value;

/// A value as a YAML document.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0);
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Whether it is written on the line of its name.
fn is_short(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        _ => true,
    }
}

fn write(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    indent(out, depth);
                }
                out.push_str(&scalar(name));
                member_of(out, member, depth, matches!(member, Value::Array(_)));
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    indent(out, depth);
                }
                out.push_str("- ");
                write(out, element, depth + 1);
            }
        }
        value => {
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
}

/// What follows a name. A list stands no deeper than its name.
fn member_of(out: &mut String, member: &Value, depth: usize, list: bool) {
    if is_short(member) {
        out.push_str(": ");
        out.push_str(&inline(member));
        out.push('\n');
        return;
    }
    out.push_str(":\n");
    let depth = if list { depth } else { depth + 1 };
    indent(out, depth);
    write(out, member, depth);
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        value => value.to_string(),
    }
}

/// A text, in quotes where it would not be one without.
fn scalar(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '/');
    let plain = begins
        && !text.ends_with(char::is_whitespace)
        && !text.ends_with(':')
        && !text.contains(": ")
        && !text.contains(" #")
        && text
            .chars()
            .all(|c| !c.is_control() && !"\"'{}[]&*!|>%@`".contains(c));
    let word = [
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf",
    ];
    let special = word
        .iter()
        .any(|word| text.trim_start_matches('.').eq_ignore_ascii_case(word));
    let number = text.parse::<f64>().is_ok();
    if plain && !special && !number {
        return text.to_owned();
    }
    // JSON's quotes are YAML's.
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_reads_back() {
        let value = json!({
            "a": "text", "b": ["x", { "c": 1, "d": [] }, [1, 2], { "e": { "f": [{ "g": true }] } }],
            "h": {}, "i": null, "true": "no", "j": "a: b", "k": "ends:", "l": "- x", "m": "1.5", "n": "",
            "o": "two\nlines", "p": "it's", "q": "a #b", "r": ".spec.x", "s": "ü", "x-y/z": "*",
        });
        let options = serde_saphyr::options! { strict_booleans: true };
        let read: Value =
            serde_saphyr::from_str_with_options(&text(&value), options).expect("YAML");
        assert_eq!(read, value, "{}", text(&value));
    }
}
