//! The program over a store on disk, and files beside it.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A store of its own, and files beside it.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
}

/// Exit code, standard output, standard error.
pub(crate) type Out = (i32, String, String);

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("o.db").display())
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocicatctl"));
        command.args(["--datastore", &self.url()]).args(arguments);
        command.arg("--run").arg(self.folder.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Out {
        out(self.command(arguments).output().unwrap())
    }

    /// With this on standard input.
    pub(crate) fn piped(&self, arguments: &[&str], input: &str) -> Out {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        out(child.wait_with_output().unwrap())
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap()
    }
}

pub(crate) fn out(output: std::process::Output) -> Out {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A pool with a label.
pub(crate) const POOL: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods, labels: {zone: a}}
spec: {cidr: 10.10.0.0/16, natOutgoing: true}
";
