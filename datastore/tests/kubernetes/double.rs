//! What the kit does not ask.
