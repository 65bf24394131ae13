//! An IPAM strategy of your own, and its unit tests
