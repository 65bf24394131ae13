// features: "attach"
//! A program that uses ocicat-dataplane as a stranger would.

use ocicat_dataplane::hop::{Encapsulation, Toward, When, toward};
use ocicat_dataplane::linux;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Encapsulation { vxlan: When::CrossSubnet, ..Encapsulation::default() };
    assert_eq!(toward(pool, &["10.0.0.1/24".parse()?], "10.0.1.1".parse()?), Toward::Vxlan);
    for interface in linux::interfaces()? {
        println!("{} {:?}", interface.name, interface.addresses);
    }
    Ok(())
}
