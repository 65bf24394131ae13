//! Checks of what goes wrong: bad namespaces, many at once, a plugin that is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::Command;

use super::bench::{Bench, Fault, Namespace, Outcome, ensure, host_links};

/// How many containers are attached at once.
const MANY: usize = 16;

/// How many moments of an ADD the program is killed at.
const KILLS: u32 = 16;

/// Attaches and detaches once, so that what a plugin keeps, such as a bridge, is there.
fn settled(bench: &Bench) -> Outcome<BTreeSet<String>> {
    let netns = Namespace::new()?;
    bench.add("settle", &netns)?;
    bench.del("settle", Some(&netns))?;
    host_links()
}

/// ADD into a namespace that is not there fails and leaves nothing.
pub(super) fn missing_namespace(bench: &Bench) -> Outcome {
    let before = settled(bench)?;
    let call = bench
        .call(Command::Add, "a", None)
        .variable("CNI_NETNS", "/run/netns/ocicat-none");
    bench.fails(&call, "a namespace that is not there")?;
    let after = host_links()?;
    ensure(after == before, || {
        format!("a failed ADD leaves links: {before:?}, {after:?}")
    })
}

/// The host's own namespace is no container's.
pub(super) fn host_namespace(bench: &Bench) -> Outcome {
    let before = settled(bench)?;
    let call = bench
        .call(Command::Add, "a", None)
        .variable("CNI_NETNS", "/proc/self/ns/net");
    let outcome = bench.run(&call)?;
    let after = host_links()?;
    if outcome.is_ok() {
        return Err(Fault::Broken(
            "ADD attached the host's own namespace".to_owned(),
        ));
    }
    ensure(after == before, || {
        format!("a refused ADD leaves links: {before:?}, {after:?}")
    })
}

/// A link of that name in the container, which somebody else has made, is left alone.
pub(super) fn interface_taken(bench: &Bench) -> Outcome {
    let before = settled(bench)?;
    let netns = Namespace::new()?;
    netns.ip(&[
        "link", "add", "eth0", "type", "veth", "peer", "name", "taken",
    ])?;
    bench.fails(
        &bench.call(Command::Add, "a", Some(&netns)),
        "a link of that name in the container",
    )?;
    ensure(netns.has("taken")?, || {
        "a failed ADD has removed another's link".to_owned()
    })?;
    let after = host_links()?;
    ensure(after == before, || {
        format!("a failed ADD leaves links: {before:?}, {after:?}")
    })
}

/// Runs a job for each index in a thread of its own.
fn at_once<T: Send>(count: usize, job: impl Fn(usize) -> Outcome<T> + Sync) -> Outcome<Vec<T>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|i| {
                scope.spawn({
                    let job = &job;
                    move || job(i)
                })
            })
            .collect();
        let panicked = |_| Err(Fault::Broken("a thread panicked".to_owned()));
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    })
}

/// Many ADDs at once all succeed with addresses of their own, and so do the DELs.
pub(super) fn many_at_once(bench: &Bench) -> Outcome {
    let before = settled(bench)?;
    let spaces = (0..MANY)
        .map(|_| Namespace::new())
        .collect::<Outcome<Vec<_>>>()?;
    let space = |i: usize| {
        spaces
            .get(i)
            .ok_or_else(|| Fault::Broken("no such namespace".to_owned()))
    };
    let results = at_once(MANY, |i| bench.add(&format!("c{i}"), space(i)?))?;
    let addresses = results
        .iter()
        .flat_map(|result| &result.ips)
        .map(|ip| ip.address.ip());
    let addresses: Vec<_> = addresses.collect();
    let distinct: BTreeSet<_> = addresses.iter().collect();
    ensure(distinct.len() == addresses.len(), || {
        format!("addresses given twice: {addresses:?}")
    })?;
    at_once(MANY, |i| bench.del(&format!("c{i}"), Some(space(i)?)))?;
    let after = host_links()?;
    ensure(after == before, || {
        format!("DELs at once leave links: {before:?}, {after:?}")
    })
}

/// Two DELs of one attachment at once are both successes.
pub(super) fn two_deletes_at_once(bench: &Bench) -> Outcome {
    for round in 0..8 {
        let netns = Namespace::new()?;
        let container = format!("c{round}");
        bench.add(&container, &netns)?;
        at_once(2, |_| bench.del(&container, Some(&netns)))?;
    }
    Ok(())
}

/// Killed at any moment of ADD: DEL cleans up, and the next ADD succeeds.
///
/// The program goes with all that it has started, as when a service manager ends a runtime and its control group: a child that
/// lived on could finish its step after DEL, which no plugin can prevent and no runtime waits for.
pub(super) fn killed(bench: &Bench) -> Outcome {
    let before = settled(bench)?;
    let start = Instant::now();
    let netns = Namespace::new()?;
    bench.add("time", &netns)?;
    let whole = start.elapsed();
    bench.del("time", Some(&netns))?;
    for moment in 0..KILLS {
        let netns = Namespace::new()?;
        let container = format!("k{moment}");
        let running = bench.start_group(&bench.call(Command::Add, &container, Some(&netns)))?;
        // The moment is what is tested; nothing waits for it.
        std::thread::sleep(whole * moment / KILLS + Duration::from_micros(100));
        running.kill()?;
        bench.del(&container, Some(&netns))?;
        ensure(!netns.has("eth0")?, || {
            format!("killed at {moment}/{KILLS} of ADD: DEL leaves eth0")
        })?;
        bench.add(&container, &netns)?;
        bench.del(&container, Some(&netns))?;
    }
    let after = host_links()?;
    ensure(after == before, || {
        format!("killed ADDs leave links: {before:?}, {after:?}")
    })
}
