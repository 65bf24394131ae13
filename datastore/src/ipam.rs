//! Address management over any store.
