//! Prints the definitions of Calico's kinds for a group, one document after the other: `crds projectcalico.org/v3`.

use std::process::ExitCode;

use ocicat_datastore::{ApiGroup, crds};

fn main() -> ExitCode {
    let argument = std::env::args()
        .nth(1)
        .unwrap_or_else(|| ApiGroup::v3().to_string());
    let Some(group) = ApiGroup::new(&argument) else {
        eprintln!("{argument:?} is no group and version");
        return ExitCode::from(2);
    };
    for definition in crds::definitions(&group) {
        println!("---\n{}", crds::yaml(&definition).trim_end());
    }
    ExitCode::SUCCESS
}
