// features: 
//! A program that uses ocicat-ipam as a stranger would.

use ocicat_ipam::{AssignRequest, Ipam, MemoryStore, Owner};

fn main() {
    let request = AssignRequest::new(Owner::host("node1"), "net.container").v4(1);
    let ipam = Ipam::new(std::sync::Arc::new(MemoryStore::default()), Box::new(ocicat_ipam::BlockAffine));
    println!("{ipam:?} {request:?}");
}
