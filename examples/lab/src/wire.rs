//! Links, addresses and routes of the underlay, over rtnetlink.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::TryStreamExt;
use ocicat_dataplane::Prefix;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::place::Place;

/// rtnetlink in one place.
#[derive(Clone, Debug)]
pub struct Wire {
    place: String,
    handle: Handle,
}

impl Wire {
    /// Opens a netlink socket in `place`.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub async fn open(place: &Place) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let opened = place.run(move || {
            let _entered = runtime.enter();
            rtnetlink::new_connection()
        });
        let (connection, handle, _) = opened
            .await?
            .with_context(|| format!("netlink in {}", place.name()))?;
        tokio::spawn(connection);
        Ok(Self {
            place: place.name().to_owned(),
            handle,
        })
    }

    /// The number of the link of that name.
    ///
    /// # Errors
    /// When there is no such link.
    pub async fn index(&self, link: &str) -> Result<u32> {
        let mut found = self
            .handle
            .link()
            .get()
            .match_name(link.to_owned())
            .execute();
        let message = found.try_next().await.with_context(|| self.at(link))?;
        Ok(message
            .ok_or_else(|| anyhow!("{}: no such link", self.at(link)))?
            .header
            .index)
    }

    /// The names of all links.
    ///
    /// # Errors
    /// When netlink fails.
    pub async fn links(&self) -> Result<Vec<String>> {
        let messages: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await?;
        let name = |message: LinkMessage| {
            message
                .attributes
                .into_iter()
                .find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name),
                    _ => None,
                })
        };
        Ok(messages.into_iter().filter_map(name).collect())
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// When there is no such link.
    pub async fn up(&self, link: &str) -> Result<()> {
        let index = self.index(link).await?;
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .with_context(|| self.at(link))
    }

    /// Makes a bridge and sets it up.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn bridge(&self, name: &str) -> Result<()> {
        let message = LinkBridge::new(name).up().build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .with_context(|| self.at(name))
    }

    /// Makes a veth pair: `here` in this place, `there` in `other`; both down.
    ///
    /// # Errors
    /// When the kernel refuses it, for one because a name is taken.
    pub async fn veth(&self, here: &str, other: &Place, there: &str) -> Result<()> {
        let mut message = LinkVeth::new(here, there).build();
        let peer = message
            .attributes
            .iter_mut()
            .find_map(peer_of)
            .context("a veth message without its peer")?;
        peer.attributes
            .push(LinkAttribute::NetNsFd(other.raw_network()));
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .with_context(|| self.at(here))
    }

    /// Makes `link` a port of `bridge` and sets it up.
    ///
    /// # Errors
    /// When one of them does not exist.
    pub async fn join(&self, link: &str, bridge: &str) -> Result<()> {
        let (index, bridge) = (self.index(link).await?, self.index(bridge).await?);
        let message = LinkUnspec::new_with_index(index)
            .controller(bridge)
            .up()
            .build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .with_context(|| self.at(link))
    }

    /// Waits until a link carries packets. The kernel notices a carrier up to a second late, and answers nothing by
    /// routes over the link until then.
    ///
    /// # Errors
    /// When it does not for ten seconds.
    pub async fn carries(&self, link: &str) -> Result<()> {
        for _ in 0..2000 {
            let mut found = self
                .handle
                .link()
                .get()
                .match_name(link.to_owned())
                .execute();
            let message = found.try_next().await.with_context(|| self.at(link))?;
            let lower_up = message.is_some_and(|message| {
                message.header.flags.contains(LinkFlags::Running)
                    && message.header.flags.contains(LinkFlags::LowerUp)
            });
            if lower_up {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("{}: no carrier after 10 s", self.at(link))
    }

    /// Removes a link; one that is gone already is no error.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn remove(&self, link: &str) -> Result<()> {
        let Ok(index) = self.index(link).await else {
            return Ok(());
        };
        self.handle
            .link()
            .del(index)
            .execute()
            .await
            .with_context(|| self.at(link))
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// When there is no such link.
    pub async fn address(&self, link: &str, address: IpAddr, length: u8) -> Result<()> {
        let index = self.index(link).await?;
        self.handle
            .address()
            .add(index, address, length)
            .execute()
            .await
            .with_context(|| self.at(link))
    }

    /// Adds a route; a length of 0 makes it the default one, without a gateway it is on the link.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn route(&self, to: (IpAddr, u8), gateway: Option<IpAddr>, link: &str) -> Result<()> {
        let index = self.index(link).await?;
        let message = match (to.0, gateway) {
            (IpAddr::V4(destination), Some(IpAddr::V4(gateway))) => {
                let route = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(destination, to.1)
                    .output_interface(index);
                route.gateway(gateway).onlink().build()
            }
            (IpAddr::V6(destination), Some(IpAddr::V6(gateway))) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(destination, to.1)
                    .output_interface(index);
                route.gateway(gateway).onlink().build()
            }
            (IpAddr::V4(destination), None) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(destination, to.1)
                .output_interface(index)
                .scope(RouteScope::Link)
                .build(),
            (IpAddr::V6(destination), None) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(destination, to.1)
                .output_interface(index)
                .build(),
            (_, Some(gateway)) => bail!("{gateway} is no gateway to {}", to.0),
        };
        let adding = self.handle.route().add(message).execute().await;
        adding.with_context(|| format!("{}: a route to {}/{}", self.at(link), to.0, to.1))
    }

    /// The routes of the main tables, of both families.
    ///
    /// # Errors
    /// When netlink fails.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        let all = [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ];
        let mut routes = Vec::new();
        for question in all {
            let messages = self.handle.route().get(question).execute();
            let messages: Vec<RouteMessage> = messages.try_collect().await?;
            let main = messages
                .iter()
                .filter(|message| message.header.table == MAIN_TABLE);
            routes.extend(main.filter_map(Route::of));
        }
        Ok(routes)
    }

    fn at(&self, link: &str) -> String {
        format!("{} in {}", link, self.place)
    }
}

/// The number of the routing table that programs use unless they say otherwise.
const MAIN_TABLE: u8 = 254;

/// A route, as far as the lab looks at it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where it leads.
    pub to: Prefix,
    /// Who made it: 80 for ocicat.
    pub protocol: u8,
    /// Whether packets for it are thrown away.
    pub blackhole: bool,
    /// The gateway, if it has one.
    pub gateway: Option<IpAddr>,
}

/// The number by which the kernel knows ocicat's routes.
pub const OCICAT: u8 = 80;
/// The numbers by which it knows those of the speakers that the router may run: ours, BIRD's and FRR's.
const SPEAKERS: [u8; 3] = [OCICAT, 12, 186];

impl Route {
    /// Whether a node's agent or the router's speaker made it.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        SPEAKERS.contains(&self.protocol)
    }

    fn of(message: &RouteMessage) -> Option<Self> {
        let everything = match message.header.address_family {
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let (mut destination, mut gateway) = (everything, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = plain(address)?,
                RouteAttribute::Gateway(address) => gateway = plain(address),
                _ => {}
            }
        }
        Some(Self {
            to: Prefix::containing(destination, message.header.destination_prefix_length).ok()?,
            protocol: message.header.protocol.into(),
            blackhole: message.header.kind == RouteType::BlackHole,
            gateway,
        })
    }
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// The half of a veth message that describes the other end.
fn peer_of(attribute: &mut LinkAttribute) -> Option<&mut LinkMessage> {
    let LinkAttribute::LinkInfo(infos) = attribute else {
        return None;
    };
    infos.iter_mut().find_map(|info| match info {
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))) => Some(peer),
        _ => None,
    })
}

/// Writes a network parameter of `place`, such as `ipv4/ip_forward`.
///
/// # Errors
/// When the parameter does not exist or is read-only, as `/proc/sys` is in some containers.
pub async fn parameter(place: &Place, name: &str, value: &str) -> Result<()> {
    let (path, value) = (format!("/proc/sys/net/{name}"), value.to_owned());
    let what = format!("setting {path} to {value} in {}", place.name());
    place
        .run(move || fs::write(path, value))
        .await?
        .context(what)
}
