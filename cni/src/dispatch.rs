use std::io::{Read, Write};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::{parse_object, version_of};
use crate::plugin::{Call, GcCall, Plugin, StatusCall};
use crate::{CniError, Command, Environment, NetworkConfig, Version};

/// The most that is read from stdin: 64 MiB, room for a GC with hundreds of thousands of attachments.
const STDIN_LIMIT: u64 = 64 << 20;

/// Serves one call of a runtime: reads, validates, calls the plugin, prints the answer or the error.
///
/// Nothing else goes to `stdout`, and all of it in one write. A panic of the plugin becomes an error with number
/// [`CniError::INTERNAL`] (the panic's own text goes to stderr); a [`Rollback`](crate::Rollback) on the stack runs.
/// VERSION looks at no other variable and takes any input: podman calls it with dummies.
///
/// The exit code is 0 on success and 1 otherwise.
pub fn run<P: Plugin>(
    plugin: &P,
    environment: &Environment,
    stdin: impl Read,
    mut stdout: impl Write,
) -> ExitCode {
    let mut input = Vec::new();
    let read = stdin.take(STDIN_LIMIT).read_to_end(&mut input);
    let (version, answer) = match environment.known_command() {
        Ok(Command::Version) => (Version::LATEST, Ok(Some(versions(plugin, &input)))),
        Ok(command) => {
            let read = read
                .map(drop)
                .map_err(|cause| CniError::io("reading stdin", cause));
            let parsed = read.and_then(|()| parse_object(&input));
            let version = parsed.as_ref().ok().and_then(|raw| version_of(raw).ok());
            let serve = || serve(plugin, environment, command, parsed);
            let caught = std::panic::catch_unwind(AssertUnwindSafe(serve));
            let panicked = |_| {
                Err(CniError::internal(format!(
                    "the plugin panicked in {command}"
                )))
            };
            (
                version.unwrap_or(Version::LATEST),
                caught.unwrap_or_else(panicked),
            )
        }
        Err(error) => (Version::LATEST, Err(error)),
    };
    let (text, code) = match answer {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(value)) => (value.to_string(), ExitCode::SUCCESS),
        Err(error) => (error.to_value(version).to_string(), ExitCode::FAILURE),
    };
    match stdout
        .write_all(format!("{text}\n").as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// [`run`] for a program's `main`: this process's environment, stdin and stdout.
///
/// ```no_run
/// # use ocicat_cni::{AddResult, Call, CniError, Plugin};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = serde_json::Value;
/// #     fn add(&self, _: Call<Self::Config>) -> Result<AddResult, CniError> { Ok(AddResult::new()) }
/// #     fn del(&self, _: Call<Self::Config>) -> Result<(), CniError> { Ok(()) }
/// # }
/// fn main() -> std::process::ExitCode {
///     ocicat_cni::run_process(&Mine)
/// }
/// ```
pub fn run_process<P: Plugin>(plugin: &P) -> ExitCode {
    run(
        plugin,
        &Environment::from_process(),
        std::io::stdin().lock(),
        std::io::stdout().lock(),
    )
}

fn versions<P: Plugin>(plugin: &P, input: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(input).ok();
    let asked = asked
        .as_ref()
        .and_then(|raw| raw.get("cniVersion"))
        .and_then(Value::as_str);
    json!({
        "cniVersion": asked.unwrap_or(Version::LATEST.as_str()),
        "supportedVersions": plugin.versions(),
    })
}

fn serve<P: Plugin>(
    plugin: &P,
    environment: &Environment,
    command: Command,
    parsed: Result<Value, CniError>,
) -> Result<Option<Value>, CniError> {
    let about_container = matches!(command, Command::Add | Command::Del | Command::Check);
    let target = about_container
        .then(|| environment.target(command))
        .transpose()?;
    let network = NetworkConfig::from_value(parsed?)?;
    speaks(plugin, command, network.version)?;
    let config = network.own::<P::Config>()?;
    let search_path = environment.search_path();
    let Some(target) = target else {
        return match command {
            Command::Gc => {
                let keep = network.valid_attachments.clone().ok_or_else(|| {
                    CniError::config(
                        "cni.dev/valid-attachments: is missing, so nothing is released",
                    )
                })?;
                plugin.gc(GcCall {
                    keep,
                    network,
                    config,
                    search_path,
                })
            }
            _ => plugin.status(StatusCall {
                network,
                config,
                search_path,
            }),
        }
        .map(|()| None);
    };
    let version = network.version;
    let call = Call {
        attachment: target.attachment,
        netns: target.netns,
        args: target.args,
        network,
        config,
        search_path,
    };
    match command {
        Command::Add => plugin
            .add(call)
            .map(|result| Some(result.to_value(version))),
        Command::Check if call.network.prev_result.is_none() => Err(CniError::config(
            "prevResult: is missing, which CHECK needs",
        )),
        Command::Check => plugin.check(call).map(|()| None),
        _ => plugin.del(call).map(|()| None),
    }
}

fn speaks<P: Plugin>(plugin: &P, command: Command, version: Version) -> Result<(), CniError> {
    let incompatible = |details: String| {
        CniError::new(CniError::INCOMPATIBLE_VERSION, "incompatible CNI versions")
            .with_details(details)
    };
    if !plugin.versions().contains(&version) {
        let known = plugin.versions().iter().map(|version| version.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(incompatible(format!(
            "the configuration is {version}, the plugin has {known}"
        )));
    }
    let exists = match command {
        Command::Check => version.has_check(),
        Command::Gc | Command::Status => version.has_gc(),
        _ => true,
    };
    if exists {
        Ok(())
    } else {
        Err(incompatible(format!(
            "{command} does not exist in version {version}"
        )))
    }
}

#[cfg(test)]
mod tests;
