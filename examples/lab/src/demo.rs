//! The demo.

use crate::cluster::Cluster;
use crate::launch::{Demo, Launch};
use crate::output::Output;

/// Runs it.
pub async fn run(_launch: &Launch, _options: Demo, output: &Output) -> (Option<Cluster>, u8) {
    output.line("not yet");
    (None, 1)
}
