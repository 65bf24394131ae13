//! The kernel's side: a bridge for the network, and a veth pair for each attachment.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use ipnetwork::Ipv4Network;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use ocicat_cni::CniError;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{Error, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

const EEXIST: i32 = -17;
const ENODEV: i32 = -19;

/// Runs a job with a netlink socket of the current thread's network namespace.
pub(crate) fn netlink<T>(
    what: &str,
    job: impl AsyncFnOnce(Handle) -> Result<T, Error>,
) -> Result<T, CniError> {
    crate::runtime()?.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|cause| CniError::io("opening netlink", cause))?;
        tokio::spawn(connection);
        job(handle).await.map_err(|cause| CniError::io(what, cause))
    })
}

/// Runs a job in another network namespace, on a thread that ends afterwards.
pub(crate) fn within<T: Send>(
    netns: &File,
    job: impl FnOnce() -> Result<T, CniError> + Send,
) -> Result<T, CniError> {
    let enter = || {
        let entered = setns(netns.as_fd(), CloneFlags::CLONE_NEWNET);
        entered.map_err(|errno| CniError::environment("CNI_NETNS", errno))?;
        job()
    };
    let joined = std::thread::scope(|scope| scope.spawn(enter).join());
    joined.unwrap_or_else(|_| Err(CniError::internal("a thread panicked")))
}

pub(crate) fn exists(link: &str) -> bool {
    if_nametoindex(link).is_ok()
}

fn index(link: &str) -> Result<u32, Error> {
    if_nametoindex(link).map_err(|_| Error::RequestFailed)
}

/// A refusal of the kernel is a success when it means that there is nothing to do.
fn unless(fine: i32, outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(Error::NetlinkError(error)) if error.raw_code() == fine => Ok(()),
        outcome => outcome,
    }
}

/// Makes the bridge with the gateway's address when it is not there, and a pair whose one end is a port of it, while the
/// other is born inside the container.
pub(crate) fn connect(
    (bridge, gateway): (&str, Ipv4Network),
    (host, inside): (&str, &str),
    netns: &File,
) -> Result<(), CniError> {
    netlink("connecting the container to the bridge", async |netlink| {
        let made = netlink.link().add(LinkBridge::new(bridge).up().build());
        unless(EEXIST, made.execute().await)?;
        let bridge = index(bridge)?;
        let addresses = netlink.address();
        let address = addresses.add(bridge, gateway.ip().into(), gateway.prefix());
        unless(EEXIST, address.execute().await)?;
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(inside.to_owned()),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
        ];
        let pair = LinkMessageBuilder::<LinkVeth>::new(host, inside)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        let pair = pair.controller(bridge).up().build();
        netlink.link().add(pair).execute().await
    })
}

/// Sets address and default route inside the container.
pub(crate) fn configure(
    netns: &File,
    link: &str,
    address: Ipv4Network,
    gateway: Ipv4Addr,
) -> Result<(), CniError> {
    let work = || {
        netlink("configuring the container", async |netlink| {
            let at = index(link)?;
            let addresses = netlink.address();
            let added = addresses.add(at, address.ip().into(), address.prefix());
            added.execute().await?;
            let up = LinkUnspec::new_with_index(at).up().build();
            netlink.link().set(up).execute().await?;
            let route = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway);
            let route = netlink.route().add(route.output_interface(at).build());
            // A second interface of a container finds a default route there already.
            unless(EEXIST, route.execute().await)
        })
    };
    within(netns, work)
}

/// Removes the pair; one that is gone, or goes at the same time, is as good as removed.
pub(crate) fn remove(link: &str) -> Result<(), CniError> {
    let Ok(at) = if_nametoindex(link) else {
        return Ok(());
    };
    netlink("removing the link", async |netlink| {
        unless(ENODEV, netlink.link().del(at).execute().await)
    })
}

fn entries(link: &str) -> Result<impl Iterator<Item = nix::ifaddrs::InterfaceAddress>, CniError> {
    let all = nix::ifaddrs::getifaddrs();
    let all = all.map_err(|errno| CniError::io("reading addresses", errno))?;
    Ok(all.filter(move |entry| entry.interface_name == link))
}

/// The hardware address of a link in the current thread's namespace. podman refuses a result without.
pub(crate) fn mac(link: &str) -> Result<String, CniError> {
    let mac = |entry: nix::ifaddrs::InterfaceAddress| entry.address?.as_link_addr()?.addr();
    let mac = entries(link)?.find_map(mac).unwrap_or_default();
    Ok(mac.map(|byte| format!("{byte:02x}")).join(":"))
}

/// The addresses of a link in the current thread's namespace.
pub(crate) fn addresses(link: &str) -> Result<Vec<IpAddr>, CniError> {
    let of_link = entries(link)?;
    let v4 =
        |entry: nix::ifaddrs::InterfaceAddress| Some(entry.address?.as_sockaddr_in()?.ip().into());
    Ok(of_link.filter_map(v4).collect())
}
