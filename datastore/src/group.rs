//! The API groups of Calico's objects.

use std::fmt;

/// The API group that holds Calico's objects in a cluster.
///
/// Calico knows two: `crd.projectcalico.org/v1`, in which it keeps an object's labels, annotations and the rest of its metadata as
/// JSON in the annotation `projectcalico.org/metadata`; and `projectcalico.org/v3`, whose objects are as they look. A group
/// whose name begins with `crd.` is of the first sort, any other of the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiGroup {
    name: String,
    version: String,
}

impl ApiGroup {
    /// The group of this `NAME/VERSION`; `None` when it is not one.
    #[must_use]
    pub fn new(api_version: &str) -> Option<Self> {
        let (name, version) = api_version.split_once('/')?;
        let good = |text: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            ends(text.chars().next())
                && ends(text.chars().last())
                && text
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c))
        };
        (good(name) && good(version)).then(|| Self {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// `crd.projectcalico.org/v1`, which Calico's manifests use.
    #[must_use]
    pub fn v1() -> Self {
        Self {
            name: "crd.projectcalico.org".to_owned(),
            version: "v1".to_owned(),
        }
    }

    /// `projectcalico.org/v3`, the choice for new clusters.
    #[must_use]
    pub fn v3() -> Self {
        Self {
            name: "projectcalico.org".to_owned(),
            version: "v3".to_owned(),
        }
    }

    /// `projectcalico.org`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `v3`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether an object's metadata are in an annotation.
    #[must_use]
    pub fn is_annotated(&self) -> bool {
        self.name.starts_with("crd.")
    }
}

/// `NAME/VERSION`.
impl fmt::Display for ApiGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(ApiGroup::new("projectcalico.org/v3"), Some(ApiGroup::v3()));
        assert_eq!(
            ApiGroup::new("crd.projectcalico.org/v1"),
            Some(ApiGroup::v1())
        );
        assert!(ApiGroup::v1().is_annotated() && !ApiGroup::v3().is_annotated());
        for bad in ["", "v1", "/v1", "a/", "a/b/c", "A/v1", "-a/v1"] {
            assert_eq!(ApiGroup::new(bad), None, "{bad}");
        }
    }
}
