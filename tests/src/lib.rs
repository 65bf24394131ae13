//! Tests that need several crates, or other people's programs. See the files beside this one.
