//! Address ranges: reading them, and saying the same with fewer.

use std::net::IpAddr;

use ocicat_dataplane::Prefix;

/// A range or a single address, as Calico writes nets; host bits are cleared.
pub(crate) fn parse(text: &str) -> Option<Prefix> {
    let text = text.trim();
    match text.split_once('/') {
        Some((address, length)) => {
            Prefix::containing(address.parse().ok()?, length.parse().ok()?).ok()
        }
        None => text.parse::<IpAddr>().ok().map(Prefix::host),
    }
}

/// The same addresses in the fewest ranges, in order: covered ranges go, halves are put together.
pub(crate) fn minimised(mut nets: Vec<Prefix>) -> Vec<Prefix> {
    // In this order a range comes right before all that it covers.
    nets.sort_unstable();
    let mut out: Vec<Prefix> = Vec::with_capacity(nets.len());
    for net in nets {
        if out.last().is_some_and(|last| last.covers(&net)) {
            continue;
        }
        out.push(net);
        while let [.., left, right] = out.as_slice() {
            let Some(parent) = parent_of_halves(left, right) else {
                break;
            };
            out.truncate(out.len() - 2);
            out.push(parent);
        }
    }
    out
}

fn parent_of_halves(left: &Prefix, right: &Prefix) -> Option<Prefix> {
    let length = left.length().checked_sub(1)?;
    if right.length() != left.length() || left == right {
        return None;
    }
    let parent = Prefix::containing(left.address(), length).ok()?;
    parent.covers(right).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_ranges_for_the_same_addresses() {
        for (nets, expected) in [
            ("", ""),
            ("10.0.0.0/24 10.0.0.7/32", "10.0.0.0/24"),
            ("10.0.1.0/24 10.0.0.0/24", "10.0.0.0/23"),
            ("10.0.1.0/24 10.0.2.0/24", "10.0.1.0/24 10.0.2.0/24"),
            ("0.0.0.0/1 128.0.0.0/2 192.0.0.0/2", "0.0.0.0/0"),
            ("::/1 8000::/1 10.0.0.0/32", "10.0.0.0/32 ::/0"),
            (
                "10.0.0.1 10.0.0.1/32 10.0.0.3/31",
                "10.0.0.1/32 10.0.0.2/31",
            ),
        ] {
            let parsed = nets.split_whitespace().map(|n| parse(n).unwrap()).collect();
            let out: Vec<_> = minimised(parsed).iter().map(ToString::to_string).collect();
            assert_eq!(out.join(" "), expected, "{nets}");
        }
    }

    #[test]
    fn what_is_no_range() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "a/8",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
