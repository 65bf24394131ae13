//! The node reaches a Service whose pod is on another node, behind a tunnel: the question leaves with the tunnel's address,
//! so that the answer comes back the same way.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use ocicat_dataplane::hop::{Encapsulation, When};
use ocicat_dataplane::linux::{LinuxDataplane, Options};

use crate::pair::two;
use crate::sandbox::{inside, ip, node};

/// As kube-proxy translates what the node itself sends to a Service.
const SERVICES: &str = "table ip s { chain o { type nat hook output priority -100; \
    ip daddr 10.96.0.1 tcp dport 80 dnat to 10.2.0.5:8080; }; }; \
    table ip6 s { chain o { type nat hook output priority -100; \
    ip6 daddr fd96::1 tcp dport 80 dnat to [fd00:2::5]:8080; }; };";

fn reached_from(pools: Encapsulation, families: &[(bool, &str, &str)]) {
    let (one, two) = two();
    let mut first = inside(&one.namespace, || {
        LinuxDataplane::new(Options::default()).unwrap()
    });
    let mut second = two.kernel();
    one.apply(&mut first, &one.state(&two, pools));
    two.apply(&mut second, &two.state(&one, pools));
    inside(&one.namespace, || {
        let done = Command::new("nft").arg(SERVICES).status().unwrap();
        assert!(done.success());
        // Where Services' addresses seem to be: the node sends from its uplink's address.
        ip("route add 10.96.0.0/12 dev up0");
        ip("route add fd96::/64 dev up0");
    });
    for (v4, service, expected) in families {
        let own = SocketAddr::new(two.pod_address(*v4), 8080);
        let server = inside(&two.pod, || TcpListener::bind(own).unwrap());
        let to: SocketAddr = service.parse().unwrap();
        let connected = inside(&one.namespace, || {
            TcpStream::connect_timeout(&to, Duration::from_secs(10))
        });
        let connected = connected.unwrap_or_else(|error| panic!("{service}: {error}"));
        let (_, client) = server.accept().unwrap();
        assert_eq!(
            client.ip(),
            expected.parse::<IpAddr>().unwrap(),
            "{service}"
        );
        drop(connected);
    }
}

#[test]
fn through_vxlan_it_comes_from_the_tunnels_address() {
    node(|| {
        let pools = Encapsulation {
            vxlan: When::Always,
            ipip: When::Never,
        };
        reached_from(
            pools,
            &[
                (true, "10.96.0.1:80", "10.1.0.1"),
                (false, "[fd96::1]:80", "fd00:1::1"),
            ],
        );
    });
}

/// `cargo xtask vm` runs it in a kernel that has IP in IP.
#[test]
#[ignore = "needs a kernel with ipip"]
fn through_ip_in_ip_it_comes_from_the_tunnels_address() {
    node(|| {
        let pools = Encapsulation {
            vxlan: When::Never,
            ipip: When::Always,
        };
        reached_from(pools, &[(true, "10.96.0.1:80", "10.1.0.1")]);
    });
}
