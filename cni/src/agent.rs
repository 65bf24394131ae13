//! The protocol between a thin plugin and a node agent.
