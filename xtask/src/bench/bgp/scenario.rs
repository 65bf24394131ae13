//! What a speaker is put through, and what is measured of it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cost::Cost;
use super::field::Field;
use super::load::Load;
use super::speakers::{Job, PORT, Speaker};
use super::wire;

/// By how much ocicat may cost more than others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// So many times what BIRD takes.
    Bird(f64),
    /// So many times what BIRD takes for the measure this many rows above.
    BirdAbove(f64, usize),
    /// So many times what BIRD takes, or so many times what FRR takes.
    BirdOrFrr(f64, f64),
    /// So many times what the best of the others takes.
    Best(f64),
    /// An amount.
    Amount(f64),
}

/// What is measured: name, unit, limit.
pub(super) type Measure = (&'static str, &'static str, Limit);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    /// 100,000 prefixes from one peer to two.
    A,
    /// A million prefixes from one peer to another.
    B,
    /// A reflector with 200 clients of 16 blocks, all to all.
    C,
    /// 20 of 200 clients die.
    Die,
    /// One prefix to 200 clients.
    One,
    /// 200 sessions, 8 at a time.
    Up,
    /// 200 sessions at once.
    Burst,
    /// 200 sessions with hold time 9 and nothing to say.
    Idle,
}

use Limit::{Amount, Best, Bird, BirdAbove, BirdOrFrr};

const TABLE: [Measure; 5] = [
    ("announce", "s", Bird(1.0)),
    ("announce, CPU", "s", Bird(1.0)),
    ("memory", "MiB", Bird(1.0)),
    ("withdraw", "s", Bird(1.0)),
    ("withdraw, CPU", "s", Bird(1.0)),
];

impl Scenario {
    pub(super) const ALL: [Self; 8] = [
        Self::A,
        Self::B,
        Self::C,
        Self::Die,
        Self::One,
        Self::Up,
        Self::Burst,
        Self::Idle,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::C => "c",
            Self::Die => "die",
            Self::One => "one",
            Self::Up => "up",
            Self::Burst => "burst",
            Self::Idle => "idle",
        }
    }

    pub(super) const fn measures(self) -> &'static [Measure] {
        match self {
            Self::A | Self::B => &TABLE,
            Self::C => &[
                ("announce", "s", BirdOrFrr(0.4, 1.15)),
                ("announce, CPU", "s", Bird(0.4)),
                ("memory", "MiB", Amount(12.0)),
                ("withdraw", "s", BirdOrFrr(0.4, 1.15)),
                ("withdraw, CPU", "s", Bird(0.4)),
            ],
            Self::Die => &[("all others know", "ms", Bird(1.0))],
            Self::One => &[
                ("announce, p50", "ms", Bird(0.9)),
                ("withdraw, p50", "ms", BirdAbove(0.9, 1)),
            ],
            Self::Up => &[("200 sessions, 8 at a time", "ms", Best(1.0))],
            Self::Burst => &[("200 sessions at once", "ms", Best(1.0))],
            Self::Idle => &[("CPU", "s", Bird(0.1)), ("memory", "MiB", Amount(12.0))],
        }
    }

    fn job(self) -> Job {
        Job {
            reflector: !matches!(self, Self::A | Self::B),
            peers: match self {
                Self::A => 3,
                Self::B => 2,
                _ => 200,
            },
            hold: if self == Self::Idle { 9 } else { 240 },
        }
    }

    fn load(self) -> Load {
        match self {
            Self::A => Load::internet(100_000),
            Self::B => Load::internet(1_000_000),
            Self::C => Load::nodes(200, 16),
            Self::Die => Load::nodes(20, 16),
            Self::One => Load::nodes(PROBES, 1),
            Self::Up | Self::Burst | Self::Idle => Load::nodes(0, 0),
        }
    }
}

/// How many prefixes one after the other.
const PROBES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(150);

/// A speaker that runs; it ends with this value.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether anybody listens at the port.
fn listening() -> bool {
    let wanted = format!(":{PORT:04X} 00000000:0000 0A");
    std::fs::read_to_string("/proc/net/tcp").is_ok_and(|text| text.contains(&wanted))
}

impl Running {
    fn start(speaker: &Speaker, job: Job, folder: &Path) -> Result<Self, String> {
        if listening() {
            return Err(format!("somebody listens at port {PORT} already"));
        }
        let line = speaker.command(job, folder)?;
        let log = File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{}: {error}", line[0]))?;
        let running = Self { child };
        let begin = Instant::now();
        while !listening() {
            if begin.elapsed() > Duration::from_secs(20) {
                return Err(format!("{} does not listen", line[0]));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // FRR listens before it knows its peers.
        std::thread::sleep(Duration::from_millis(300));
        Ok(running)
    }

    fn cost(&self) -> Result<Cost, String> {
        Cost::of(self.child.id()).ok_or_else(|| "the speaker has ended".to_owned())
    }
}

/// One run; what was measured, in the order of [`Scenario::measures`].
pub(super) fn run(
    scenario: Scenario,
    speaker: &Speaker,
    idle: Duration,
) -> Result<Vec<f64>, String> {
    let folder = std::env::temp_dir().join(format!("ocicat-bench-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let job = scenario.job();
    let mut field = Field::new(job, scenario.load(), speaker.adds_zero_med())?;
    let running = Running::start(speaker, job, &folder)?;
    if scenario == Scenario::Burst {
        field.pace = usize::MAX;
    }
    let up = field.bring_up(PATIENCE).ok_or("not all sessions came up")?;
    let result = match scenario {
        Scenario::Up | Scenario::Burst => Ok(vec![up.as_secs_f64() * 1e3]),
        Scenario::Idle => rest(&mut field, &running, idle),
        Scenario::One => probe(&mut field, speaker),
        Scenario::Die => die(&mut field, speaker),
        Scenario::A | Scenario::B | Scenario::C => table(&mut field, &running, speaker),
    };
    drop(running);
    let _ = std::fs::remove_dir_all(&folder);
    if field.fault_count > 0 {
        let first = field.faults.join("; ");
        return Err(format!("{} faults: {first}", field.fault_count));
    }
    result
}

fn rest(field: &mut Field, running: &Running, idle: Duration) -> Result<Vec<f64>, String> {
    field.run(Duration::from_secs(3));
    let before = running.cost()?;
    field.run(idle);
    let after = running.cost()?;
    Ok(vec![after.cpu - before.cpu, after.memory])
}

/// Everything is announced, held by everybody, and withdrawn.
fn table(field: &mut Field, running: &Running, speaker: &Speaker) -> Result<Vec<f64>, String> {
    field.run(Duration::from_millis(speaker.settle()));
    let (senders, all) = (field.load.announce.len(), field.peers.len());
    let receivers = if senders == all { 0 } else { senders };
    for (at, peer) in field.peers.iter_mut().enumerate() {
        let own = field
            .load
            .owner
            .iter()
            .filter(|&&owner| usize::from(owner) == at);
        peer.want(field.load.nets.len() - own.count());
    }
    let mut measured = Vec::new();
    for withdraw in [false, true] {
        if withdraw {
            field.peers.iter_mut().for_each(|peer| peer.want(0));
        }
        let before = running.cost()?;
        let begin = Instant::now();
        for at in 0..senders {
            let load = &mut field.load;
            let messages = if withdraw {
                &mut load.withdraw
            } else {
                &mut load.announce
            };
            let bytes = std::mem::take(&mut messages[at]);
            field.peers[at].output.extend_from_slice(&bytes);
            field.send(at);
        }
        let done = field
            .until_done(receivers..all, PATIENCE)
            .ok_or_else(|| field.missing())?;
        let after = running.cost()?;
        measured.extend([(done - begin).as_secs_f64(), after.cpu - before.cpu]);
        if !withdraw {
            measured.push(after.memory);
            field.run(Duration::from_millis(200));
        }
    }
    Ok(measured)
}

fn die(field: &mut Field, speaker: &Speaker) -> Result<Vec<f64>, String> {
    field.run(Duration::from_millis(speaker.settle()));
    let (senders, all) = (field.load.announce.len(), field.peers.len());
    let nets = field.load.nets.len();
    field.peers.iter_mut().for_each(|peer| peer.want(nets));
    for at in 0..senders {
        let bytes = std::mem::take(&mut field.load.announce[at]);
        field.peers[at].output.extend_from_slice(&bytes);
        field.send(at);
    }
    field
        .until_done(senders..all, PATIENCE)
        .ok_or_else(|| field.missing())?;
    field.run(Duration::from_millis(200));
    field.peers.iter_mut().for_each(|peer| peer.want(0));
    let begin = Instant::now();
    for peer in &mut field.peers[..senders] {
        peer.close();
        peer.retry_at = None;
    }
    let done = field
        .until_done(senders..all, PATIENCE)
        .ok_or("not all heard of it")?;
    Ok(vec![(done - begin).as_secs_f64() * 1e3])
}

/// One prefix at a time, from one client after the other, until the slowest has it, and back.
fn probe(field: &mut Field, speaker: &Speaker) -> Result<Vec<f64>, String> {
    field.run(Duration::from_millis(speaker.settle()));
    let mut times = [Vec::new(), Vec::new()];
    let all = field.peers.len();
    for at in 0..PROBES {
        for (withdraw, times) in times.iter_mut().enumerate() {
            for (other, peer) in field.peers.iter_mut().enumerate() {
                peer.want(usize::from(withdraw == 0 && other != at));
            }
            let begin = Instant::now();
            let net = [field.load.nets[at]];
            if withdraw == 0 {
                let bytes = std::mem::take(&mut field.load.announce[at]);
                field.peers[at].output.extend_from_slice(&bytes);
            } else {
                wire::withdraw(&net, &mut field.peers[at].output);
            }
            field.send(at);
            let done = field
                .until_done(0..all, PATIENCE)
                .ok_or("not all heard of it")?;
            times.push((done - begin).as_secs_f64() * 1e3);
            field.run(Duration::from_millis(2));
        }
    }
    Ok(times.map(median).to_vec())
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
