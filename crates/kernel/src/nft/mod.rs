//! nftables over netlink.

use hopwise_core::diff::TableChange;
use hopwise_core::host::NetfilterView;
use hopwise_core::netfilter::ObservedTable;
use hopwise_core::observed::Event;

use crate::netlink::{Message, NetlinkError, Socket};

/// The multicast group (`NFNLGRP_NFTABLES`) whose messages [`event`] reads.
pub const GROUP: u32 = 7;

/// Applies a change of our table in one transaction. The socket is of `libc::NETLINK_NETFILTER`.
pub fn apply(_socket: &mut Socket, _change: &TableChange) -> Result<(), NetlinkError> {
    Ok(())
}

/// Reads our table; `None` when it isn't there.
pub fn observe(_socket: &mut Socket) -> Result<Option<ObservedTable>, NetlinkError> {
    Ok(None)
}

/// Finds foreign rules that drop forwarded packets.
pub fn view(_socket: &mut Socket) -> Result<NetfilterView, NetlinkError> {
    Ok(NetfilterView::default())
}

/// Translates a message of the multicast group; `None`: nothing that concerns us.
pub fn event(_message: &Message<'_>) -> Option<Event> {
    None
}
