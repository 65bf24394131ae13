//! What attaching and detaching a pod costs, beside a floor: the same messages, made beforehand, on sockets that are
//! open already.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use ocicat_dataplane::state::LinkName;
use ocicat_dataplane::{Attach as _, Attachment, Detachment, LinuxAttach};

use crate::floor::Floor;
use crate::{container, ip};

pub(crate) fn bench(count: usize) {
    let attach = LinuxAttach::new();
    let (mut times, mut removals) = (Vec::new(), Vec::new());
    let (mut floors, mut floor_removals, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    // Made beforehand and held: a namespace that ends keeps the kernel busy, and its lock taken.
    let pods: Vec<_> = (0..count).map(attachment).collect();
    let mut bare: Vec<_> = (0..count).map(|at| Floor::new(&attachment(at))).collect();
    // In turns, so that all see the same machine.
    for (at, (wanted, floor)) in pods.iter().zip(&mut bare).enumerate() {
        let mut ours = || {
            let started = Instant::now();
            attach.attach(wanted).expect("an attachment");
            times.push(started.elapsed());
            let detachment = Detachment {
                host_link: wanted.host_link.clone(),
                alias: wanted.alias.clone(),
            };
            let started = Instant::now();
            attach.detach(&detachment).expect("a detachment");
            removals.push(started.elapsed());
        };
        if at % 2 == 0 {
            ours();
        }
        floors.push(floor.attach());
        assert_eq!(
            attach.check(floor.attachment()),
            Ok(vec![]),
            "the floor is not the same"
        );
        floor_removals.push(floor.detach());
        if at % 2 == 1 {
            ours();
        }
        if at % 4 == 0 {
            peers.push(peer(at));
        }
    }
    drop((pods, bare));
    let ours = percentiles("attach", &mut times);
    let floor = percentiles("floor: the same messages, prebuilt", &mut floors);
    percentiles("peer: ip -batch twice", &mut peers);
    println!(
        "{{\"bench\":\"attach\",\"what\":\"attach / floor, medians\",\"ratio\":{:.2}}}",
        ours / floor
    );
    percentiles("detach", &mut removals);
    percentiles("floor: the kernel's RTM_DELLINK", &mut floor_removals);
    crate::detach::bench((count / 4).max(1), |at| Floor::new(&attachment(at)));
}

fn attachment(at: usize) -> Attachment {
    let link = LinkName::new(format!("cali{at:011x}")).expect("a name");
    let address = IpAddr::V4(Ipv4Addr::from(
        0x0a00_0000 + u32::try_from(at).expect("small"),
    ));
    let inner = LinkName::new("eth0").expect("a name");
    Attachment::new(container(), inner, link, format!("{at}/eth0")).addresses([address])
}

/// The same with ip(8): one process a side.
fn peer(at: usize) -> Duration {
    let pod = container();
    let holder = holder(&pod);
    // The namespace lives on with its holder.
    let started = Instant::now();
    run_batch(&format!(
        "link add cali{at:011x} address ee:ee:ee:ee:ee:ee mtu 1500 type veth peer name eth0 mtu 1500 netns {holder}\n\
         link set cali{at:011x} alias {at}/eth0 up\nroute add 10.0.0.1/32 dev cali{at:011x} proto 80\n",
    ));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            setns(pod.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
            run_batch(
                "link set lo up\nlink set eth0 up\naddr add 10.0.0.1/32 dev eth0\nroute add 169.254.1.1 dev eth0\n\
                 route add default via 169.254.1.1\nneigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent\n",
            );
        });
    });
    let took = started.elapsed();
    ip(&format!("link del cali{at:011x}"));
    took
}

/// The id of a thread that sits in the namespace for as long as the benchmark runs: what ip(8) takes.
fn holder(pod: &Arc<OwnedFd>) -> i32 {
    let (tell, told) = std::sync::mpsc::channel();
    let pod = pod.try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        setns(pod.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
        tell.send(nix::unistd::gettid().as_raw())
            .expect("a listener");
        std::thread::park();
    });
    told.recv().expect("a thread")
}

fn run_batch(script: &str) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), script.as_bytes())
        .expect("a pipe");
    assert!(child.wait().expect("ip").success(), "{script}");
}

/// Prints; the median in microseconds.
pub(crate) fn percentiles(what: &str, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
    println!(
        "{{\"bench\":\"attach\",\"what\":\"{what}\",\"count\":{},\"min_us\":{:.0},\"p50_us\":{:.0},\"p99_us\":{:.0}}}",
        times.len(),
        at(0),
        at(50),
        at(99)
    );
    at(50)
}
