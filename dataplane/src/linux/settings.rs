//! Settings of the network namespace (sysctl).

use super::netns::Home;
use super::sysctl::Sysctl;
use super::view::View;
use crate::report::{Fault, Object, Report};
use crate::state::Setting;
use crate::{KernelError, State};

/// Gives settings their values. With `since`, a state that the kernel is known to be like, only those are looked at
/// that it says otherwise.
pub(super) fn ensure(
    (home, sysctl): (&Home, Sysctl<'_>),
    view: &View,
    desired: &State,
    since: Option<&State>,
    report: &mut Report,
) -> Result<(), KernelError> {
    let before = since.map(|state| &*state.settings);
    let wanted: Vec<(&Setting, &str)> = desired
        .settings
        .iter()
        .filter(|(name, value)| before.is_none_or(|before| before.get(*name) != Some(*value)))
        .map(|(name, value)| (name, &**value))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    home.run::<_, KernelError>(|| {
        for (name, value) in wanted {
            match set(sysctl, view, name, value) {
                Ok(changed) => report.changed += usize::from(changed),
                Err(fault) => report.fail(Object::Setting(name.clone()), fault),
            }
        }
        Ok(())
    })
}

fn set(sysctl: Sysctl<'_>, view: &View, name: &Setting, value: &str) -> Result<bool, Fault> {
    if let Some(link) = name.link()
        && view.named(&link).is_none()
    {
        return Err(Fault::LinkMissing(link));
    }
    match sysctl.get(name.as_str()) {
        Ok(None) => Err(Fault::Unsupported {
            what: "such setting",
        }),
        Ok(Some(is)) if is.split_whitespace().eq(value.split_whitespace()) => Ok(false),
        Ok(Some(_)) => sysctl
            .set(name.as_str(), value)
            .map(|_| true)
            .map_err(|error| error.source.into()),
        Err(error) => Err(error.source.into()),
    }
}
