//! Fakes and kits for tests of plugins, agents and runtimes.

mod agent;
pub mod plugin_kit;
mod served;

pub use agent::{FakeAgent, Gate};
pub use served::ServedAgent;

/// What the agent's server makes of a frame's body, without a connection and a descriptor: for fuzzing.
///
/// # Errors
/// What the plugin would be told.
pub fn read_request(json: &[u8]) -> Result<(), crate::CniError> {
    crate::agent::read_request(json)
}
