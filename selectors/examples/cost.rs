//! What parsing a selector, matching it against labels and keeping an index cost: the median of several runs, in
//! nanoseconds.
//!
//! `cargo run --release -p ocicat-selectors --example cost`

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use ocicat_selectors::{LabelIndex, Selector};

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
    for size in [100, 1_000, 10_000] {
        index(size)?;
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

/// As many items as selectors, each selector on one value of one label; an item's label changes to and fro.
fn index(size: usize) -> Result<(), Box<dyn Error>> {
    let labels = |value: usize| BTreeMap::from([("app".to_owned(), format!("a{value}"))]);
    let mut index: LabelIndex<usize, usize> = LabelIndex::new();
    let start = Instant::now();
    for number in 0..size {
        index.set_item(number, labels(number), Vec::new());
        index.set_query(number, format!("app == 'a{number}'").parse()?);
    }
    while index.poll_change().is_some() {}
    let built = start.elapsed();
    let mut turn = 0;
    let flip = median(|| {
        turn += 1;
        index.set_item(7, labels(7 + turn % 2), Vec::new());
        let mut changes = 0;
        while index.poll_change().is_some() {
            changes += 1;
        }
        changes == 2
    });
    println!(
        "index of {size} items and {size} selectors: built in {built:.1?}, a label changes in {flip:.0} ns"
    );
    Ok(())
}
