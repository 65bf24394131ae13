//! The asking end: connects, reads who answers, sends 32 KiB and wants them back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::ConnectivityProbe;
use crate::failure::Failure;

/// More than what fits into one packet of any size, so that a wrong MTU shows.
const BULK: usize = 32 << 10;
/// How long to rest between attempts.
const REST: Duration = Duration::from_millis(200);

/// What became of a question, short enough for a container's termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Milliseconds until everything had come back, when it did.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(super) ms: Option<f64>,
    /// Why not, when it did not.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// Asks until the answer is as expected, or the time is over; the last answer counts.
pub(super) fn ask(to: SocketAddr, limit: Duration, expect: bool, within: Duration) -> Outcome {
    let until = Instant::now() + within;
    loop {
        let outcome = match exchange(to, limit) {
            Ok(took) => Outcome {
                ms: Some((took.as_secs_f64() * 10_000.0).round() / 10.0),
                error: None,
            },
            Err(error) => Outcome {
                ms: None,
                error: Some(error.chars().take(80).collect()),
            },
        };
        if outcome.ms.is_some() == expect || Instant::now() >= until {
            return outcome;
        }
        std::thread::sleep(REST);
    }
}

/// One connection: a line of greeting, and everything that is sent comes back.
fn exchange(to: SocketAddr, limit: Duration) -> Result<Duration, String> {
    let began = Instant::now();
    let mut stream =
        TcpStream::connect_timeout(&to, limit).map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => "no answer".to_owned(),
            _ => error.to_string(),
        })?;
    let timeout = |stream: &TcpStream| {
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))
    };
    timeout(&stream).map_err(|error| error.to_string())?;
    let mut byte = [0];
    while byte != *b"\n" {
        let length = stream.read(&mut byte);
        if length.map_err(|error| format!("connected, then: {error}"))? == 0 {
            return Err("connected, then closed by somebody else's server".into());
        }
    }
    bulk(&mut stream).map_err(|error| {
        format!(
            "small packets pass, 32 KiB do not ({}): look at MTUs",
            error.kind()
        )
    })?;
    Ok(began.elapsed())
}

fn bulk(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut reader = stream.try_clone()?;
    let receiver = std::thread::spawn(move || {
        let mut back = vec![0; BULK];
        reader.read_exact(&mut back)
    });
    stream.write_all(&[b'.'; BULK])?;
    receiver
        .join()
        .map_err(|_| std::io::Error::other("the reading thread panicked"))?
}

/// Asks every address at once; the outcomes are one line of JSON, in the order of the addresses.
///
/// # Errors
/// When the file cannot be written. What was found is no error.
pub(super) fn run(args: &ConnectivityProbe) -> Result<(), Failure> {
    let (limit, within) = (
        Duration::from_millis(args.timeout),
        Duration::from_secs(args.within),
    );
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let ask_one = |to: &SocketAddr| {
            let to = *to;
            scope.spawn(move || ask(to, limit, !args.silent, within))
        };
        let asked: Vec<_> = args.targets.iter().map(ask_one).collect();
        let lost = || Outcome {
            ms: None,
            error: Some("the probe failed".into()),
        };
        let answer =
            |one: std::thread::ScopedJoinHandle<'_, Outcome>| one.join().unwrap_or_else(|_| lost());
        asked.into_iter().map(answer).collect()
    });
    let line = serde_json::to_string(&outcomes).map_err(|error| Failure::failed("JSON", error))?;
    match &args.write {
        Some(path) => std::fs::write(path, line)
            .map_err(|error| Failure::failed(&path.display().to_string(), error)),
        None => {
            println!("{line}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(500);

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_answers_and_everything_comes_back() {
        let listener = super::super::serve::listen(0).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let server = tokio::spawn(super::super::serve::serve(listener, "me".into()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let asked = tokio::task::spawn_blocking(move || ask(address, SHORT * 4, true, SHORT * 20));
        let outcome = asked.await.expect("asked");
        assert!(outcome.ms.is_some(), "{outcome:?}");
        server.abort();
    }

    #[test]
    fn somebody_who_does_not_echo_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.write_all(b"me\n").expect("greeted");
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
        });
        let outcome = ask(address, SHORT, true, Duration::ZERO);
        let why = outcome.error.expect("not as it should be");
        assert!(why.contains("MTU"), "{why}");
        server.join().expect("ended");
    }

    #[test]
    fn nobody_is_no_answer_and_that_may_be_expected() {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
        let outcome = ask(free.expect("a port"), SHORT, false, Duration::from_secs(60));
        assert!(outcome.ms.is_none() && outcome.error.is_some());
        let line = serde_json::to_string(&outcome).expect("plain");
        let read: Outcome = serde_json::from_str(&line).expect("the same");
        assert_eq!(read, outcome);
    }
}
