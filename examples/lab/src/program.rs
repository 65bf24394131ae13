//! Programs that run in a place, with their output in a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::{Place, machine_folder};

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts a program in a machine; it sees the machine's own folders, and its output goes to a file outside of them.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(place: &Place, name: &str, mut command: Command) -> Result<Self> {
        let log = machine_folder(place.name()).join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = place.visit(|| command.spawn())?;
        let child = child
            .with_context(|| format!("starting {:?} on {}", command.get_program(), place.name()))?;
        Ok(Self {
            name: format!("{name} on {}", place.name()),
            log,
            child,
        })
    }

    /// The program's process id, in the lab.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs; its status when it does not.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error with the end of the log when the program has ended.
    ///
    /// # Errors
    /// That one.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} has ended ({status}); the end of its log:\n{}",
                self.name,
                last_lines(&self.log, 12)
            ),
        }
    }

    /// Kills the program with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the program to end, and kills it when it takes longer than `patience`; true when it ended by itself.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn terminate(&mut self, patience: Duration) -> Result<bool> {
        if self.ended()?.is_some() {
            return Ok(true);
        }
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGTERM,
        )?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.ended()?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()?;
        Ok(false)
    }

    /// The end of the program's output.
    #[must_use]
    pub fn log_end(&self) -> String {
        last_lines(&self.log, 12)
    }
}

fn last_lines(file: &Path, count: usize) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
