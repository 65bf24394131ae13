//! What parsing a selector and matching it against labels costs: the median of several runs, in nanoseconds.
//!
//! `cargo run --release -p ocicat-selectors --example cost`

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use ocicat_selectors::Selector;

const RUNS: usize = 21;
const TIMES: u32 = 10_000;

const SELECTORS: [&str; 4] = [
    "all()",
    "app == 'web'",
    "app == 'web' && has(tier) && env in {'prod', 'stage'}",
    "(app == 'db' || app starts with 'we') && !(env not in {'prod', 'stage'} || role contains 'x')",
];

fn main() -> Result<(), Box<dyn Error>> {
    let labels: BTreeMap<String, String> = [
        ("app", "web"),
        ("env", "prod"),
        ("projectcalico.org/namespace", "shop"),
        ("role", "front"),
        ("tier", "1"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    println!("{:>8} {:>8}", "parse ns", "match ns");
    for text in SELECTORS {
        let selector: Selector = text.parse()?;
        let parse = median(|| black_box(text).parse::<Selector>().is_ok());
        let matches = median(|| black_box(&selector).matches(black_box(&labels)));
        println!("{parse:>8.0} {matches:>8.1}  {text}");
    }
    Ok(())
}

fn median(mut work: impl FnMut() -> bool) -> f64 {
    let mut times = [0.0; RUNS];
    for time in &mut times {
        let start = Instant::now();
        for _ in 0..TIMES {
            black_box(work());
        }
        *time = start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES);
    }
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
