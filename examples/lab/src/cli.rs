use std::process::{ExitCode, Stdio};

use crate::{
    place, probe, sandbox,
    scenario::{Protocol, Scenario},
    underlay::Underlay,
};

pub fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("__init") => sandbox::init().unwrap_or_else(|e| {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }),
        Some("__inside") => inside(),
        _ => match sandbox::enter("hello", Stdio::null()) {
            Ok(s) => sandbox::exit_code(s),
            Err(e) => {
                eprintln!("{e:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn inside() -> ExitCode {
    let rt = tokio::runtime::Runtime::new().unwrap();
    rt.block_on(async {
        let s = Scenario::parse("x", "racks: [{name: a, cidr: 192.168.10.0/24}, {name: b, cidr: 192.168.20.0/24}]\nnodes: [{name: n1, rack: a},{name: n2, rack: a}, {name: n3, rack: b}]\nhosts: [{name: e1, ip: 203.0.113.10, ports: [{port: 80}, {port: 53, protocol: UDP}]}]\n").unwrap();
        let t = std::time::Instant::now();
        let u = match Underlay::build(&s).await { Ok(u) => u, Err(e) => { eprintln!("{e:?}"); return } };
        eprintln!("built {:?}", t.elapsed());
        let mut v = vec![];
        for (a, p) in &u.nodes { for n in &s.nodes { let _ = a; v.push(probe::Attempt{from: p.clone(), to: (n.ip[0], 0).into(), protocol: Protocol::Icmp, identity: None}); } 
          for (port, proto) in [(80, Protocol::Tcp), (81, Protocol::Tcp), (53, Protocol::Udp), (54, Protocol::Udp)] {
          v.push(probe::Attempt{from: p.clone(), to: (s.hosts[0].ip, port).into(), protocol: proto, identity: Some("host:e1".into())}); }
          for i in 0..200 {  v.push(probe::Attempt{from: p.clone(), to: ("1.2.3.4".parse::<std::net::IpAddr>().unwrap(), i+1).into(), protocol: Protocol::Tcp, identity: Some("host:e1".into())}); }
        }
        let t = std::time::Instant::now();
        let o = probe::run(v, std::time::Duration::from_millis(500)).await;
        eprintln!("probed {:?}", t.elapsed());
        for x in o.iter().filter(|o| o.result != probe::Verdict::Denied) { eprintln!("{x:?}"); }
        if let Ok(mut c) = std::process::Command::new("sh").arg("-c").arg("id; ls -la /run /run/netns /run/ocicat-lab/bin | head -40; ip netns; ps ax | head; ip netns exec n1 ip a; ip netns exec router ip r; mount | tail -8").spawn() { c.wait().unwrap(); }
        let p = u.nodes["n1"].clone();
        p.run(|| { std::process::Command::new("sh").arg("-c").arg("ls -la /run /etc/ocicat /var/lib /run/netns; touch /run/netns/x; cat /etc/hostname; mount | grep netns").status().unwrap(); }).await.unwrap();
        std::process::Command::new("ls").arg("/run/netns").status().unwrap();
    });
    ExitCode::SUCCESS
}
