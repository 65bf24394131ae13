//! The allocator over a store in memory.

mod assign;
mod crash;
mod hosts;
mod world;
