//! `cargo xtask bench bgp`: ocicat-bgpd beside the other BGP speakers of this machine, in one run.
//!
//! Every UPDATE is checked: exactly the prefixes that were announced, with exactly the attributes that RFC 4271 and
//! RFC 4456 ask for. A run with a fault counts for nothing and is said. Figures are medians; what counts is the ratio
//! to the others in the same run.

mod cost;
mod field;
mod load;
mod peer;
mod scenario;
mod speakers;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use scenario::{Limit, Scenario, median};
use speakers::Speaker;

use crate::stage;
use crate::workspace::cargo;

const USAGE: &str =
    "usage: cargo xtask bench bgp [--runs 5] [--idle 30] [--scenario a,b,c,die,one,up,burst,idle]
    [--speaker ocicat,bird,frr,gobgp,rustybgp] [--rustybgp PATH] [--ocicat PATH]
--idle is in seconds; --ocicat takes a program as it is instead of building one";

struct Options {
    runs: usize,
    idle: Duration,
    scenarios: Vec<Scenario>,
    speakers: Vec<Speaker>,
}

/// Runs what `arguments` ask for.
pub(super) fn run(arguments: &[&str]) -> Result<(), String> {
    let options = options(arguments)?;
    let mut over = Vec::new();
    for &scenario in &options.scenarios {
        over.extend(compare(scenario, &options)?);
    }
    if over.is_empty() {
        println!("\nocicat is within every limit that could be compared");
    } else {
        println!("\nover its limit: {}", over.join("; "));
    }
    Ok(())
}

/// The value behind an option.
fn value<'a>(arguments: &[&'a str], name: &str) -> Result<Option<&'a str>, String> {
    let Some(at) = arguments.iter().position(|argument| *argument == name) else {
        return Ok(None);
    };
    let value = arguments.get(at + 1).copied();
    value.map(Some).ok_or_else(|| USAGE.to_owned())
}

fn options(arguments: &[&str]) -> Result<Options, String> {
    let names = [
        "--runs",
        "--idle",
        "--scenario",
        "--speaker",
        "--rustybgp",
        "--ocicat",
    ];
    if arguments
        .iter()
        .step_by(2)
        .any(|name| !names.contains(name))
    {
        return Err(USAGE.to_owned());
    }
    let number = |name: &str, default: u64| match value(arguments, name)? {
        Some(text) => text
            .parse()
            .map_err(|_| format!("{name} {text}: not a number")),
        None => Ok(default),
    };
    let chosen: Option<Vec<&str>> =
        value(arguments, "--scenario")?.map(|text| text.split(',').collect());
    let wanted = |scenario: &Scenario| {
        let chosen = chosen.as_ref();
        chosen.is_none_or(|chosen| chosen.contains(&scenario.name()))
    };
    let scenarios: Vec<_> = Scenario::ALL.into_iter().filter(wanted).collect();
    if chosen.is_some_and(|chosen| chosen.len() != scenarios.len()) {
        return Err(USAGE.to_owned());
    }
    Ok(Options {
        runs: number("--runs", 5)? as usize,
        idle: Duration::from_secs(number("--idle", 30)?),
        scenarios,
        speakers: speakers(arguments)?,
    })
}

fn speakers(arguments: &[&str]) -> Result<Vec<Speaker>, String> {
    let ocicat = match value(arguments, "--ocicat")? {
        Some(path) => PathBuf::from(path),
        None => build()?,
    };
    let mut speakers = vec![Speaker::Ocicat(ocicat)];
    for speaker in Speaker::packaged() {
        if speaker.is_installed() {
            speakers.push(speaker);
        } else {
            println!("{} is not installed", speaker.name());
        }
    }
    let rustybgp = value(arguments, "--rustybgp")?;
    speakers.extend(rustybgp.map(|path| Speaker::Rustybgp(path.into())));
    if let Some(chosen) = value(arguments, "--speaker")? {
        let chosen: Vec<&str> = chosen.split(',').collect();
        speakers.retain(|speaker| chosen.contains(&speaker.name()));
    }
    Ok(speakers)
}

/// Builds ocicat-bgpd as it is released.
fn build() -> Result<PathBuf, String> {
    let root = crate::workspace::root();
    let mut command = cargo();
    command
        .args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "-p",
            "ocicat-bgpd",
        ])
        .current_dir(root.join("examples"));
    stage::run(&mut command)?;
    Ok(crate::workspace::target().join("release/ocicat-bgpd"))
}

/// Runs one scenario with every speaker in turn, as often as asked, and prints the medians.
fn compare(scenario: Scenario, options: &Options) -> Result<Vec<String>, String> {
    let measures = scenario.measures();
    let mut samples = vec![vec![Vec::new(); measures.len()]; options.speakers.len()];
    let runs = if scenario == Scenario::Idle {
        1
    } else {
        options.runs
    };
    for _ in 0..runs {
        for (speaker, samples) in options.speakers.iter().zip(&mut samples) {
            match scenario::run(scenario, speaker, options.idle) {
                Ok(measured) => {
                    for (sample, value) in samples.iter_mut().zip(measured) {
                        sample.push(value);
                    }
                }
                Err(why) => println!("{}, {}: {why}", scenario.name(), speaker.name()),
            }
        }
    }
    let medians: Vec<Vec<f64>> = samples
        .into_iter()
        .map(|samples| samples.into_iter().map(median).collect())
        .collect();
    println!("\n{}, median of {runs}", scenario.name());
    print!("{:28}", "");
    for speaker in &options.speakers {
        print!("{:>12}", speaker.name());
    }
    println!("   ocicat must be");
    let mut over = Vec::new();
    for (row, (name, unit, limit)) in measures.iter().enumerate() {
        print!("{:28}", format!("{name} ({unit})"));
        for median in &medians {
            print!("{:>12.3}", median[row]);
        }
        let (text, good) = judge(*limit, row, &options.speakers, &medians);
        println!("   {text}");
        if good == Some(false) {
            over.push(format!("{} {name}: {text}", scenario.name()));
        }
    }
    Ok(over)
}

/// What the limit says of one row, and whether it is kept.
fn judge(
    limit: Limit,
    row: usize,
    speakers: &[Speaker],
    medians: &[Vec<f64>],
) -> (String, Option<bool>) {
    let of = |name: &str, row: usize| {
        let at = speakers.iter().position(|speaker| speaker.name() == name)?;
        Some(medians[at][row]).filter(|value| value.is_finite())
    };
    let Some(ours) = of("ocicat", row) else {
        return ("no figure".to_owned(), None);
    };
    let ratio = |other: Option<f64>, most: f64, whom: &str| match other {
        Some(other) => {
            let ratio = ours / other;
            let text = format!("{ratio:.2} x {whom}, at most {most}");
            (text, Some(ratio <= most))
        }
        None => (format!("at most {most} x {whom}"), None),
    };
    match limit {
        Limit::Bird(most) => ratio(of("bird", row), most, "bird"),
        Limit::BirdAbove(most, above) => ratio(of("bird", row - above), most, "bird's announce"),
        Limit::BirdOrFrr(bird, frr) => {
            let (first, second) = (
                ratio(of("bird", row), bird, "bird"),
                ratio(of("frr", row), frr, "frr"),
            );
            let good = match (first.1, second.1) {
                (None, other) | (other, None) => other,
                (Some(first), Some(second)) => Some(first || second),
            };
            (format!("{}, or {}", first.0, second.0), good)
        }
        Limit::Best(most) => {
            let others = speakers.iter().filter(|speaker| speaker.name() != "ocicat");
            let best = others
                .filter_map(|speaker| of(speaker.name(), row))
                .min_by(f64::total_cmp);
            ratio(best, most, "the best")
        }
        Limit::Amount(most) => (format!("at most {most}"), Some(ours <= most)),
    }
}
