//! Fakes and kits for tests of plugins, agents and runtimes.

mod agent;

pub use agent::{FakeAgent, Gate};
