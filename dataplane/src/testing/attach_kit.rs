//! What every [`Attach`] must do, as a check that runs on any of them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Violation, expect};
use crate::state::LinkName;
use crate::{Attach, AttachError, Attachment, Detachment, names};

/// Runs every check: `attach` is the kernel, `container` makes a new network namespace.
///
/// # Errors
/// The first promise that is not kept.
pub fn check(
    attach: &dyn Attach,
    mut container: impl FnMut() -> Arc<OwnedFd>,
) -> Result<(), Violation> {
    let (old, new) = (container(), container());
    let first = attachment(old, "old");
    let case = "what was attached checks as it was asked for";
    let made = done(case, attach.attach(&first))?;
    expect(case, made.mtu == first.mtu, || {
        format!("an MTU of {}", made.mtu)
    })?;
    expect(case, made.host_mac == names::HOST_MAC, || {
        format!("{}", made.host_mac)
    })?;
    clean(case, attach, &first)?;

    let case = "attaching again changes nothing";
    let again = done(case, attach.attach(&first))?;
    expect(case, again == made, || {
        format!("{again:?} instead of {made:?}")
    })?;

    let case = "a new container of the same name replaces the old one's link";
    let second = attachment(new, "new");
    done(case, attach.attach(&second))?;
    clean(case, attach, &second)?;

    let case = "the old container's removal leaves the new one's link";
    let removed = done(case, attach.detach(&detachment(&first)))?;
    expect(case, !removed, || {
        "it says that it removed something".into()
    })?;
    clean(case, attach, &second)?;

    let case = "detaching removes, and again removes nothing";
    let removed = done(case, attach.detach(&detachment(&second)))?;
    expect(case, removed, || "it says that it removed nothing".into())?;
    let removed = done(case, attach.detach(&detachment(&second)))?;
    expect(case, !removed, || {
        "it says that it removed something".into()
    })?;
    let differences = done(case, attach.check(&second))?;
    expect(case, !differences.is_empty(), || {
        "the check finds everything in place".into()
    })
}

fn attachment(namespace: Arc<OwnedFd>, id: &str) -> Attachment {
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5));
    Attachment::new(
        namespace,
        link(),
        names::pod_link("kit", "pod"),
        names::alias(id, "eth0"),
    )
    .addresses([address])
    .mtu(1400)
}

fn detachment(attachment: &Attachment) -> Detachment {
    Detachment {
        host_link: attachment.host_link.clone(),
        alias: attachment.alias.clone(),
    }
}

fn clean(
    case: &'static str,
    attach: &dyn Attach,
    attachment: &Attachment,
) -> Result<(), Violation> {
    let differences = done(case, attach.check(attachment))?;
    expect(case, differences.is_empty(), || format!("{differences:?}"))
}

fn done<T>(case: &'static str, result: Result<T, AttachError>) -> Result<T, Violation> {
    result.map_err(|error| Violation {
        case,
        why: error.to_string(),
    })
}

#[expect(clippy::expect_used, reason = "the kit's own constant")]
fn link() -> LinkName {
    LinkName::new("eth0").expect("a link's name")
}
