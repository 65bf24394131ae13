//! The tests that the README's table of RFCs names are there.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The files that a name may stand in: those of a test program, or of a module's unit tests.
fn files(first: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    if first == "bgp_codec" {
        sources(&root.join("../tests/tests/bgp_codec"), &mut found);
        return found;
    }
    sources(&root.join("tests").join(first), &mut found);
    sources(&root.join("src").join(first), &mut found);
    let file = root.join("tests").join(format!("{first}.rs"));
    found.extend(Some(file).filter(|file| file.exists()));
    found
}

fn exists(name: &str) -> bool {
    let mut parts = name.split("::");
    let files = files(parts.next().unwrap_or_default());
    let Some(last) = parts.last() else {
        return !files.is_empty();
    };
    let function = format!("fn {last}(");
    files.iter().any(|file| {
        let stem = file.file_stem().is_some_and(|stem| stem == last);
        stem || fs::read_to_string(file).is_ok_and(|text| text.contains(&function))
    })
}

#[test]
fn the_tests_of_the_table_are_there() {
    let readme = include_str!("../README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| "));
    let mut count = 0;
    for row in rows.skip(1) {
        let cell = row
            .trim_end_matches(" |")
            .rsplit("| ")
            .next()
            .unwrap_or_default();
        for name in cell.split('`').skip(1).step_by(2) {
            assert!(exists(name), "there is no test {name}");
            count += 1;
        }
    }
    assert!(count > 40, "{count} names in the table");
    assert!(!exists("mesh::no_such_test") && !exists("no_such_program"));
}
