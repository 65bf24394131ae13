//! Tests a plugin's program and prints a line for each rule. Needs root and `ip`.
//!
//! `cargo run --example kit --features testing -- /usr/lib/cni/ptp '{"ipam": {...}}' [--except CHECK=WHY]...`

use std::process::ExitCode;

use ocicat_cni::testing::plugin_kit::Kit;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(program), Some(config)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: kit PROGRAM CONFIGURATION [--except CHECK=WHY]...");
        return ExitCode::from(2);
    };
    let Ok(config) = serde_json::from_str(&config) else {
        eprintln!("the configuration is not JSON");
        return ExitCode::from(2);
    };
    let mut kit = Kit::new(program, config);
    while let (Some(_), Some(exception)) = (arguments.next(), arguments.next()) {
        let (check, why) = exception
            .split_once('=')
            .unwrap_or((&exception, "excepted"));
        kit = kit.except(check, why);
    }
    let report = kit.run();
    print!("{report}");
    if report.failures().next().is_some() {
        ExitCode::from(4)
    } else {
        ExitCode::SUCCESS
    }
}
