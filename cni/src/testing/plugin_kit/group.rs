//! A program that runs in a process group of its own, and its end.

use std::fs;
use std::io;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::bench::{Fault, Outcome, trouble};

/// How long a killed process may take to leave the kernel: it can be in the midst of a slow system call.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first program of a process group, and with it all that it has started and that has not left the group.
pub(super) struct Group {
    leader: Child,
}

impl Group {
    /// `leader` must have been started with `process_group(0)`.
    pub(super) fn of(leader: Child) -> Self {
        Self { leader }
    }

    /// Kills every member, and returns when none of them can do anything any more.
    ///
    /// The leader is waited for last: until then its id, which is the group's, belongs to nobody else.
    pub(super) fn kill(mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            // A group without members is what is wanted.
            let _ = kill_process_group(Pid::from_child(&self.leader), Signal::KILL);
            let alive = members(self.leader.id()).map_err(trouble("reading /proc"))?;
            if alive.is_empty() {
                break Ok(());
            }
            if Instant::now() > deadline {
                break Err(Fault::Broken(format!(
                    "processes that SIGKILL does not end within {PATIENCE:?}: {alive:?}"
                )));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let _ = self.leader.wait();
        ended
    }
}

/// The ids of a group's members that still run. One that has ended and waits for its parent (a zombie) does nothing any more.
fn members(group: u32) -> io::Result<Vec<u32>> {
    let mut alive = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that goes in the meantime has ended.
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        if runs_in(&stat, group) {
            alive.push(id);
        }
    }
    Ok(alive)
}

/// Whether a line of `/proc/PID/stat` tells of a process of this group that runs. See proc_pid_stat(5): `pid (name) state parent
/// group ...`, where the name can hold anything, parentheses too.
fn runs_in(stat: &str, group: u32) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_ascii_whitespace();
    let (state, _parent) = (fields.next(), fields.next());
    let of: Option<u32> = fields.next().and_then(|field| field.parse().ok());
    of == Some(group) && !matches!(state, Some("Z" | "X" | "x"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn lines_of_proc() {
        let table = [
            ("7 (ip) R 1 42 42 0", true),
            ("7 (ip) S 1 42 42 0", true),
            ("7 (ip) D 1 42 42 0", true),
            ("7 (ip) Z 1 42 42 0", false),
            ("7 (ip) X 1 42 42 0", false),
            ("42 (ip) R 1 7 42 0", false),
            ("7 (a) Z 1 7 (b) c) S 1 42 42 0", true),
            ("7 (ip) R 42", false),
            ("", false),
        ];
        for (line, expected) in table {
            assert_eq!(runs_in(line, 42), expected, "{line:?}");
        }
    }

    /// A shell whose child holds the other end of a pipe: the pipe ends when both are gone, and not before.
    #[test]
    fn children_go_with_the_program() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        let mut leader = command
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = io::BufReader::new(leader.stdout.take().unwrap());
        let mut line = String::new();
        io::BufRead::read_line(&mut out, &mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        assert!(members(leader.id()).unwrap().contains(&child));
        let id = leader.id();
        assert!(Group::of(leader).kill().is_ok());
        assert_eq!(members(id).unwrap(), [0; 0]);
        let stat = fs::read_to_string(format!("/proc/{child}/stat"));
        assert!(stat.map_or(true, |stat| !runs_in(&stat, id)));
    }
}
