//! The running speaker.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use ocicat_bgp::driver::{self, DriverConfig, Handle};
use ocicat_bgp::{Attributes, Cease, Stop};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::kernel::Kernel;

/// Runs a speaker until it is told to end.
///
/// # Errors
/// When the configuration cannot be used or its addresses cannot be listened at.
pub fn run(path: &Path, listen: Option<SocketAddr>) -> Result<()> {
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(&config, listen))
}

async fn serve(config: &Config, listen: Option<SocketAddr>) -> Result<()> {
    let networks = config.networks()?;
    let (peers, dynamic) = config.neighbours()?;
    let mut settings = DriverConfig::new(config.speaker(RandomState::new().hash_one(())));
    for address in listen.map_or_else(|| config.listen(), |address| vec![address]) {
        settings = settings.listen(address);
    }
    let (bgp, driver) = driver::new(settings)?;
    let driver = tokio::spawn(driver);
    let kernel = start_kernel(config, &bgp)?;
    for network in networks {
        bgp.originate(network, Attributes::local());
    }
    bgp.originations_complete();
    for dynamic in dynamic {
        bgp.add_dynamic_peers(dynamic);
    }
    for peer in peers {
        let address = peer.address;
        bgp.add_peer(peer)
            .await
            .with_context(|| format!("peer {address}"))?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut silent = signal(SignalKind::user_defined2())?;
    let stop = tokio::select! {
        _ = terminate.recv() => Stop::Cease(Cease::AdministrativeShutdown(String::new())),
        _ = interrupt.recv() => Stop::Cease(Cease::AdministrativeShutdown(String::new())),
        _ = silent.recv() => Stop::Silent,
    };
    let farewell = stop != Stop::Silent;
    bgp.stop(stop).await;
    driver.await?;
    if let Some(kernel) = kernel {
        // The driver is gone and with it the sender of events: the follower has ended.
        let mut kernel = kernel.await?;
        if farewell {
            kernel.clear().await;
        }
    }
    Ok(())
}

fn start_kernel(config: &Config, bgp: &Handle) -> Result<Option<JoinHandle<Kernel>>> {
    if !config.kernel.export {
        return Ok(None);
    }
    let mut kernel = Kernel::open(config.kernel.protocol, config.restarting)?;
    let events = bgp.events();
    Ok(Some(tokio::spawn(async move {
        kernel.follow(events).await;
        kernel
    })))
}
