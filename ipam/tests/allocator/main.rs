//! The allocator over a store in memory.

mod assign;
mod hosts;
mod world;
