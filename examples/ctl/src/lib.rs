//! The command line: what calicoctl is to Calico
