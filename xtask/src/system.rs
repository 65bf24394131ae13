//! System packages: found, or installed, or named in one line that installs them.

use std::path::Path;
use std::process::Command;

use crate::stage;

/// What the packages are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building, and running the lab.
    Lab,
    /// The whole test suite: other people's programs too.
    Tests,
    /// The tests in a virtual machine.
    Vm,
}

/// A program or header that shows whether a package is there, and the package.
type Need = (&'static str, &'static str);

/// The C compiler is for the embedded sqlite, protoc for etcd's client; `nft` and `ip` observe the kernel, the product itself runs neither.
const LAB: [Need; 5] = [
    ("cc", "gcc"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("protoc", "protobuf-compiler"),
];

const TESTS: [Need; 21] = [
    ("bird", "bird2"),
    ("/usr/lib/frr/bgpd", "frr"),
    ("gobgpd", "gobgpd"),
    ("exabgp", "exabgp"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
    ("ping", "iputils-ping"),
    ("ethtool", "ethtool"),
    ("python3", "python3-venv"),
    ("unshare", "util-linux"),
    ("/usr/lib/cni/host-local", "containernetworking-plugins"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("podman", "podman"),
    ("conmon", "conmon"),
    ("/bin/busybox", "busybox-static"),
    ("iptables", "iptables"),
    ("/usr/bin/time", "time"),
    ("pkg-config", "pkgconf"),
    ("/usr/include/libmnl/libmnl.h", "libmnl-dev"),
    ("/usr/include/libnftnl/rule.h", "libnftnl-dev"),
];

const VM: [Need; 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("ping", "iputils-ping"),
    ("ethtool", "ethtool"),
    ("conntrack", "conntrack"),
];

/// Installs what is missing when root; otherwise prints the line that does and stops.
pub(crate) fn install(purpose: Purpose) -> Result<(), String> {
    let mut needs = LAB.to_vec();
    if purpose == Purpose::Tests {
        needs.extend(TESTS);
    }
    if purpose == Purpose::Vm {
        needs.extend(VM);
    }
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(sign, _)| !present(sign))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !present("apt-get") {
        return Err(format!(
            "these programs are missing, and there is no apt-get here to install them (Debian's package names): {packages}"
        ));
    }
    if !is_root() {
        return Err(format!(
            "packages are missing; install them with\n\n    sudo apt-get update && sudo apt-get install -y --no-install-recommends {packages}\n"
        ));
    }
    println!("--- installing {packages}");
    let apt = |arguments: &[&str]| {
        stage::run(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(arguments),
        )
    };
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

/// Whether the effective user is root.
pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| {
            line.strip_prefix("Uid:")
                .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
        })
    })
}

fn present(sign: &str) -> bool {
    if sign.starts_with('/') {
        return Path::new(sign).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|folder| Path::new(folder).join(sign).exists())
}
