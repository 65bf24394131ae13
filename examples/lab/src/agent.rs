//! The node agents: real `ocicat-node` processes, one per node.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ocicat_node::control::{Client, Status, Waited, Written};

use crate::place::{Place, etc_folder, run_folder};
use crate::program::Program;
use crate::sandbox::BIN;

/// How often a starting agent is asked whether it is ready.
const ASK: Duration = Duration::from_millis(10);

/// The agent of a node.
#[derive(Debug)]
pub struct Agent {
    place: Arc<Place>,
    program: Mutex<Option<Program>>,
}

impl Agent {
    /// Writes the node's configuration and starts its agent.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(place: Arc<Place>, datastore: &str) -> Result<Self> {
        let name = place.name();
        let config = format!("[node]\nname = \"{name}\"\n\n[datastore]\nurl = \"{datastore}\"\n");
        fs::write(etc_folder(name).join("node.toml"), config)?;
        let agent = Self {
            place,
            program: Mutex::new(None),
        };
        agent.restart()?;
        Ok(agent)
    }

    /// Starts the agent again, with the configuration that it had.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn restart(&self) -> Result<()> {
        let mut command = Command::new(format!("{BIN}/ocicat-node"));
        command.args(["--config", "/etc/ocicat/node.toml"]);
        let program = Program::start(&self.place, "ocicat-node", command)?;
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Some(program);
        Ok(())
    }

    /// The process id of the agent's program, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        program.as_ref().map(Program::id)
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        self.place.name()
    }

    /// The node's place.
    #[must_use]
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    fn socket(&self) -> PathBuf {
        run_folder(self.node()).join("ocicat/node.sock")
    }

    /// A client of the agent's control socket.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.socket())
    }

    /// An error with the end of the log when the agent does not run.
    ///
    /// # Errors
    /// That one.
    pub fn must_run(&self) -> Result<()> {
        match self
            .program
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            Some(program) => program.must_run(),
            None => bail!("the agent of {} is down", self.node()),
        }
    }

    /// Waits until the agent says that it is ready.
    ///
    /// # Errors
    /// When it ends, or says until the end of `patience` that it is not, with its reasons.
    pub async fn ready(&self, patience: Duration) -> Result<Status> {
        let until = Instant::now() + patience;
        loop {
            self.must_run()?;
            let client = self.client();
            let status = tokio::task::spawn_blocking(move || client.status()).await?;
            match status {
                Ok(status) if status.ready => return Ok(status),
                status if Instant::now() > until => bail!("{}", self.late(status.ok())),
                _ => tokio::time::sleep(ASK).await,
            }
        }
    }

    fn late(&self, status: Option<Status>) -> String {
        let reasons = status.map_or_else(
            || "it does not answer".to_owned(),
            |status| status.reasons.join("; "),
        );
        let log = self
            .program
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(Program::log_end);
        format!(
            "the agent of {} is not ready: {reasons}; the end of its log:\n{}",
            self.node(),
            log.unwrap_or_default()
        )
    }

    /// What the agent is and knows.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<Status> {
        let client = self.client();
        Ok(tokio::task::spawn_blocking(move || client.status()).await??)
    }

    /// Waits until the agent enforces what was written.
    ///
    /// # Errors
    /// Names the node, and says whether its agent is down or late.
    pub async fn wait(&self, written: Vec<Written>, patience: Duration) -> Result<Waited> {
        let client = self.client();
        let waited = tokio::task::spawn_blocking(move || client.wait(written, patience)).await?;
        let waited =
            waited.map_err(|error| anyhow!("the agent of {} is down: {error}", self.node()))?;
        if waited.ok {
            return Ok(waited);
        }
        let missing = waited.error.as_deref().unwrap_or("it does not say why");
        bail!("the agent of {} is late: {missing}", self.node())
    }

    /// Kills the agent with SIGKILL.
    ///
    /// # Errors
    /// When it did not run.
    pub fn kill(&self) -> Result<()> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        program
            .take()
            .with_context(|| format!("the agent of {} is down already", self.node()))?
            .kill()
    }

    /// Ends the agent with SIGTERM; true when it needed no SIGKILL after three seconds.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn terminate(&self) -> Result<bool> {
        let program = self
            .program
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut program) = program else {
            return Ok(true);
        };
        tokio::task::spawn_blocking(move || program.terminate(Duration::from_secs(3))).await?
    }
}
