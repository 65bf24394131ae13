//! The allocator over a store in memory.

mod assign;
mod check;
mod collect;
mod crash;
mod figures;
mod hosts;
mod sticky;
mod uphold;
mod world;
