//! `node diags`: an archive with all that support needs, and no secrets.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use ocicat_node::control::Client;

use crate::cli::Global;
use crate::failure::Failure;

mod secrets;

use secrets::Secrets;

/// What is asked of the system; a program that is not there leaves a note.
const COMMANDS: &[(&str, &[&str])] = &[
    ("system/uname.txt", &["uname", "-a"]),
    ("system/date.txt", &["date", "--utc"]),
    (
        "system/processes.txt",
        &["ps", "axo", "pid,ppid,etime,rss,comm"],
    ),
    ("network/addresses.txt", &["ip", "-d", "-s", "address"]),
    (
        "network/routes.txt",
        &["ip", "route", "show", "table", "all"],
    ),
    (
        "network/routes6.txt",
        &["ip", "-6", "route", "show", "table", "all"],
    ),
    ("network/rules.txt", &["ip", "rule"]),
    ("network/neighbours.txt", &["ip", "neighbour"]),
    ("network/fdb.txt", &["bridge", "fdb"]),
    ("network/nftables.txt", &["nft", "list", "ruleset"]),
    ("network/iptables.txt", &["iptables-save"]),
    ("network/conntrack.txt", &["conntrack", "-S"]),
    ("network/sockets.txt", &["ss", "-tulnp"]),
    (
        "logs/journal.txt",
        &[
            "journalctl",
            "-u",
            "ocicat-node",
            "-n",
            "5000",
            "--no-pager",
        ],
    ),
    ("logs/kernel.txt", &["dmesg", "-T"]),
];

/// What is read from the disk.
const FILES: &[(&str, &str)] = &[
    (
        "system/sysctl-forwarding.txt",
        "/proc/sys/net/ipv4/ip_forward",
    ),
    (
        "system/conntrack-max.txt",
        "/proc/sys/net/netfilter/nf_conntrack_max",
    ),
    (
        "system/conntrack-count.txt",
        "/proc/sys/net/netfilter/nf_conntrack_count",
    ),
    ("system/softnet.txt", "/proc/net/softnet_stat"),
    ("system/snmp.txt", "/proc/net/snmp"),
    ("system/os-release.txt", "/etc/os-release"),
];

/// Writes the archive.
pub(super) fn run(global: &Global, client: &Client, file: Option<PathBuf>) -> Result<(), Failure> {
    let secrets = Secrets::of(global);
    let mut texts: Vec<(String, String)> = Vec::new();
    for (name, command) in COMMANDS {
        eprintln!("{name}");
        texts.push(((*name).to_owned(), output_of(command)));
    }
    for (name, path) in FILES {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| format!("{path}: {error}"));
        texts.push(((*name).to_owned(), text));
    }
    texts.push(("node.toml".into(), read(&global.config)));
    for path in conflists() {
        texts.push((
            format!("cni/{}", path.display()).replace("//", "/"),
            read(&path),
        ));
    }
    texts.extend(agent(client));
    let path = file.unwrap_or_else(default_name);
    write(&path, texts, &secrets)
        .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    println!("{}", path.display());
    Ok(())
}

fn output_of(command: &[&str]) -> String {
    let Some((program, arguments)) = command.split_first() else {
        return String::new();
    };
    match Command::new(program).args(arguments).output() {
        Ok(out) => {
            let text = String::from_utf8_lossy(&out.stdout);
            format!("{text}{}", String::from_utf8_lossy(&out.stderr))
        }
        Err(error) => format!("{}: {error}", command.join(" ")),
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

fn conflists() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/etc/cni/net.d").into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// What the agent says, as far as it answers.
fn agent(client: &Client) -> Vec<(String, String)> {
    match client.diags() {
        Ok(files) => {
            let inside = |(name, text): (String, String)| (format!("agent/{name}"), text);
            files.into_iter().map(inside).collect()
        }
        Err(error) => vec![("agent/error.txt".into(), error.to_string())],
    }
}

fn default_name() -> PathBuf {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time = time.map_or(0, |time| time.as_secs());
    PathBuf::from(format!(
        "ocicat-diags-{}-{time}.tar.gz",
        host.unwrap_or_default()
    ))
}

fn write(path: &Path, texts: Vec<(String, String)>, secrets: &Secrets) -> std::io::Result<()> {
    // Without secrets it still says more about a network than everybody needs to know.
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in texts {
        let text = secrets.redacted(&text);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append_data(&mut header, format!("ocicat-diags/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_get_into_the_archive() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tor");
        std::fs::write(&path, "hunter22\n").expect("written");
        let secrets = Secrets::new(vec!["hunter22".into()]);
        let archive = folder.path().join("a.tar.gz");
        let texts = vec![("x".to_owned(), "password hunter22;".to_owned())];
        write(&archive, texts, &secrets).expect("written");
        let file = std::fs::File::open(&archive).expect("there");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut text = String::new();
        for entry in archive.entries().expect("an archive") {
            use std::io::Read;
            entry
                .expect("a file")
                .read_to_string(&mut text)
                .expect("text");
        }
        assert_eq!(text, "password [redacted];");
    }
}
