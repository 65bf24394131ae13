// features: "memory"
//! A program that uses ocicat-datastore as a stranger would.

use ocicat_datastore::model::{IpPool, IpPoolSpec};
use ocicat_datastore::{Metadata, Object};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = IpPool {
        metadata: Metadata { name: "default".to_owned(), ..Metadata::default() },
        spec: IpPoolSpec { cidr: "10.0.0.0/16".to_owned(), ..IpPoolSpec::default() },
        ..IpPool::default()
    };
    println!("{}", Object::encode(&pool)?.value);
    let _backend = ocicat_datastore::open("memory:")?;
    Ok(())
}
