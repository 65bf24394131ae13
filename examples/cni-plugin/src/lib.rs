//! The thin CNI plugin
