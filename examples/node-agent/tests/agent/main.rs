//! The whole agent, in network namespaces of its own, as its neighbours see it. Needs root, or `unshare -Urnm`.

mod bench;
mod health;
mod lists;
mod uninstall;
