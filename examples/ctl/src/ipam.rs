//! `ipam`: addresses.

mod census;
mod collect;
mod configure;
mod picture;
mod report;
mod show;

use std::sync::Arc;

use ocicat_datastore::ipam::StoreIpam;
use ocicat_ipam::{BlockAffine, Ipam};

use crate::cli;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Format;

/// Does what the arguments say.
///
/// # Errors
/// [`Failure::Found`] when a check found something.
pub async fn run(at: &Connection, command: cli::Ipam, format: Format) -> Result<(), Failure> {
    match command {
        cli::Ipam::Show {
            show_blocks,
            show_borrowed,
            show_configuration,
            ip,
            picture,
        } => {
            if show_configuration {
                return configure::show(at, format).await;
            }
            if let Some(address) = ip {
                return show::address(at, address, format).await;
            }
            if show_borrowed {
                return show::borrowed(at, format).await;
            }
            show::pools(at, show_blocks, picture, format).await
        }
        cli::Ipam::Check {
            report,
            show_all_ips,
        } => report::check(at, report.as_deref(), show_all_ips, format).await,
        cli::Ipam::Release { ip, from_report } => {
            report::release(at, &ip, &from_report, format).await
        }
        cli::Ipam::Configure {
            strict_affinity,
            auto_allocate_blocks,
            max_blocks_per_host,
            ip_cooldown_seconds,
        } => {
            let change = configure::Change {
                strict_affinity,
                auto_allocate_blocks,
                max_blocks_per_host,
                ip_cooldown_seconds,
            };
            configure::run(at, &change, format).await
        }
        cli::Ipam::Gc { dry_run } => collect::run(at, dry_run, format).await,
    }
}

fn ipam(at: &Connection) -> Ipam {
    let port = StoreIpam::new(at.store.clone());
    Ipam::new(Arc::new(port), Box::new(BlockAffine))
}
