//! Which API group Calico's objects are in.

use crate::error::StoreError;
use crate::group::ApiGroup;

/// What was seen of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The API server answers for it.
    pub(super) served: bool,
    /// It is made of definitions, rather than another server's.
    pub(super) defined: bool,
    /// It has objects.
    pub(super) written: bool,
}

/// The group to use; `None` when the cluster has none of the two.
///
/// A group that another server answers for is Calico's own view of the first sort of group.
///
/// # Errors
/// [`StoreError::Open`] when both have objects: which of them are in force cannot be known.
pub(super) fn choose(url: &str, v1: Seen, v3: Seen) -> Result<Option<ApiGroup>, StoreError> {
    match (v1.served, v3.served && v3.defined) {
        (false, false) => Ok(None),
        (true, false) => Ok(Some(ApiGroup::v1())),
        (false, true) => Ok(Some(ApiGroup::v3())),
        (true, true) => match (v1.written, v3.written) {
            (true, true) => Err(StoreError::Open {
                url: url.to_owned(),
                reason: format!(
                    "both {} and {} have objects; say which are in force with ?group={}, or delete one group's definitions",
                    ApiGroup::v1(),
                    ApiGroup::v3(),
                    ApiGroup::v3()
                ),
            }),
            (true, false) => Ok(Some(ApiGroup::v1())),
            (false, _) => Ok(Some(ApiGroup::v3())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_chosen_by_what_is_there() {
        let none = Seen::default();
        let seen = |defined, written| Seen {
            served: true,
            defined,
            written,
        };
        let (v1, v3) = (Some(ApiGroup::v1()), Some(ApiGroup::v3()));
        for (first, second, wanted) in [
            (none, none, None),
            (seen(true, false), none, v1.clone()),
            (none, seen(true, false), v3.clone()),
            // Calico's own API server.
            (seen(true, true), seen(false, true), v1.clone()),
            (seen(true, true), seen(true, false), v1),
            (seen(true, false), seen(true, true), v3.clone()),
            (seen(true, false), seen(true, false), v3),
        ] {
            assert_eq!(
                choose("kubernetes:", first, second),
                Ok(wanted),
                "{first:?} {second:?}"
            );
        }
        let both = choose("kubernetes:", seen(true, true), seen(true, true));
        assert!(matches!(both, Err(StoreError::Open { .. })));
    }
}
