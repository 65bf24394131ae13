//! A cluster in network namespaces, on one machine, without root
