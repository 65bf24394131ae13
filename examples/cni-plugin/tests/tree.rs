//! What the thin plugins are built from, when they are built alone.

use std::process::Command;

#[test]
fn the_plugins_stay_thin() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "ocicat",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("ocicat-cni "), "{tree}");
    for heavy in [
        "tokio",
        "kube",
        "etcd-client",
        "rusqlite",
        "ocicat-datastore",
        "clap",
        "tracing",
    ] {
        let found = tree
            .lines()
            .any(|line| line.split(' ').next() == Some(heavy));
        assert!(!found, "{heavy} is in the tree of the thin plugins");
    }
}

/// As the runtime finds it on a host without our libraries: built alone, with the C library inside.
#[test]
fn built_alone_the_plugins_need_no_dynamic_linker() {
    let triple = host();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--package", "ocicat", "--bins"])
        .args(["--target", &triple, "--message-format", "json"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let messages = String::from_utf8(output.stdout).unwrap();
    let built: Vec<String> = messages
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter_map(|message: serde_json::Value| Some(message["executable"].as_str()?.to_owned()))
        .collect();
    assert_eq!(built.len(), 2, "{built:?}");
    for program in built {
        assert!(!asks_for_an_interpreter(&program), "{program}");
        let mut version = Command::new("/usr/bin/time");
        version.args(["-f", "%M", &program, "--version"]);
        let shown = version.output().expect("apt-get install time");
        let memory = String::from_utf8_lossy(&shown.stderr).trim().to_owned();
        let size = std::fs::metadata(&program).unwrap().len() / 1000;
        println!("{program}: {size} kB with symbols, {memory} kB of memory");
    }
}

/// The compiler's own target.
fn host() -> String {
    let shown = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// A program header of type `PT_INTERP` in an ELF file of 64 bits, little-endian (elf(5)).
fn asks_for_an_interpreter(program: &str) -> bool {
    let bytes = std::fs::read(program).unwrap();
    let number = |at: usize, size: usize| {
        let field = bytes[at..at + size].iter().rev();
        field.fold(0_usize, |all, byte| all << 8 | usize::from(*byte))
    };
    let (start, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    assert!(count > 0, "{program} has no program headers");
    (0..count).any(|index| number(start + index * size, 4) == 3)
}
