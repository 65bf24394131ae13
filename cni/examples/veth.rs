//! A complete plugin in one file: a veth pair for each container, addresses from files in a folder, `ip` for the kernel.
//!
//! It keeps every rule that `testing::plugin_kit` tests. For a plugin with netlink, a store and a strategy of its own,
//! see `examples/vendor-cni` in the repository.
//!
//! Configuration: `{"type": "veth", "subnet": "10.66.0", "folder": "/var/lib/veth"}`.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ocicat_cni::{
    AddResult, AttachmentId, Call, CniError, GcCall, Interface, IpConfig, Plugin, Rollback,
    StatusCall, run_process,
};

#[derive(serde::Deserialize)]
struct Config {
    subnet: String,
    folder: PathBuf,
}

struct Veth;

impl Plugin for Veth {
    type Config = Config;

    fn add(&self, call: Call<Config>) -> Result<AddResult, CniError> {
        let netns = call.netns.clone().unwrap_or_default();
        call.open_netns()?;
        let (network, at) = (call.network.name.as_str(), &call.attachment);
        let (link, inside) = (at.host_link("v", &call.network.name), at.ifname.as_str());
        Rollback::scope(|rollback| {
            let address = take(&call.config, &owner(network, at))?;
            rollback.push("releasing the address", || {
                release(&call.config, |o| o == owner(network, at))
            });
            // The other end is born in the container: a link of that name there is somebody else's, and an error.
            let path = netns.to_string_lossy();
            let peer = ["peer", "name", inside, "netns", &path];
            ip(&[&["link", "add", &link, "type", "veth"], &peer[..]].concat())?;
            rollback.push("removing the link", || remove(&link));
            within(
                &netns,
                &["address", "add", &format!("{address}/32"), "dev", inside],
            )?;
            within(&netns, &["link", "set", inside, "up"])?;
            ip(&["link", "set", &link, "up"])?;
            let address = format!("{address}/32")
                .parse()
                .map_err(|e| CniError::config(format!("subnet: {e}")))?;
            Ok(AddResult::new()
                .interface(Interface::new(&link))
                .interface(Interface::new(inside).sandbox(path))
                .ip(IpConfig::new(address).interface(1)))
        })
    }

    fn del(&self, call: Call<Config>) -> Result<(), CniError> {
        let network = call.network.name.as_str();
        // Everything goes by names, and each step is tried.
        let removed = remove(&call.attachment.host_link("v", &call.network.name));
        let released = release(&call.config, |o| o == owner(network, &call.attachment));
        removed.and(released)
    }

    fn check(&self, call: Call<Config>) -> Result<(), CniError> {
        let differs = |what: String| CniError::new(CniError::FIRST_OWN, what);
        let expected = call
            .network
            .prev_result
            .as_ref()
            .into_iter()
            .flat_map(|result| &result.ips);
        let mine = owner(call.network.name.as_str(), &call.attachment);
        let inside = [
            "-o",
            "address",
            "show",
            "dev",
            call.attachment.ifname.as_str(),
        ];
        let shown = within(
            call.netns.as_deref().unwrap_or_else(|| Path::new("")),
            &inside,
        )?;
        for ip in expected {
            if !shown.contains(&format!(" {} ", ip.address)) {
                return Err(differs(format!(
                    "{} is not on {}",
                    ip.address, call.attachment.ifname
                )));
            }
            let held = fs::read_to_string(call.config.folder.join(ip.address.ip().to_string()));
            if held.ok().as_deref() != Some(mine.as_str()) {
                return Err(differs(format!("{} is not this container's", ip.address)));
            }
        }
        Ok(())
    }

    fn gc(&self, call: GcCall<Config>) -> Result<(), CniError> {
        let lost = |owner: &str| {
            let rest = owner
                .strip_prefix(call.network.name.as_str())?
                .strip_prefix(' ')?;
            let (container, interface) = rest.split_once('/')?;
            let at = AttachmentId::new(container.parse().ok()?, interface.parse().ok()?);
            (!call.keep.contains(&at)).then_some(at)
        };
        release(&call.config, |owner| {
            lost(owner).is_some_and(|at| remove(&at.host_link("v", &call.network.name)).is_ok())
        })
    }

    fn status(&self, call: StatusCall<Config>) -> Result<(), CniError> {
        fs::create_dir_all(&call.config.folder).map_err(|cause| {
            CniError::new(CniError::PLUGIN_NOT_AVAILABLE, format!("folder: {cause}"))
        })
    }
}

/// Whose an address is: what its file holds.
fn owner(network: &str, at: &AttachmentId) -> String {
    format!("{network} {at}")
}

/// The first address whose file can be made, or the one that the owner has already.
fn take(config: &Config, owner: &str) -> Result<String, CniError> {
    let failed = |cause| CniError::io("taking an address", cause);
    fs::create_dir_all(&config.folder).map_err(failed)?;
    for host in 1..=254 {
        let address = format!("{}.{host}", config.subnet);
        match fs::File::create_new(config.folder.join(&address)) {
            Ok(mut file) => {
                file.write_all(owner.as_bytes()).map_err(failed)?;
                return Ok(address);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(CniError::new(CniError::FIRST_OWN, "no address is left"))
}

fn release(config: &Config, whose: impl Fn(&str) -> bool) -> Result<(), CniError> {
    let Ok(files) = fs::read_dir(&config.folder) else {
        return Ok(());
    };
    for path in files.flatten().map(|file| file.path()) {
        if fs::read_to_string(&path).is_ok_and(|owner| whose(&owner)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(CniError::io("releasing an address", error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes a link; one that is gone, or goes at the same time, is as good as removed.
fn remove(link: &str) -> Result<(), CniError> {
    let gone = |text: &str| text.contains("Cannot find device") || text.contains("No such device");
    match ip(&["link", "del", link]) {
        Err(error) if !gone(&error.details) => Err(error),
        _ => Ok(()),
    }
}

fn within(netns: &Path, arguments: &[&str]) -> Result<String, CniError> {
    let path = format!("--net={}", netns.display());
    output(Command::new("nsenter").arg(path).arg("ip").args(arguments))
}

fn ip(arguments: &[&str]) -> Result<String, CniError> {
    output(Command::new("ip").args(arguments))
}

fn output(command: &mut Command) -> Result<String, CniError> {
    let output = command
        .output()
        .map_err(|cause| CniError::io(format!("{command:?}"), cause))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CniError::io(
        format!("{command:?}"),
        String::from_utf8_lossy(&output.stderr).trim(),
    ))
}

fn main() -> ExitCode {
    run_process(&Veth)
}
