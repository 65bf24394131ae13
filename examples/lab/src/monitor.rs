//! What `ip monitor route` would print in a place.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::place::Place;

/// Listens to changes of routes; dropping it stops that.
#[derive(Debug)]
pub struct Monitor {
    place: String,
    lines: Arc<Mutex<Vec<String>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Monitor {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the netlink socket cannot be opened.
    pub async fn start(place: &Place) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let opened = place.run(move || {
            let _entered = runtime.enter();
            new_multicast_connection(&[MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route])
        });
        let (connection, _, mut messages) = opened
            .await?
            .with_context(|| format!("netlink in {}", place.name()))?;
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = lines.clone();
        let listening = tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                if let NetlinkPayload::InnerMessage(inner) = message.payload {
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(line(&inner));
                }
            }
        });
        let tasks = [tokio::spawn(connection), listening];
        Ok(Self {
            place: place.name().to_owned(),
            lines,
            tasks,
        })
    }

    /// Listens to every machine but one.
    ///
    /// # Errors
    /// When a netlink socket cannot be opened.
    pub async fn everywhere_but(cluster: &Cluster, name: &str) -> Result<Vec<Self>> {
        let nodes = cluster.underlay.nodes.values();
        let machines = nodes.chain([&cluster.underlay.router]);
        let mut monitors = Vec::new();
        for machine in machines.filter(|machine| machine.name() != name) {
            monitors.push(Self::start(machine).await?);
        }
        Ok(monitors)
    }

    /// What was seen so far, with the place in front.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .map(|line| format!("{}: {line}", self.place))
            .collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn line(message: &RouteNetlinkMessage) -> Option<String> {
    match message {
        RouteNetlinkMessage::NewRoute(route) => Some(format!("new {}", shown(route))),
        RouteNetlinkMessage::DelRoute(route) => Some(format!("deleted {}", shown(route))),
        _ => None,
    }
}

fn shown(route: &RouteMessage) -> String {
    let destination = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(address.to_string()),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(address.to_string()),
            _ => None,
        });
    let destination = destination.unwrap_or_else(|| "0.0.0.0".to_owned());
    format!(
        "{destination}/{} protocol {:?}",
        route.header.destination_prefix_length, route.header.protocol
    )
}
