//! Checks that attach nothing.

use serde_json::{Value, json};

use crate::{CniError, Command};

use super::bench::{Bench, Call, Fault, Namespace, Outcome, ensure};

/// VERSION looks at no other variable, as podman calls it, and its answer names versions.
pub(super) fn version(bench: &Bench) -> Outcome {
    let call = bench.bare(Command::Version);
    let dummies = call
        .variable("CNI_NETNS", "dummy")
        .variable("CNI_IFNAME", "dummy")
        .variable("CNI_PATH", "dummy");
    let call = Call {
        config: json!({"cniVersion": "1.0.0"}),
        ..dummies
    };
    let answer = bench.succeeds(&call)?;
    let versions = answer["supportedVersions"].as_array();
    let named = versions
        .is_some_and(|versions| !versions.is_empty() && versions.iter().all(Value::is_string));
    ensure(named, || {
        format!("VERSION answers no list of versions: {answer}")
    })?;
    ensure(answer["cniVersion"].is_string(), || {
        format!("VERSION answers no cniVersion: {answer}")
    })
}

fn numbered(error: &CniError, code: u32, about: &str) -> Outcome {
    ensure(error.code == code, || {
        format!("{about}: code {} instead of {code}: {error}", error.code)
    })
}

/// A command that does not exist is an error with number 4.
pub(super) fn commands(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    for command in ["NOPE", "add"] {
        let mut call = bench.call(Command::Add, "a", Some(&netns));
        command.clone_into(&mut call.command);
        let error = bench.fails(&call, "an unknown command")?;
        numbered(&error, CniError::INVALID_ENVIRONMENT, "an unknown command")?;
    }
    Ok(())
}

/// A missing variable is an error with number 4 that names it.
pub(super) fn variables(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    let needed: [(Command, &[&str]); 2] = [
        (
            Command::Add,
            &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
        ),
        (Command::Del, &["CNI_CONTAINERID", "CNI_IFNAME"]),
    ];
    for (command, names) in needed {
        for name in names {
            let call = bench.call(command, "a", Some(&netns)).without(name);
            let about = format!("{command} without {name}");
            let error = bench.fails(&call, &about)?;
            numbered(&error, CniError::INVALID_ENVIRONMENT, &about)?;
            let text = error.to_string();
            ensure(text.contains(name), || {
                format!("{about}: the error does not name it: {text}")
            })?;
        }
    }
    Ok(())
}

/// Container ids and interface names that are none.
pub(super) fn names(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    let wrong = [
        ("CNI_CONTAINERID", "-a"),
        ("CNI_CONTAINERID", "../a"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "sixteen-letters-"),
    ];
    for (variable, value) in wrong {
        let call = bench
            .call(Command::Add, "a", Some(&netns))
            .variable(variable, value);
        let about = format!("{variable}={value}");
        let error = bench.fails(&call, &about)?;
        numbered(&error, CniError::INVALID_ENVIRONMENT, &about)?;
    }
    Ok(())
}

/// Input that is no configuration, and versions that do not exist.
pub(super) fn configuration(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    let call = bench.call(Command::Add, "a", Some(&netns));
    for text in ["", "{", "no JSON"] {
        let call = Call {
            config: Value::String(text.to_owned()),
            ..call.clone()
        };
        let error = bench.fails(&call, "a configuration that is no JSON")?;
        numbered(
            &error,
            CniError::DECODE_FAILURE,
            &format!("configuration {text:?}"),
        )?;
    }
    for version in ["9.9.9", "x"] {
        let error = bench.fails(
            &call.clone().key("cniVersion", version),
            "an unknown version",
        )?;
        let fits = [CniError::INCOMPATIBLE_VERSION, CniError::DECODE_FAILURE].contains(&error.code);
        ensure(fits, || {
            format!(
                "cniVersion {version}: code {} instead of 1: {error}",
                error.code
            )
        })?;
    }
    Ok(())
}

/// DEL of what was never there is a success: with a namespace, without, and with one that is gone.
pub(super) fn nothing_to_delete(bench: &Bench) -> Outcome {
    let netns = Namespace::new()?;
    bench.del("never", Some(&netns))?;
    bench.del("never", None)?;
    let gone = bench
        .call(Command::Del, "never", None)
        .variable("CNI_NETNS", "/run/netns/ocicat-gone");
    bench.succeeds(&gone)?;
    bench
        .succeeds(
            &bench
                .call(Command::Del, "never", None)
                .variable("CNI_NETNS", ""),
        )
        .map(drop)
}

/// STATUS succeeds, and is refused in a version that has none.
pub(super) fn status(bench: &Bench) -> Outcome {
    if let Some(old) = bench.versions().iter().find(|version| !version.has_gc()) {
        let call = bench.bare(Command::Status).key("cniVersion", old.as_str());
        // Which number is not said: a plugin from before 1.1.0 does not know the command at all.
        bench.fails(&call, "a version without STATUS")?;
    }
    bench.needs(crate::Version::has_gc, "STATUS")?;
    bench
        .succeeds(&bench.bare(Command::Status))
        .map(drop)
        .map_err(|fault| match fault {
            Fault::Broken(what) => {
                Fault::Broken(format!("STATUS of a plugin that can serve: {what}"))
            }
            other => other,
        })
}
