use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::*;
use crate::events::Events as Publisher;

/// Questions and answers of version 1, recorded when it was new. Every later agent and client understands them.
const RECORDED: &str = include_str!("../../tests/data/control-1.jsonl");

#[test]
fn version_1_is_understood_as_it_was_recorded() {
    let mut seen = std::collections::BTreeSet::new();
    for line in RECORDED.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let request: Request = serde_json::from_value(line["request"].clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            line["request"],
            "the client still asks so"
        );
        let answer = line["answer"].clone();
        let op = line["request"]["op"].as_str().unwrap().to_owned();
        let kept = match request {
            Request::Version => json!(serde_json::from_value::<Version>(answer.clone()).unwrap()),
            Request::Wait { .. } => {
                json!(serde_json::from_value::<Waited>(answer.clone()).unwrap())
            }
            Request::Status => json!(serde_json::from_value::<Status>(answer.clone()).unwrap()),
            Request::Endpoints => {
                json!(serde_json::from_value::<Vec<Endpoint>>(answer.clone()).unwrap())
            }
            Request::Counters => {
                json!(serde_json::from_value::<PolicyCounters>(answer.clone()).unwrap())
            }
            Request::Drain { .. } => {
                json!(serde_json::from_value::<Drained>(answer.clone()).unwrap())
            }
            _ => answer.clone(),
        };
        assert_eq!(kept, answer, "{op}: nothing is lost");
        seen.insert(op);
    }
    assert_eq!(seen.len(), RECORDED.lines().count(), "each question once");
}

/// A server whose core answers by rote, and where it listens.
fn server() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (core, mut questions) = mpsc::channel(4);
    let (counting, mut counts) = mpsc::channel(4);
    let serving = Serving {
        core,
        events: Publisher::new("node1"),
        counting,
        kernel: &[("kernel.txt", || "routes".to_owned())],
    };
    tokio::spawn(serve(listener, serving));
    tokio::spawn(async move {
        while let Some(answer) = counts.recv().await {
            let answer: crate::drive::Counting = answer;
            let _ = answer.send(Err("nft: permission denied".to_owned()));
        }
    });
    tokio::spawn(async move {
        while let Some(question) = questions.recv().await {
            match question {
                Question::Status(answer) => drop(answer.send(Status::default())),
                Question::Routes(answer) => drop(answer.send(json!([]))),
                Question::Endpoints(answer) => drop(answer.send(vec![Endpoint::default()])),
                Question::Config(answer) => drop(answer.send(Configuration::default())),
                Question::Objects(answer) => {
                    drop(answer.send(vec![json!({"secrets": ["hush"], "kind": "BGPPeer"})]));
                }
                Question::Drain(on, answer) => drop(answer.send(Ok(Drained {
                    draining: on,
                    since_s: None,
                }))),
                _ => {}
            }
        }
    });
    (folder, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered() {
    let (_folder, path) = server();
    let client = Client::new(path);
    tokio::task::spawn_blocking(move || {
        assert_eq!(client.version().unwrap().control, PROTOCOL);
        assert!(!client.status().unwrap().ready);
        assert_eq!(client.endpoints().unwrap().len(), 1);
        assert!(client.drain(true).unwrap().draining);
        assert_eq!(client.routes().unwrap(), json!([]));
        let error = client.counters().unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{error}");
        let files = client.diags().unwrap();
        let text = |name: &str| {
            files
                .iter()
                .find(|(file, _)| file == name)
                .unwrap()
                .1
                .clone()
        };
        assert_eq!(text("kernel.txt"), "routes");
        assert!(text("objects.json").contains("BGPPeer") && !text("objects.json").contains("hush"));
        assert!(text("counters.json").contains("permission denied"));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_by_name() {
    let (_folder, path) = server();
    let answers = tokio::task::spawn_blocking(move || {
        let ask = |request: &[u8]| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            stream
                .write_all(&u32::try_from(request.len()).unwrap().to_be_bytes())
                .unwrap();
            stream.write_all(request).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned()
        };
        [
            ask(br#"{"op":"fly"}"#),
            ask(b"{"),
            ask(br#"{"op":"drain"}"#),
        ]
    })
    .await
    .unwrap();
    for (answer, word) in answers.iter().zip(["fly", "error", "on"]) {
        assert!(
            answer.contains("error") && answer.contains(word),
            "{answer}"
        );
    }
}
