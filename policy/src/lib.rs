#![doc = include_str!("../README.md")]

mod compile;
mod graph;
pub mod kubernetes;
mod labels;
mod model;
mod nets;
mod problem;
mod reach;
mod update;

pub use graph::{Counters, Flushed, Graph};
pub use model::{Decision, Flow, Model, Skipped, Trace, Verdict};
pub use problem::{Effect, Problem, Reason};
pub use reach::{Change, Diff, Matrix, Party, Reachable, diff, reach};
pub use update::Update;
