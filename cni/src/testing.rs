//! Fakes and kits for tests of plugins, agents and runtimes.

mod agent;
pub mod plugin_kit;
mod served;

pub use agent::{FakeAgent, Gate};
pub use served::ServedAgent;
