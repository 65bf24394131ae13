//! An etcd of the lab's own: one machine behind the router, which is the lab itself.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::place::Place;
use crate::program::Program;
use crate::underlay::Underlay;

/// The name of the lab's own place.
pub const LAB: &str = "lab";
/// Its address: of a range for tests of networks (RFC 2544).
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 79);
/// How nodes name it.
pub(super) const URL: &str = "etcd:http://198.18.0.79:2379";
/// The same for etcd itself and for `etcdctl`.
pub const ENDPOINT: &str = "http://198.18.0.79:2379";
/// Its data, which outlives its process; memory, as everything that the lab writes.
const DATA: &str = "/run/ocicat-lab/etcd";
/// How long it may take to answer.
const START: Duration = Duration::from_secs(120);

/// The etcd of a lab.
#[derive(Debug)]
pub struct Etcd {
    place: Arc<Place>,
    program: Mutex<Option<Program>>,
}

impl Etcd {
    /// Hangs the lab's own namespace on the router and starts etcd in it.
    ///
    /// # Errors
    /// When there is no program `etcd` (Debian: etcd-server), or it does not answer.
    pub async fn start(underlay: &mut Underlay) -> Result<Self> {
        let place = Place::own(LAB).await?;
        let address = IpAddr::V4(ADDRESS);
        underlay.attach(LAB, &place, &[address]).await?;
        let etcd = Self {
            place,
            program: Mutex::new(None),
        };
        etcd.restart().await?;
        Ok(etcd)
    }

    /// Starts it again, with the data that it had.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer in time.
    pub async fn restart(&self) -> Result<()> {
        let mut command = Command::new("etcd");
        command.args(["--name", "lab", "--data-dir", DATA, "--logger", "zap"]);
        command.args(["--listen-client-urls", ENDPOINT]);
        command.args(["--advertise-client-urls", ENDPOINT]);
        let mut program = Program::start(&self.place, "etcd", command)
            .context("running etcd (package etcd-server)")?;
        let until = Instant::now() + START;
        while !self.answers().await {
            program.must_run()?;
            if Instant::now() > until {
                bail!("etcd does not answer; its log:\n{}", program.log_end());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = Some(program);
        Ok(())
    }

    /// Whether it takes connections.
    async fn answers(&self) -> bool {
        tokio::net::TcpStream::connect((ADDRESS, 2379))
            .await
            .is_ok()
    }

    /// Where it runs.
    #[must_use]
    pub const fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Whether it was started and not stopped since.
    #[must_use]
    pub fn runs(&self) -> bool {
        let program = self.program.lock();
        program.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Kills it; its data stays.
    ///
    /// # Errors
    /// When it did not run.
    pub fn stop(&self) -> Result<()> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        program.take().context("etcd is stopped already")?.kill()
    }
}
