//! The control socket: one word in a line asks, one JSON value answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ocicat_bgp::driver::{Handle, Stopped};
use ocicat_bgp::{BestRoute, PeerStatus, Route};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A question is no longer than this.
const LONGEST: usize = 64;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the socket, for its owner alone.
///
/// # Errors
/// When another speaker answers there, or the place cannot be written.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let name = path.display();
    if UnixStream::connect(path).is_ok() {
        bail!("{name}: another speaker answers there");
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.with_context(|| folder.display().to_string())?;
    }
    // Nobody answers there: it is what a killed speaker left behind.
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| name.to_string())?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the speaker ends.
pub async fn serve(listener: UnixListener, bgp: Handle) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let bgp = bgp.clone();
        tokio::spawn(tokio::time::timeout(PATIENCE, async move {
            let mut question = Vec::new();
            while question.len() < LONGEST && !question.ends_with(b"\n") {
                if !matches!(stream.read_buf(&mut question).await, Ok(1..)) {
                    return;
                }
            }
            let answer = answer(question.trim_ascii(), &bgp).await;
            let mut text = answer
                .unwrap_or_else(|error| json!({"error": error.to_string()}))
                .to_string();
            text.push('\n');
            // A client that is gone needs no answer.
            let _ = stream.write_all(text.as_bytes()).await;
        }));
    }
}

async fn answer(question: &[u8], bgp: &Handle) -> Result<Value, Stopped> {
    Ok(match question {
        b"status" => {
            let metrics = bgp.metrics().await?;
            let up = metrics.peers.iter().filter(|peer| peer.established);
            json!({
                "neighbors": metrics.peers.len(),
                "established": up.count(),
                "prefixes": metrics.prefixes.iter().sum::<u64>(),
                "refused_connections": metrics.refused_connections,
            })
        }
        b"metrics" => json!(bgp.metrics().await?.to_string()),
        b"neighbors" => bgp.peers().await?.iter().map(neighbor).collect(),
        b"routes" => bgp.routes().await?.iter().map(route).collect(),
        _ => json!({"error": "status, neighbors, routes or metrics"}),
    })
}

fn neighbor(peer: &PeerStatus) -> Value {
    json!({
        "address": peer.address,
        "as": peer.peer_as.0,
        "state": peer.state.to_string(),
        "seconds": Instant::now().saturating_duration_since(peer.since).as_secs(),
        "last_error": peer.last_error.as_ref().map(ToString::to_string),
        "reason": peer.last_error,
        "routes": peer.routes,
        "updates": peer.updates,
        "malformed": peer.malformed,
        "sessions": peer.sessions,
        "dynamic": peer.dynamic,
    })
}

fn route(route: &Route) -> Value {
    let path = |(at, path): (usize, &BestRoute)| {
        let attributes = &path.attributes;
        json!({
            "used": at < route.used,
            "next_hop": path.next_hop,
            "from": path.peer_address,
            "path_id": path.path_id,
            "as_path": attributes.as_path().to_string(),
            "local_pref": attributes.local_pref(),
            "med": attributes.med(),
            "communities": attributes.communities().map(|c| c.to_string()).collect::<Vec<_>>(),
            "stale": path.stale,
        })
    };
    json!({
        "prefix": route.prefix.to_string(),
        "why": route.step.map(|step| step.to_string()),
        "paths": route.paths.iter().enumerate().map(path).collect::<Vec<_>>(),
    })
}

/// Asks a running speaker.
///
/// # Errors
/// When nobody answers at `socket`, or the answer says that something failed.
pub fn ask(socket: &Path, question: &str) -> Result<Value> {
    let name = socket.display();
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("{name}: is it running?"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{question}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line).context("the answer is no JSON")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    Ok(answer)
}

/// An answer as text: a line per item, the values of a line in columns.
#[must_use]
pub fn text(answer: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let line = |value: &Value| match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_array() && !value.is_object())
            .map(|(key, value)| format!("{key} {}", plain(value)))
            .collect::<Vec<_>>()
            .join("  "),
        other => plain(other),
    };
    let mut out = String::new();
    let items = answer
        .as_array()
        .map_or_else(|| vec![answer.clone()], Clone::clone);
    for item in &items {
        out += &line(item);
        out.push('\n');
        for path in item
            .get("paths")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            out += &format!("    {}\n", line(path));
        }
    }
    out
}
