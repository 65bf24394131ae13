// features: 
//! A program that uses ocicat-cni as a stranger would.

use ocicat_cni::{AddResult, NetworkConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = NetworkConfig::parse(br#"{"cniVersion":"1.0.0","name":"mine","type":"mine"}"#)
        .map_err(|error| error.msg)?;
    println!("{}", AddResult::new().to_value(config.version));
    Ok(())
}
