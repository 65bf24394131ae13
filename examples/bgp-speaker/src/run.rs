//! The running speaker.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use ocicat_bgp::driver::{self, DriverConfig, Handle};
use ocicat_bgp::{Attributes, Cease, DynamicPeers, PeerId, Stop};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::control;
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
    runtime.block_on(serve(path, config, listen))
}

async fn serve(path: &Path, config: Config, listen: Option<SocketAddr>) -> Result<()> {
    let mut settings = DriverConfig::new(config.speaker(RandomState::new().hash_one(())));
    for address in listen.map_or_else(|| config.listen(), |address| vec![address]) {
        settings = settings.listen(address);
    }
    let (bgp, driver) = driver::new(settings)?;
    let driver = tokio::spawn(driver);
    let kernel = start_kernel(&config, &bgp)?;
    match control::listen(&config.socket) {
        Ok(listener) => drop(tokio::spawn(control::serve(listener, bgp.clone()))),
        Err(error) => eprintln!("ocicat-bgpd: no control socket: {error:#}"),
    }
    let socket = config.socket.clone();
    let mut running = Running::start(config, bgp.clone()).await?;
    let stop = running.until_told(path).await?;
    let farewell = stop != Stop::Silent;
    if let (false, Some(kernel)) = (farewell, &kernel) {
        // Whoever starts next takes the routes over: the end of the sessions must not reach the kernel.
        kernel.abort();
    }
    bgp.stop(stop).await;
    driver.await?;
    // Whoever starts next makes it anew.
    let _ = std::fs::remove_file(socket);
    if let (true, Some(kernel)) = (farewell, kernel) {
        // The driver is gone and with it the sender of events: the follower has ended.
        kernel.await?.clear().await;
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

/// The speaker as it was configured last.
struct Running {
    config: Config,
    bgp: Handle,
    peers: HashMap<IpAddr, PeerId>,
}

impl Running {
    async fn start(config: Config, bgp: Handle) -> Result<Self> {
        let networks = config.networks()?;
        let (peers, dynamic) = config.neighbours()?;
        for network in networks {
            bgp.originate(network, Attributes::local());
        }
        bgp.originations_complete();
        for dynamic in dynamic {
            bgp.add_dynamic_peers(dynamic);
        }
        let mut ids = HashMap::new();
        for peer in peers {
            let address = peer.address;
            let id = bgp.add_peer(peer).await;
            ids.insert(address, id.with_context(|| format!("peer {address}"))?);
        }
        Ok(Self {
            config,
            bgp,
            peers: ids,
        })
    }

    /// Reloads at each SIGHUP; how to end, when that is asked for.
    async fn until_told(&mut self, path: &Path) -> Result<Stop> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut silent = signal(SignalKind::user_defined2())?;
        let mut reload = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = silent.recv() => return Ok(Stop::Silent),
                _ = reload.recv() => {
                    let result = match Config::load(path) {
                        Ok(config) => self.reload(config).await,
                        Err(error) => Err(error),
                    };
                    match result {
                        Ok(()) => eprintln!("ocicat-bgpd: reloaded {}", path.display()),
                        Err(error) => eprintln!("ocicat-bgpd: not reloaded: {error:#}"),
                    }
                }
            }
        }
        Ok(Stop::Cease(Cease::AdministrativeShutdown(String::new())))
    }

    /// Makes the speaker what `new` says, with the least change.
    async fn reload(&mut self, new: Config) -> Result<()> {
        // Everything is read before anything is changed.
        let (networks, before) = (new.networks()?, self.config.networks()?);
        let (peers, dynamic) = new.neighbours()?;
        let changed = |address: IpAddr| {
            let find = |config: &Config| {
                let peer = config.peers.iter().find(|peer| peer.addr == Some(address));
                (peer.cloned(), config.hold)
            };
            find(&self.config) != find(&new)
        };
        for network in before.iter().filter(|network| !networks.contains(network)) {
            self.bgp.withdraw(*network);
        }
        for network in networks
            .into_iter()
            .filter(|network| !before.contains(network))
        {
            self.bgp.originate(network, Attributes::local());
        }
        let gone: Vec<_> = self
            .peers
            .keys()
            .copied()
            .filter(|address| peers.iter().all(|peer| peer.address != *address))
            .collect();
        for address in gone {
            if let Some(id) = self.peers.remove(&address) {
                self.bgp.remove_peer(id, Cease::PeerDeconfigured).await?;
            }
        }
        let touched: Vec<_> = peers
            .into_iter()
            .filter(|peer| changed(peer.address))
            .collect();
        for peer in touched {
            let address = peer.address;
            let id = match self.peers.get(&address) {
                Some(&id) => self.bgp.update_peer(id, peer).await,
                None => self.bgp.add_peer(peer).await,
            };
            self.peers
                .insert(address, id.with_context(|| format!("peer {address}"))?);
        }
        self.reload_prefixes(dynamic)?;
        if (new.as_number, new.router_id, new.listen())
            != (
                self.config.as_number,
                self.config.router_id,
                self.config.listen(),
            )
        {
            eprintln!("ocicat-bgpd: as, router_id, addr and port change with a restart");
        }
        self.config = new;
        Ok(())
    }

    /// Neighbours by prefix: those of prefixes that are gone are sent away.
    fn reload_prefixes(&self, dynamic: Vec<DynamicPeers>) -> Result<()> {
        let (_, known) = self.config.neighbours()?;
        for known in known {
            if dynamic.iter().all(|dynamic| dynamic.prefix != known.prefix) {
                let cease = Cease::PeerDeconfigured;
                self.bgp.remove_dynamic_peers(known.prefix, cease);
            }
        }
        for dynamic in dynamic {
            self.bgp.add_dynamic_peers(dynamic);
        }
        Ok(())
    }
}
