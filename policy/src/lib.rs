#![doc = include_str!("../README.md")]

mod compile;
mod graph;
pub mod kubernetes;
mod labels;
mod nets;
mod problem;
mod update;

pub use graph::{Flushed, Graph};
pub use problem::{Effect, Problem, Reason};
pub use update::Update;
