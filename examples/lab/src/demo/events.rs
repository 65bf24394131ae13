//! The events of all agents in one stream.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ocicat_node::control::Client;
use serde_json::Value;

/// An event of an agent.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Milliseconds since 1970.
    pub(super) ms: u64,
    /// The agent's node.
    pub(super) node: String,
    /// What happened.
    pub(super) name: String,
    fields: Value,
}

impl Event {
    /// A field, as text.
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    /// The event in words.
    pub(super) fn words(&self) -> String {
        match self.name.as_str() {
            "block-claimed" => format!("block {} claimed", self.field("block")),
            "veth-made" => format!(
                "veth {} made for {}, {}",
                self.field("link"),
                self.field("pod"),
                self.field("address")
            ),
            "route-announced" => format!("route {} announced", self.field("prefix")),
            "route-learned" => format!(
                "route {} learned, via {}",
                self.field("prefix"),
                self.field("via")
            ),
            "route-withdrawn" => format!("route {} withdrawn", self.field("prefix")),
            "peer-up" => format!("session with {} up", self.field("peer")),
            "peer-down" => format!(
                "session with {} down: {}",
                self.field("peer"),
                self.field("reason")
            ),
            "policy-applied" => "policy applied".to_owned(),
            other => format!("{other} {}", self.field("endpoint")),
        }
    }
}

/// Listens to agents; threads end with their agents.
#[derive(Debug)]
pub(super) struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    seen: Vec<Event>,
}

impl Events {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel();
        Self {
            sender,
            receiver,
            seen: Vec::new(),
        }
    }

    /// Listens to one more agent, from now on.
    pub(super) fn listen(&self, client: &Client) -> anyhow::Result<()> {
        let (events, sender) = (client.events()?, self.sender.clone());
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                for value in events {
                    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
                    let (ms, node, name) = (
                        value["ms"].as_u64().unwrap_or_default(),
                        text("node"),
                        text("event"),
                    );
                    if sender
                        .send(Event {
                            ms,
                            node,
                            name,
                            fields: value,
                        })
                        .is_err()
                    {
                        return;
                    }
                }
            })?;
        Ok(())
    }

    /// Everything since a moment, in the order of time; waits until `complete` says that it is all.
    pub(super) async fn since(
        &mut self,
        ms: u64,
        patience: Duration,
        complete: impl Fn(&[Event]) -> bool,
    ) -> Vec<Event> {
        let until = Instant::now() + patience;
        loop {
            self.seen.extend(self.receiver.try_iter());
            let mut events: Vec<Event> = self
                .seen
                .iter()
                .filter(|event| event.ms >= ms)
                .cloned()
                .collect();
            if complete(&events) || Instant::now() > until {
                events.sort_by_key(|event| event.ms);
                return events;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Now, in milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
