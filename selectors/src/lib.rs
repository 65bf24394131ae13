#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod error;
mod expr;
mod index;
pub mod kubernetes;
mod labels;
mod name;
mod parser;
mod restrictions;
mod selector;
#[cfg(feature = "uid")]
mod uid;

pub use error::{Fault, ParseError};
pub use expr::{Expr, Test};
pub use index::{Counters, LabelIndex, MatchChange};
pub use labels::{LabelFn, Labels};
pub use name::{Label, LabelError, MAX_LABEL, Value, ValueError};
pub use parser::{MAX_DEPTH, MAX_LENGTH};
pub use restrictions::{Restriction, Restrictions};
pub use selector::Selector;
