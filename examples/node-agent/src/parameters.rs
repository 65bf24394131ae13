//! Felix's parameters, and where each value comes from.
//!
//! From low to high: what is built in, FelixConfiguration `default`, those with a selector, `node.NODE`, the file, the
//! environment. Names are compared without regard to case, as the environment has them in capitals.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

mod known;

pub use known::{KNOWN, Known};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// Built in.
    Default,
    /// An object of the datastore.
    Object(String),
    /// The configuration file.
    File(String),
    /// A variable of the environment.
    Environment(String),
    /// Found out by the agent itself.
    Detected,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Object(name) => write!(f, "FelixConfiguration {name}"),
            Self::File(path) => f.write_str(path),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Detected => f.write_str("detected"),
        }
    }
}

/// A value as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The parameter.
    pub name: String,
    /// Its value, as text.
    pub value: String,
    /// Where it comes from.
    pub source: String,
}

/// The layers that stay as they are while the agent runs: file and environment.
#[derive(Clone, Debug, Default)]
pub struct Fixed {
    /// By the name in lower case.
    values: BTreeMap<String, (String, Source)>,
    warnings: Vec<String>,
}

impl Fixed {
    /// From the file's `[felix]`, and the environment's `FELIX_*`, which wins. A name of the file is known; one of the
    /// environment that is not gets a warning.
    pub fn new(
        file: impl IntoIterator<Item = (String, String)>,
        path: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut fixed = Self::default();
        for (name, value) in file {
            let source = Source::File(path.to_owned());
            fixed
                .values
                .insert(name.to_ascii_lowercase(), (value, source));
        }
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix("FELIX_") else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            if known::find(&name).is_none() {
                fixed.warnings.push(format!(
                    "{variable}: there is no such parameter; it has no effect"
                ));
                continue;
            }
            let source = Source::Environment(variable);
            fixed.values.insert(name, (value, source));
        }
        fixed
    }
}

/// All layers together.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// File and environment.
    pub fixed: &'a Fixed,
    /// What objects say, the strongest first: the object's name and its values.
    pub objects: &'a [(String, BTreeMap<String, String>)],
}

impl Parameters<'_> {
    /// What is stated about a parameter, and where.
    #[must_use]
    pub fn stated(&self, name: &str) -> Option<(String, Source)> {
        let name = name.to_ascii_lowercase();
        if let Some(found) = self.fixed.values.get(&name) {
            return Some(found.clone());
        }
        self.objects.iter().find_map(|(object, values)| {
            let value = values.get(&name)?;
            Some((value.clone(), Source::Object(object.clone())))
        })
    }

    /// The value in force of a parameter that can be read as `T`; what cannot be read is reported and the default
    /// holds.
    pub fn read<T>(
        &self,
        name: &str,
        default: T,
        read: impl Fn(&str) -> Option<T>,
        problems: &mut Vec<String>,
    ) -> T {
        match self.stated(name) {
            None => default,
            Some((text, source)) => read(&text).unwrap_or_else(|| {
                problems.push(format!(
                    "{source}: {name}: {text:?} cannot be read; the default is in force"
                ));
                default
            }),
        }
    }

    /// Where something listens, if it is enabled.
    pub fn listen(
        &self,
        (enabled, host, port): (&str, &str, &str),
        default: SocketAddr,
        problems: &mut Vec<String>,
    ) -> Option<SocketAddr> {
        let enabled = self.read(enabled, false, flag, problems);
        let host = self.read(host, default.ip(), address, problems);
        let port = self.read(port, default.port(), |text| text.parse().ok(), problems);
        enabled.then(|| SocketAddr::new(host, port))
    }

    /// Every parameter with its value and source, and what is stated without an effect.
    #[must_use]
    pub fn shown(&self) -> (Vec<Shown>, Vec<String>) {
        let values = KNOWN.iter().map(|known| {
            let (value, source) = self
                .stated(known.name)
                .unwrap_or_else(|| (known.default.to_owned(), Source::Default));
            Shown {
                name: known.name.to_owned(),
                value,
                source: source.to_string(),
            }
        });
        (values.collect(), self.warnings())
    }

    /// What is stated and has no effect, with the reason.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.fixed.warnings.clone();
        let fixed = self
            .fixed
            .values
            .iter()
            .map(|(name, (value, source))| (name, value, source.to_string()));
        let objects = self.objects.iter().flat_map(|(object, values)| {
            let source = Source::Object(object.clone()).to_string();
            values
                .iter()
                .map(move |(name, value)| (name, value, source.clone()))
        });
        for (name, value, source) in fixed.chain(objects) {
            match known::find(name) {
                None => warnings.push(format!(
                    "{source}: {name}: there is no such parameter; it has no effect"
                )),
                Some(known) if !known.used && !value.eq_ignore_ascii_case(known.default) => {
                    let name = known.name;
                    warnings.push(format!("{source}: {name}: {value:?} has no effect here"));
                }
                Some(_) => {}
            }
        }
        warnings
    }
}

/// Reads a truth as Felix does.
#[must_use]
pub fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" | "enabled" => Some(true),
        "false" | "0" | "no" | "n" | "f" | "disabled" => Some(false),
        _ => None,
    }
}

fn address(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        "" => Some(IpAddr::from([0, 0, 0, 0])),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    fn object(name: &str, values: &[(&str, &str)]) -> (String, BTreeMap<String, String>) {
        (name.to_owned(), pairs(values).into_iter().collect())
    }

    #[test]
    fn each_layer_wins_over_those_below() {
        let file = pairs(&[("VXLANMTU", "1400"), ("HealthPort", "1")]);
        let environment = pairs(&[
            ("FELIX_HEALTHPORT", "2"),
            ("FELIX_HEALTPORT", "3"),
            ("HOME", "/"),
        ]);
        let fixed = Fixed::new(file, "/etc/ocicat/node.toml", environment);
        let objects = [
            object("node.a", &[("routerefreshinterval", "5s")]),
            object(
                "default",
                &[
                    ("routerefreshinterval", "7s"),
                    ("vxlanmtu", "9"),
                    ("bpfenabled", "true"),
                    ("nosuch", "1"),
                ],
            ),
        ];
        let parameters = Parameters {
            fixed: &fixed,
            objects: &objects,
        };
        for (name, value, source) in [
            ("vxlanMTU", "1400", "/etc/ocicat/node.toml"),
            ("healthPort", "2", "environment FELIX_HEALTHPORT"),
            ("routeRefreshInterval", "5s", "FelixConfiguration node.a"),
        ] {
            let (found, from) = parameters.stated(name).unwrap();
            assert_eq!(
                (found.as_str(), from.to_string().as_str()),
                (value, source),
                "{name}"
            );
        }
        let (shown, warnings) = parameters.shown();
        let default = shown
            .iter()
            .find(|one| one.name == "defaultEndpointToHostAction")
            .unwrap();
        assert_eq!(
            (default.value.as_str(), default.source.as_str()),
            ("Drop", "default")
        );
        for words in [
            "FELIX_HEALTPORT",
            "nosuch: there is no such",
            "bpfEnabled: \"true\" has no effect",
        ] {
            assert!(
                warnings.iter().any(|one| one.contains(words)),
                "{words} in {warnings:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_default_holds() {
        let fixed = Fixed::new(
            pairs(&[("HealthEnabled", "perhaps"), ("HealthHost", "localhost")]),
            "node.toml",
            [],
        );
        let parameters = Parameters {
            fixed: &fixed,
            objects: &[],
        };
        let mut problems = Vec::new();
        let names = ("healthEnabled", "healthHost", "healthPort");
        let default = SocketAddr::from(([127, 0, 0, 1], 9099));
        assert_eq!(parameters.listen(names, default, &mut problems), None);
        assert!(
            problems[0].contains("node.toml: healthEnabled"),
            "{problems:?}"
        );
        let fixed = Fixed::new(
            pairs(&[("HealthEnabled", "true"), ("HealthPort", "1")]),
            "f",
            [],
        );
        let parameters = Parameters {
            fixed: &fixed,
            objects: &[],
        };
        let listen = parameters.listen(names, default, &mut problems).unwrap();
        assert_eq!(listen.to_string(), "127.0.0.1:1");
    }

    #[test]
    fn names_are_known_once() {
        let mut names: Vec<String> = KNOWN
            .iter()
            .map(|one| one.name.to_ascii_lowercase())
            .collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
