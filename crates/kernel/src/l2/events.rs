//! Waking up when something happens to the uplink or the bridge.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use hopwise_core::l2::value::Wanted;

use crate::netlink::{Message, NetlinkError, Socket};
use crate::rt;

/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// Datagrams read in one go, against a kernel that talks faster than we listen.
const DATAGRAMS: usize = 10_000;

/// Notifications about links, addresses and routes of the namespace of the thread that opens it.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    /// The indices of the two links, as far as they have been told.
    known: BTreeSet<u32>,
}

impl Events {
    /// Joins the multicast groups.
    pub fn open() -> Result<Events, NetlinkError> {
        let socket = Socket::open(libc::NETLINK_ROUTE)?;
        socket.set_receive_buffer(4 << 20);
        for group in GROUPS {
            // A kernel without IPv6 has not all of them, and nobody speaks there.
            let _ = socket.join(group);
        }
        Ok(Events { socket, known: BTreeSet::new() })
    }

    /// The socket to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Finds out which indices the two links have, so that what is said of others is told apart.
    pub fn learn(&mut self, wanted: Wanted) -> Result<(), NetlinkError> {
        let links = super::read::indices(&mut Socket::open(libc::NETLINK_ROUTE)?)?;
        self.known =
            [wanted.uplink, wanted.bridge].iter().filter_map(|name| links.get(name).copied()).collect();
        Ok(())
    }

    /// Reads all that waits; whether any of it is about one of the two links. Lost notifications may have been.
    pub fn drain(&mut self, wanted: Option<Wanted>) -> Result<bool, NetlinkError> {
        let mut concerned = false;
        for _ in 0..DATAGRAMS {
            let Events { socket, known } = self;
            match socket.read_notifications(|message| {
                concerned |= wanted.is_some_and(|wanted| concerns(&message, wanted, known));
            }) {
                Ok(true) => {}
                Ok(false) => break,
                Err(NetlinkError::Overrun) => concerned = wanted.is_some(),
                Err(error) => return Err(error),
            }
        }
        Ok(concerned)
    }
}

/// Whether a notification is about one of the two links, which are known by the indices that link messages gave them.
fn concerns(message: &Message<'_>, wanted: Wanted, known: &mut BTreeSet<u32>) -> bool {
    match message.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            let Some(fixed) = message.fixed::<16>() else { return false };
            let index = u32::from_ne_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
            let name = message.attributes(16).find(libc::IFLA_IFNAME);
            let named = name
                .and_then(|name| name.str())
                .is_some_and(|name| name == wanted.uplink.as_str() || name == wanted.bridge.as_str());
            if named {
                known.insert(index);
            }
            // One that was renamed was one of them.
            named || known.remove(&index)
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            rt::address::decode(message).is_some_and(|address| of_link(known, Some(address.link)))
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            rt::route::decode(message).is_some_and(|route| route.multipath || of_link(known, route.link))
        }
        _ => false,
    }
}

/// A deleted IPv4 route may name no link.
fn of_link(known: &BTreeSet<u32>, link: Option<u32>) -> bool {
    link.is_none_or(|link| known.contains(&link))
}
