//! Checks of attaching, comparing, detaching and collecting.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{AddResult, Command, Version};

use super::bench::{Bench, Namespace, Outcome, ensure, host_links};

/// What ADD answers is true in the kernel, and DEL removes all of it. Plugins may keep a bridge.
pub(super) fn add(bench: &Bench) -> Outcome {
    let first = Namespace::new()?;
    bench.add("first", &first)?;
    bench.del("first", Some(&first))?;
    let before = host_links()?;
    let netns = Namespace::new()?;
    bench.add("a", &netns)?;
    let during = host_links()?;
    bench.del("a", Some(&netns))?;
    ensure(!netns.has("eth0")?, || {
        "DEL leaves eth0 in the container".to_owned()
    })?;
    let after = host_links()?;
    ensure(after == before, || {
        format!(
            "DEL leaves links on the host: {before:?} before, {during:?} during, {after:?} after"
        )
    })
}

/// Every version that the plugin names gets its own form.
pub(super) fn every_version(bench: &Bench) -> Outcome {
    for version in bench.versions() {
        let netns = Namespace::new()?;
        let call = bench
            .call(Command::Add, "a", Some(&netns))
            .key("cniVersion", version.as_str());
        let answer = bench.succeeds(&call)?;
        let first = &answer["ips"][0];
        let has_family = first.get("version").is_some();
        let wants_family = *version < Version::V1_0_0;
        ensure(has_family == wants_family, || {
            format!(
                "the addresses of a {version} result must{} have a version: {answer}",
                if wants_family { "" } else { " not" }
            )
        })?;
        if *version < Version::V1_1_0 {
            let newer = answer["interfaces"].as_array().into_iter().flatten();
            let newer = newer
                .filter(|interface| interface.get("mtu").is_some())
                .count();
            ensure(newer == 0, || {
                format!("a {version} result has an mtu: {answer}")
            })?;
        }
        let del = bench
            .call(Command::Del, "a", Some(&netns))
            .key("cniVersion", version.as_str());
        bench.succeeds(&del)?;
    }
    Ok(())
}

/// Keys that the plugin does not know are others', and so are arguments under `IgnoreUnknown`.
pub(super) fn unknown_keys(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    let call = bench
        .call(Command::Add, "a", Some(&netns))
        .variable("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop;OTHER=x")
        .key("example.org/unknown", json!({"x": [1]}))
        .key("capabilities", json!({"portMappings": true, "unknown": true}))
        .key("runtimeConfig", json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}], "unknown": {"x": 1}}))
        .key("args", json!({"cni": {"labels": [{"key": "app", "value": "web"}]}}));
    bench.add_as(call, &netns)?;
    bench.del("a", Some(&netns))
}

/// A second ADD is an error or the same answer; the first attachment stays as it is.
pub(super) fn add_twice(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    let first = bench.add("a", &netns)?;
    let links = netns.links()?;
    let again = bench.run(&bench.call(Command::Add, "a", Some(&netns)))?;
    if let Ok(answer) = again {
        let ips = first.to_value(bench.newest())["ips"].clone();
        ensure(answer["ips"] == ips, || {
            format!(
                "a second ADD has other addresses: {} after {ips}",
                answer["ips"]
            )
        })?;
    }
    let names = |links: &[serde_json::Value]| -> Vec<_> {
        links
            .iter()
            .map(|link| {
                (
                    link["ifname"].clone(),
                    link["addr_info"][0]["local"].clone(),
                )
            })
            .collect()
    };
    let now = netns.links()?;
    ensure(names(&links) == names(&now), || {
        "a second ADD has damaged the first attachment".to_owned()
    })?;
    bench.del("a", Some(&netns))?;
    ensure(!netns.has("eth0")?, || {
        "DEL after two ADDs leaves eth0".to_owned()
    })
}

/// Two interfaces of one container are two attachments: removing one leaves the other, with its address.
pub(super) fn two_interfaces(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    let first = bench.add("a", &netns)?;
    let second = bench
        .call(Command::Add, "a", Some(&netns))
        .interface("net1");
    bench.add_as(second, &netns)?;
    bench.succeeds(
        &bench
            .call(Command::Del, "a", Some(&netns))
            .interface("net1"),
    )?;
    ensure(!netns.has("net1")?, || "DEL of net1 leaves it".to_owned())?;
    ensure(netns.has("eth0")?, || {
        "DEL of net1 has removed eth0".to_owned()
    })?;
    if bench.newest().has_check() {
        bench.succeeds(&bench.check_call("a", &netns, &first))?;
    }
    let addresses =
        |result: &AddResult| -> Vec<_> { result.ips.iter().map(|ip| ip.address.ip()).collect() };
    let held = addresses(&first);
    for container in ["b", "c", "d"] {
        let other = Namespace::new()?;
        let given = addresses(&bench.add(container, &other)?);
        ensure(!given.iter().any(|address| held.contains(address)), || {
            format!("after DEL of net1, eth0's address is given to another: {given:?}")
        })?;
    }
    for container in ["a", "b", "c", "d"] {
        bench.del(container, None)?;
    }
    Ok(())
}

/// CHECK succeeds after ADD, and fails when the address or the link is gone.
pub(super) fn check(bench: &Bench) -> Outcome {
    bench.needs(Version::has_check, "CHECK")?;
    let netns = Namespace::new()?;
    let result = bench.add("a", &netns)?;
    let call = bench.check_call("a", &netns, &result);
    bench.succeeds(&call)?;
    netns.ip(&["address", "flush", "dev", "eth0"])?;
    bench.fails(&call, "the address gone")?;
    netns.ip(&["link", "del", "eth0"])?;
    bench.fails(&call, "the link gone")?;
    bench.del("a", Some(&netns))?;
    bench.fails(&call, "the attachment gone").map(drop)
}

/// DEL again and again, and without the namespace's path, is a success.
pub(super) fn delete_again(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    bench.add("a", &netns)?;
    for _ in 0..3 {
        bench.del("a", Some(&netns))?;
    }
    bench.del("a", None)?;
    let again = bench.add("a", &netns)?;
    ensure(!again.ips.is_empty(), || {
        "ADD after DEL has no address".to_owned()
    })?;
    bench.del("a", Some(&netns))
}

/// The namespace is gone before DEL, as after a reboot: success, and the address can be used again.
pub(super) fn namespace_gone(bench: &Bench) -> Outcome {
    let first = Namespace::new()?;
    bench.add("first", &first)?;
    bench.del("first", Some(&first))?;
    let before = host_links()?;
    let netns = Namespace::new()?;
    let (mut process, path) = netns.process()?;
    let with_path = |command| bench.call(command, "a", None).variable("CNI_NETNS", &path);
    bench.add_as(with_path(Command::Add), &netns)?;
    let _ = process.kill();
    let _ = process.wait();
    drop(netns);
    let call = with_path(Command::Del);
    bench.succeeds(&call)?;
    bench.del("a", None)?;
    // The kernel takes a namespace's links down after its last user has gone, in its own time.
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let after = host_links()?;
        if after.is_subset(&before) {
            return Ok(());
        }
        ensure(Instant::now() < patience, || {
            format!("links are left on the host: {before:?}, {after:?}")
        })?;
    }
}

/// DEL of an earlier container of the same pod leaves the newer one's attachment alone.
pub(super) fn older_container(bench: &Bench) -> Outcome {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web";
    let (old, new) = (Namespace::new()?, Namespace::new()?);
    let add = |container, netns| {
        bench
            .call(Command::Add, container, Some(netns))
            .variable("CNI_ARGS", args)
    };
    bench.add_as(add("old", &old), &old)?;
    bench.add_as(add("new", &new), &new)?;
    let del = |container, netns| {
        bench
            .call(Command::Del, container, Some(netns))
            .variable("CNI_ARGS", args)
    };
    bench.succeeds(&del("old", &old))?;
    ensure(new.has("eth0")?, || {
        "DEL of the old container has removed the new one's link".to_owned()
    })?;
    bench.succeeds(&del("new", &new))?;
    ensure(!new.has("eth0")?, || {
        "DEL of the new container leaves its link".to_owned()
    })
}

/// GC removes what is not in the list, and nothing that is.
pub(super) fn gc(bench: &Bench) -> Outcome {
    bench.needs(Version::has_gc, "GC")?;
    let (keep, lose) = (Namespace::new()?, Namespace::new()?);
    let before = host_links()?;
    let kept = bench.add("keep", &keep)?;
    let during = host_links()?;
    bench.add("lose", &lose)?;
    bench.succeeds(&bench.gc_call(&["keep"])?)?;
    bench.succeeds(&bench.check_call("keep", &keep, &kept))?;
    let after = host_links()?;
    ensure(after == during, || {
        format!("GC leaves links of what is not in use: {during:?}, {after:?}")
    })?;
    bench.succeeds(&bench.gc_call(&["keep"])?)?;
    bench.del("keep", Some(&keep))?;
    bench.del("lose", Some(&lose))?;
    bench.succeeds(&bench.gc_call(&[])?)?;
    ensure(
        host_links()?.len() <= during.len().max(before.len()),
        || "links are left after GC".to_owned(),
    )
}

/// GC of one network leaves another network's attachments alone.
pub(super) fn gc_of_another_network(bench: &Bench) -> Outcome {
    bench.needs(Version::has_gc, "GC")?;
    let netns = Namespace::new()?;
    let result = bench.add("a", &netns)?;
    bench.succeeds(&bench.gc_call(&[])?.key("name", "other"))?;
    bench.succeeds(&bench.check_call("a", &netns, &result))?;
    bench.del("a", Some(&netns))
}
