//! `cargo xtask vm`: the kernel tests again on Debian's kernel, which has IP in IP, in a machine that qemu emulates.
//!
//! The machine has no disk and no network: an initramfs holds busybox, the kernel's network modules, our test programs
//! and what they run, with their libraries. It needs no KVM and no root; it boots in some seconds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::system::{self, Purpose};
use crate::workspace::{cargo, target};
use crate::{lab, stage};

/// The tests that run there: the crate's test programs, and the arguments of each.
///
/// Left out there: other people's firewalls, since `iptables`, which the remedies name, is not in the machine.
const TESTS: [(&str, &str); 2] = [
    ("net", "--include-ignored --test-threads=1"),
    ("nft", "--test-threads=1 --skip obstacles::"),
];

/// Programs that the tests run.
const PROGRAMS: [&str; 8] = [
    "ip",
    "bridge",
    "nft",
    "ping",
    "unshare",
    "setpriv",
    "conntrack",
    "ethtool",
];

/// What of the kernel's modules the tests need, without what other modules are found through.
const MODULES: [&str; 5] = [
    "kernel/net",
    "kernel/lib",
    "kernel/crypto",
    "kernel/arch/x86/crypto",
    "kernel/drivers/net",
];

/// Runs the tests in the machine; what they print is printed.
pub(crate) fn run() -> Result<(), String> {
    machine(&TESTS)
}

/// Runs the lab's scenario alone.
pub(crate) fn run_lab() -> Result<(), String> {
    machine(&[])
}

fn machine(tests: &[(&str, &str)]) -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("the machine is an x86_64; there is none for this architecture yet".into());
    }
    system::install(Purpose::Vm)?;
    let kernel = kernel()?;
    let folder = target().join("vm/root");
    let _ = fs::remove_dir_all(&folder);
    let version = modules(&kernel, &folder)?;
    let mut script = String::from("cd /tmp; status=0; uname -r\n");
    for (name, arguments) in tests {
        let program = build(name)?;
        install(&program, &format!("tests-{name}"), &folder)?;
        script.push_str(&format!("tests-{name} {arguments} || status=1\n"));
    }
    lab(&folder, &mut script)?;
    script.push_str("exit $status\n");
    for name in PROGRAMS {
        if let Some(program) = find(name) {
            install(&program, name, &folder)?;
        }
    }
    base(&folder, &script)?;
    boot(
        &kernel.join(format!("boot/vmlinuz-{version}")),
        &pack(&folder)?,
    )
}

/// The lab's scenario with IP in IP: a cluster of our own programs, without what helps debuggers.
fn lab(root: &Path, script: &mut String) -> Result<(), String> {
    let built = lab::build()?;
    for name in [
        "ocicat",
        "ocicat-bgpd",
        "ocicat-ipam",
        "ocicat-lab",
        "ocicat-node",
    ] {
        let small = target().join("vm").join(name);
        stage::run(
            Command::new("strip")
                .arg("-o")
                .args([&small, &built.join(name)]),
        )?;
        install(&small, name, root)?;
    }
    let from = lab::scenarios().join("ipip.yaml");
    let to = root.join("ipip.yaml");
    fs::copy(&from, &to).map_err(|error| failed(&from, &error))?;
    script.push_str("ocicat-lab test -f /ipip.yaml || status=1\n");
    Ok(())
}

/// Debian's kernel for clouds, unpacked.
fn kernel() -> Result<PathBuf, String> {
    let folder = target().join("vm/kernel");
    if folder.join("boot").exists() {
        return Ok(folder);
    }
    let parent = target().join("vm");
    fs::create_dir_all(&parent).map_err(|error| failed(&parent, &error))?;
    let wanted = output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
    let package = wanted
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .ok_or("apt knows no linux-image-cloud-amd64; run apt-get update")?
        .to_owned();
    stage::run(
        Command::new("apt-get")
            .args(["download", "-q", &package])
            .current_dir(&parent),
    )?;
    let archive = entries(&parent)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .ok_or("apt-get download left no package")?;
    let unpacked = parent.join("unpacking");
    stage::run(Command::new("dpkg").arg("-x").args([&archive, &unpacked]))?;
    fs::remove_file(&archive).map_err(|error| failed(&archive, &error))?;
    fs::rename(&unpacked, &folder).map_err(|error| failed(&folder, &error))?;
    Ok(folder)
}

/// Copies the modules; the kernel's version.
fn modules(kernel: &Path, root: &Path) -> Result<String, String> {
    let from = kernel.join("lib/modules");
    let versions = entries(&from)?;
    let version = versions
        .first()
        .and_then(|path| path.file_name())
        .ok_or("the kernel's package has no modules")?
        .to_string_lossy()
        .into_owned();
    let (from, to) = (from.join(&version), root.join("lib/modules").join(&version));
    fs::create_dir_all(&to).map_err(|error| failed(&to, &error))?;
    let lists = [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ];
    for name in MODULES.iter().chain(&lists) {
        if from.join(name).exists() {
            stage::run(
                Command::new("cp")
                    .args(["-r", "--parents", name])
                    .arg(&to)
                    .current_dir(&from),
            )?;
        }
    }
    let mut depmod = Command::new(find("depmod").ok_or("depmod is missing")?);
    stage::run(depmod.arg("-b").arg(root).arg(&version))?;
    Ok(version)
}

/// Builds one test program of the dataplane.
fn build(name: &str) -> Result<PathBuf, String> {
    let flags = [
        "test",
        "--locked",
        "--no-run",
        "--message-format=json",
        "-p",
        "ocicat-dataplane",
        "--all-features",
    ];
    let messages = output(cargo().args(flags).args(["--test", name]))?;
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == name;
        message["executable"]
            .as_str()
            .filter(|_| ours)
            .map(PathBuf::from)
    });
    programs
        .next_back()
        .ok_or_else(|| format!("cargo built no test {name}"))
}

/// Copies a program to /bin with the libraries that it needs.
fn install(program: &Path, name: &str, root: &Path) -> Result<(), String> {
    let mut files = BTreeSet::from([(program.to_path_buf(), root.join("bin").join(name))]);
    // A static program has none, which ldd says with a failure.
    let libraries = Command::new("ldd")
        .arg(program)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&libraries.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        files.insert((
            PathBuf::from(library),
            root.join(library.trim_start_matches('/')),
        ));
    }
    for (from, to) in files {
        let folder = to.parent().unwrap_or(root);
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        fs::copy(&from, &to).map_err(|error| failed(&from, &error))?;
    }
    Ok(())
}

/// The first program and the script that it runs.
fn base(root: &Path, script: &str) -> Result<(), String> {
    for folder in ["dev", "proc", "sys", "run", "tmp", "etc", "sbin", "var/lib"] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
    }
    install(
        &find("busybox").ok_or("busybox is missing")?,
        "busybox",
        root,
    )?;
    let init = "#!/bin/busybox sh
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin HOME=/tmp RUST_BACKTRACE=0
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
mkdir -p /run/netns
echo /bin/modprobe > /proc/sys/kernel/modprobe
ip link set lo up
sh /tests.sh 2>&1
echo \"MACHINE ENDS $?\"
poweroff -f
";
    for (name, text) in [("init", init), ("tests.sh", script)] {
        let path = root.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    }
    stage::run(Command::new("chmod").arg("+x").arg(root.join("init")))
}

fn pack(root: &Path) -> Result<PathBuf, String> {
    let archive = root.with_extension("cpio");
    let file = fs::File::create(&archive).map_err(|error| failed(&archive, &error))?;
    let names = output(Command::new("find").arg(".").current_dir(root))?;
    let list = root.with_extension("list");
    fs::write(&list, names).map_err(|error| failed(&list, &error))?;
    let input = fs::File::open(&list).map_err(|error| failed(&list, &error))?;
    let mut cpio = Command::new("cpio");
    cpio.args(["-o", "-H", "newc", "--quiet", "-R", "0:0"]);
    let status = cpio.current_dir(root).stdin(input).stdout(file).status();
    match status {
        Ok(status) if status.success() => Ok(archive),
        other => Err(format!("cpio: {other:?}")),
    }
}

fn boot(kernel: &Path, archive: &Path) -> Result<(), String> {
    let mut qemu = Command::new("timeout");
    // On a busy machine the emulated timer is too late for the kernel's own check of it.
    // Emulated in any case: a KVM inside another machine cannot be relied on.
    qemu.args(["1200", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"])
        .args(["-smp", "2", "-m", "1536", "-nographic", "-no-reboot"])
        .args([
            "-nic",
            "none",
            "-append",
            "console=ttyS0 panic=-1 quiet no_timer_check",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive);
    let mut end = None;
    stage::run_and_watch(&mut qemu, |line| {
        if let Some(status) = line.trim_end().strip_prefix("MACHINE ENDS ") {
            end = Some(status.to_owned());
        }
    })?;
    match end.as_deref() {
        Some("0") => Ok(()),
        Some(status) => Err(format!("the tests in the machine failed ({status})")),
        None => Err("the machine stopped before the tests had ended".into()),
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(str::to_owned)
        .collect::<Vec<_>>();
    folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.exists())
}

fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program}: {}", output.status))
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let read = fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
    Ok(read.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
