//! Why the kernel refuses namespaces, and what to type.

use std::fs;
use std::io;

use anyhow::{Error, anyhow};

/// An error that says which switch stands in the way.
pub(super) fn explain(doing: &str, error: &io::Error) -> Error {
    anyhow!(
        "{doing}: {error}\n{}",
        reason(|path| fs::read_to_string(path).ok())
    )
}

/// The first switch that refuses; `read` is the file system.
fn reason(read: impl Fn(&str) -> Option<String>) -> String {
    let value = |path: &str| read(path).map(|text| text.trim().to_owned());
    let set = |path: &str, refusing: &str| value(path).as_deref() == Some(refusing);
    if set("/proc/sys/user/max_user_namespaces", "0") {
        return switch(
            "user.max_user_namespaces",
            "0",
            "sudo sysctl -w user.max_user_namespaces=15000",
        );
    }
    if set("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return switch(
            "kernel.unprivileged_userns_clone",
            "0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        );
    }
    if set(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        let help = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
        return switch(
            "kernel.apparmor_restrict_unprivileged_userns",
            "1 (AppArmor)",
            help,
        );
    }
    let status = read("/proc/self/status").unwrap_or_default();
    let filtered = status.lines().any(|line| {
        line.strip_prefix("Seccomp:")
            .is_some_and(|mode| mode.trim() == "2")
    });
    if filtered {
        return "a seccomp filter refuses it, as containers have one; start the container with this: \
                --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined --cap-add SYS_ADMIN"
            .to_owned();
    }
    "no switch that is known to refuse namespaces is set; run it as root, or outside of the container".to_owned()
}

fn switch(name: &str, value: &str, help: &str) -> String {
    format!("{name} is {value} and refuses it; this allows it:\n  {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_refuses_is_named_with_the_line_that_helps() {
        let seen = |path: &'static str, text: &'static str| {
            reason(move |asked| (asked == path).then(|| text.to_owned()))
        };
        let cases = [
            (
                "/proc/sys/user/max_user_namespaces",
                "0\n",
                "sysctl -w user.max_user_namespaces=15000",
            ),
            (
                "/proc/sys/kernel/unprivileged_userns_clone",
                "0\n",
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1\n",
                "apparmor_restrict_unprivileged_userns=0",
            ),
            (
                "/proc/self/status",
                "Name:\tx\nSeccomp:\t2\n",
                "--security-opt seccomp=unconfined",
            ),
            ("/proc/self/status", "Name:\tx\nSeccomp:\t0\n", "no switch"),
        ];
        for (path, text, expected) in cases {
            assert!(
                seen(path, text).contains(expected),
                "{path}: {}",
                seen(path, text)
            );
        }
    }
}
