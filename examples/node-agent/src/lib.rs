//! The reference node agent
