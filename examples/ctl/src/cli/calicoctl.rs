//! What calicoctl's users are used to type, where it means something else here.

use std::ffi::OsString;

use clap::ValueEnum;

use crate::output::Format;

/// The arguments with calicoctl's `ipam check -o FILE` as `--report FILE`, and its `ipam configure show` as the settings: `-o` is
/// the format everywhere else. Arguments that are already ours stay.
pub fn understood(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = arguments.into_iter().collect();
    let find = |words: &[OsString], verb: &str| {
        let pair = |pair: &[OsString]| pair[0] == "ipam" && pair[1] == verb;
        words.windows(2).position(pair)
    };
    if let Some(at) = find(&words, "check") {
        for index in at + 2..words.len() {
            rename(&mut words, index);
        }
    }
    if let Some(at) = find(&words, "configure")
        && words.get(at + 2).is_some_and(|word| word == "show")
    {
        words.remove(at + 2);
    }
    words
}

/// `-o FILE`, `--output FILE`, `--output=FILE`: the file's, unless it is the name of a format.
fn rename(words: &mut [OsString], index: usize) {
    let is_format = |text: &str| Format::from_str(text, true).is_ok();
    let word = words[index].to_string_lossy().into_owned();
    let next = words
        .get(index + 1)
        .map(|next| next.to_string_lossy().into_owned());
    match word.split_once('=') {
        Some(("-o" | "--output", file)) if !is_format(file) => {
            words[index] = format!("--report={file}").into();
        }
        None if matches!(word.as_str(), "-o" | "--output")
            && next.is_some_and(|next| !is_format(&next)) =>
        {
            words[index] = "--report".into();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_told_from_a_format() {
        let of = |text: &str| {
            let words = understood(text.split(' ').map(OsString::from));
            let words = words.iter().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        for (typed, meant) in [
            ("x ipam check -o r.json", "x ipam check --report r.json"),
            (
                "x ipam check --output=r.json",
                "x ipam check --report=r.json",
            ),
            ("x ipam check -o json", "x ipam check -o json"),
            (
                "x -o yaml ipam check --output r",
                "x -o yaml ipam check --report r",
            ),
            ("x get ippool -o nothing", "x get ippool -o nothing"),
            (
                "x ipam configure show --strict-affinity true",
                "x ipam configure --strict-affinity true",
            ),
        ] {
            assert_eq!(of(typed), meant);
        }
    }
}
