//! Fakes and kits for tests of plugins, agents and runtimes.

mod agent;
mod served;

pub use agent::{FakeAgent, Gate};
pub use served::ServedAgent;
