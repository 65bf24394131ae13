//! What happens at an agent, for people and tools that watch it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::broadcast;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub ms: u64,
    /// On which node.
    #[serde(serialize_with = "text")]
    pub node: Arc<str>,
    /// What: `block-claimed`, `veth-made`, `route-announced`, ...
    pub event: &'static str,
    /// The particulars.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

fn text<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// Where events are published. Watchers that are slow miss the oldest ones and are told how many.
#[derive(Clone, Debug)]
pub struct Events {
    node: Arc<str>,
    sender: broadcast::Sender<Event>,
}

impl Events {
    /// Publishes the events of a node.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            sender: broadcast::Sender::new(4096),
        }
    }

    /// Publishes one event, to the log and to whoever watches.
    pub fn publish(&self, event: &'static str, fields: &[(&str, &dyn ToString)]) {
        let fields: Map<String, Value> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::String(value.to_string())))
            .collect();
        let shown = Value::Object(fields.clone()).to_string();
        tracing::info!(event, fields = shown);
        let ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        // Nobody watching is no error.
        let _ = self.sender.send(Event {
            ms,
            node: Arc::clone(&self.node),
            event,
            fields,
        });
    }

    /// Everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}
