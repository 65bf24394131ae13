//! The speakers that are measured, and how each is told about its peers.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::load::{ADDRESS, AS, ID, peer_address, peer_as};

/// The port that they listen at.
pub(super) const PORT: u16 = 1790;

/// A speaker under test.
#[derive(Clone, Debug)]
pub(super) enum Speaker {
    Ocicat(PathBuf),
    Bird,
    Frr,
    Gobgp,
    Rustybgp(PathBuf),
}

/// What a speaker is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    /// All peers are clients in the same AS; else each is in an AS of its own.
    pub(super) reflector: bool,
    pub(super) peers: usize,
    pub(super) hold: u16,
}

impl Speaker {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ocicat(_) => "ocicat",
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::Gobgp => "gobgp",
            Self::Rustybgp(_) => "rustybgp",
        }
    }

    fn program(&self) -> &Path {
        match self {
            Self::Ocicat(path) | Self::Rustybgp(path) => path,
            Self::Bird => Path::new("/usr/sbin/bird"),
            Self::Frr => Path::new("/usr/lib/frr/bgpd"),
            Self::Gobgp => Path::new("/usr/bin/gobgpd"),
        }
    }

    pub(super) fn is_installed(&self) -> bool {
        self.program().exists()
    }

    /// Those that Debian has packages of.
    pub(super) fn packaged() -> [Self; 3] {
        [Self::Bird, Self::Frr, Self::Gobgp]
    }

    /// FRR says MED 0 where there was none, inside an AS.
    pub(super) fn adds_zero_med(&self) -> bool {
        matches!(self, Self::Frr)
    }

    /// How long after the sessions are up its timers hold routes back, in milliseconds: FRR waits 1 s and 50 ms for
    /// each peer, at most 10 s.
    pub(super) fn settle(&self) -> u64 {
        if matches!(self, Self::Frr) {
            13_000
        } else {
            1_500
        }
    }

    /// Writes a configuration into `folder`; the command line that uses it.
    pub(super) fn command(&self, job: Job, folder: &Path) -> Result<Vec<String>, String> {
        let at = folder.display();
        let program = self.program().display();
        let (file, text, line) = match self {
            Self::Ocicat(_) => (
                "bgpd.json",
                ocicat(job, folder),
                format!("{program} run --config {at}/bgpd.json --listen {ADDRESS}:{PORT}"),
            ),
            Self::Bird => (
                "bird.conf",
                bird(job, folder),
                format!("{program} -f -c {at}/bird.conf -s {at}/bird.ctl -P {at}/bird.pid"),
            ),
            Self::Frr => (
                "frr.conf",
                frr(job, folder),
                format!(
                    "{program} -Z -S -n -p {PORT} -l {ADDRESS} -P 0 --vty_socket {at}/vty -f {at}/frr.conf \
                     -i {at}/bgpd.pid --limit-fds 4096"
                ),
            ),
            Self::Gobgp | Self::Rustybgp(_) => (
                "gobgp.toml",
                gobgp(job),
                format!(
                    "{program} -f {at}/gobgp.toml --api-hosts 127.0.0.1:{}{}",
                    PORT + 10_000,
                    if matches!(self, Self::Gobgp) {
                        " --pprof-disable -l warn"
                    } else {
                        ""
                    }
                ),
            ),
        };
        fs::create_dir_all(folder.join("vty")).map_err(|error| format!("{at}: {error}"))?;
        fs::write(folder.join(file), text).map_err(|error| format!("{at}/{file}: {error}"))?;
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }
}

fn ocicat(job: Job, folder: &Path) -> String {
    let peers: Vec<_> = (0..job.peers)
        .map(|peer| {
            serde_json::json!({
                "addr": peer_address(peer).to_string(), "as": peer_as(job.reflector, peer),
                "rr_client": job.reflector, "passive": true, "gr": false,
            })
        })
        .collect();
    serde_json::json!({
        "as": AS, "router_id": ID.to_string(), "hold": job.hold, "peers": peers,
        "socket": folder.join("control").display().to_string(),
    })
    .to_string()
}

fn bird(job: Job, folder: &Path) -> String {
    let mut text = format!(
        "log \"{}/bird.log\" all; router id {ID}; protocol device {{}}\n\
         protocol static {{ ipv4; route 198.18.0.0/15 via \"lo\"; }}\n",
        folder.display()
    );
    for peer in 0..job.peers {
        let reflect = if job.reflector {
            format!("rr client; rr cluster id {ID};")
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "protocol bgp p{peer} {{ local {ADDRESS} port {PORT} as {AS}; neighbor {} as {}; multihop; passive on; \
             hold time {}; {reflect} graceful restart off; \
             ipv4 {{ import all; export where source = RTS_BGP; }}; }}",
            peer_address(peer),
            peer_as(job.reflector, peer),
            job.hold,
        );
    }
    text
}

fn frr(job: Job, folder: &Path) -> String {
    let mut text = format!(
        "frr defaults traditional\nlog file {}/frr.log\nrouter bgp {AS}\n bgp router-id {ID}\n bgp cluster-id {ID}\n \
         no bgp ebgp-requires-policy\n no bgp network import-check\n timers bgp {} {}\n",
        folder.display(),
        job.hold / 3,
        job.hold,
    );
    for peer in 0..job.peers {
        let neighbor = format!(" neighbor {}", peer_address(peer));
        let _ = writeln!(
            text,
            "{neighbor} remote-as {}\n{neighbor} passive\n{neighbor} update-source {ADDRESS}",
            peer_as(job.reflector, peer)
        );
        if job.reflector {
            let _ = writeln!(text, "{neighbor} route-reflector-client");
        } else {
            let _ = writeln!(
                text,
                "{neighbor} ebgp-multihop 255\n{neighbor} disable-connected-check"
            );
        }
    }
    text
}

fn gobgp(job: Job) -> String {
    let mut text = format!(
        "[global.config]\nas = {AS}\nrouter-id = \"{ID}\"\nport = {PORT}\nlocal-address-list = [\"{ADDRESS}\"]\n"
    );
    for peer in 0..job.peers {
        let _ = writeln!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
             [neighbors.transport.config]\npassive-mode = true\nlocal-address = \"{ADDRESS}\"\n\
             [neighbors.timers.config]\nhold-time = {}\nkeepalive-interval = {}",
            peer_address(peer),
            peer_as(job.reflector, peer),
            job.hold,
            job.hold / 3,
        );
        if job.reflector {
            let _ = writeln!(
                text,
                "[neighbors.route-reflector.config]\nroute-reflector-client = true\n\
                 route-reflector-cluster-id = \"{ID}\""
            );
        } else {
            let _ = writeln!(
                text,
                "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 255"
            );
        }
        let _ = writeln!(
            text,
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\""
        );
    }
    text
}
