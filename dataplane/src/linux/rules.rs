//! Rules that choose routing tables.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;

use super::view::View;
use crate::netlink::{Batch, Socket, rule};
use crate::report::{Fault, Object, Report};
use crate::state::{IpVersion, RoutingRule};
use crate::{KernelError, Refusal, State};

/// Reads all rules that a [`RoutingRule`] can express, with their protocol numbers.
pub(super) fn read(socket: &mut Socket) -> Result<Vec<(RoutingRule, u8)>, KernelError> {
    let mut all = Vec::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let found = socket.dump(&rule::list(version), |found: &mut Vec<_>, object| {
            if let RouteNetlinkMessage::NewRule(message) = object {
                found.extend(rule::parse(&message));
            }
        });
        match found {
            Ok(found) => all.extend(found),
            // A kernel without IPv6, or without rules.
            Err(error) if error.refusal == Refusal::Unsupported => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Makes what is missing.
pub(super) fn add(
    socket: &mut Socket,
    view: &mut View,
    desired: &State,
    protocol: u8,
    report: &mut Report,
) -> Result<(), KernelError> {
    let mut batch = Batch::new();
    for wanted in desired
        .rules
        .iter()
        .filter(|rule| !view.rules.contains(*rule))
    {
        let message = rule::new(wanted, protocol);
        batch.push(wanted, message, NLM_F_CREATE | NLM_F_EXCL);
    }
    if batch.len() == 0 {
        return Ok(());
    }
    let all = batch.len();
    let refused = socket.run(&mut batch)?;
    report.changed += all - refused.len();
    view.rules.extend(desired.rules.iter().cloned());
    // The kernel knows a rule by what it says, not by whose it is.
    let there = if refused.iter().any(|(_, e)| e.refusal == Refusal::Exists) {
        read(socket)?
    } else {
        Vec::new()
    };
    for (wanted, error) in refused {
        let owner = there.iter().find(|(rule, _)| rule == wanted);
        let fault = match owner {
            Some((_, owner)) if *owner == protocol => continue,
            Some((_, owner)) => Fault::Taken { protocol: *owner },
            None => error.into(),
        };
        view.rules.remove(wanted);
        report.fail(Object::Rule(wanted.clone()), fault);
    }
    Ok(())
}

/// Removes what is ours and not wanted.
pub(super) fn remove(
    socket: &mut Socket,
    view: &mut View,
    desired: &State,
    protocol: u8,
    report: &mut Report,
) -> Result<(), KernelError> {
    let gone: Vec<_> = view.rules.difference(&desired.rules).cloned().collect();
    let mut batch = Batch::new();
    for rule in gone {
        batch.push(rule.clone(), rule::delete(&rule, protocol), 0);
    }
    let all = batch.len();
    let refused = socket.run(&mut batch)?;
    report.changed += all - refused.len();
    view.rules.retain(|rule| desired.rules.contains(rule));
    for (rule, error) in refused {
        if error.refusal != Refusal::Missing {
            view.rules.insert(rule.clone());
            report.fail(Object::Rule(rule), error.into());
        }
    }
    Ok(())
}
