use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::Socket;
use crate::KernelError;

/// The number that a namespace has in that of the socket; `None` when it has none, since no link leads there.
pub(crate) fn number(
    socket: &mut Socket,
    namespace: BorrowedFd<'_>,
) -> Result<Option<i32>, KernelError> {
    let mut message = NsidMessage::default();
    let file = u32::try_from(namespace.as_raw_fd()).unwrap_or(u32::MAX);
    message.attributes.push(NsidAttribute::Fd(file));
    let RouteNetlinkMessage::NewNsId(found) = socket.get(RouteNetlinkMessage::GetNsId(message))?
    else {
        return Ok(None);
    };
    Ok(found
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NsidAttribute::Id(number) if *number >= 0 => Some(*number),
            _ => None,
        }))
}
