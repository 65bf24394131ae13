//! Fakes and kits.
