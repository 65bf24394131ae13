//! Against BIRD, FRR, GoBGP and ExaBGP over real sockets, in network namespaces. Needs root and the packages bird2, frr,
//! gobgpd and exabgp.

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod lab;
mod options;
mod ours;
mod paths;
mod reflection;
