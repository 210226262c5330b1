//! What the kernel tells by itself: netlink multicast, translated into [`Event`]s.
//!
//! Open a watch before the first observation, and replay its events on what was observed: then nothing is missed, however
//! long the dumps took. Events say what is ours and changed, and that the host changed in a way that planning could care
//! about. Everything else that a busy node says is dropped here: ARP states, counters, the veths, addresses and routes of
//! its own pods.

mod state;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use hopwise_core::cidr::Cidr;
use hopwise_core::name::LinkName;
use hopwise_core::observed::Event;

use crate::netlink::{NetlinkError, Socket};
use crate::nft;
use state::State;

/// Room for some 10,000 notifications that wait while we are busy. Only what is waiting takes memory, and not ours.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Datagrams read in one go. Against a kernel that talks faster than we listen, for ever.
const DATAGRAMS: usize = 20_000;

/// `RTNLGRP_*`: links, neighbours, addresses, routes, rules and netconf of both families, nexthop objects.
const ROUTE_GROUPS: [u32; 11] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25, 32];

/// Why nothing can be said about what changed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel dropped notifications. Everything has to be observed again; the watch itself goes on.
    #[error("kernel notifications came faster than they were read, and some are lost")]
    Overrun,
    /// A socket failed.
    #[error("can't read kernel notifications")]
    Socket(#[source] NetlinkError),
}

impl From<NetlinkError> for WatchError {
    fn from(error: NetlinkError) -> WatchError {
        match error {
            NetlinkError::Overrun => WatchError::Overrun,
            error => WatchError::Socket(error),
        }
    }
}

/// What planning reads of the host, so that other changes need not wake it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// The cluster's pod networks: foreign routes that overlap them matter.
    pub pod_networks: Vec<Cidr>,
    /// This node's pod CIDRs: routes and addresses of single pods in them do not matter.
    pub own_pod_cidrs: Vec<Cidr>,
    /// Addresses that were looked up ([`hopwise_core::plan::lookup_targets`]): foreign routes that cover one, and
    /// foreign permanent neighbour entries for one, matter.
    pub lookups: BTreeSet<IpAddr>,
    /// Links that our routes and tunnels go out through: whatever becomes of them matters.
    pub uplinks: BTreeSet<LinkName>,
}

/// Sockets that listen in one network namespace, that of the thread that opens them.
#[derive(Debug)]
pub struct Watch {
    route: Socket,
    netfilter: Socket,
    /// For reading again what notifications were lost about.
    query: Socket,
    state: State,
}

impl Watch {
    /// Joins the multicast groups and reads what is needed to understand notifications. Until [`Watch::set_interest`]
    /// says otherwise, every change of the host is an event.
    pub fn open() -> Result<Watch, WatchError> {
        Watch::with_buffer(RECEIVE_BUFFER)
    }

    /// [`Watch::open`] with receive buffers of another size, in bytes.
    pub fn with_buffer(bytes: usize) -> Result<Watch, WatchError> {
        let route = Socket::open(libc::NETLINK_ROUTE)?;
        route.set_receive_buffer(bytes);
        for group in ROUTE_GROUPS {
            // Kernels without IPv6, or before 5.3, lack some groups; then nobody sends to them either.
            let _ = route.join(group);
        }
        let netfilter = match Socket::open(libc::NETLINK_NETFILTER) {
            Ok(socket) => {
                socket.set_receive_buffer(bytes);
                let _ = socket.join(nft::GROUP);
                socket
            }
            // No netfilter, no notifications: a socket that stays silent stands in.
            Err(_) => Socket::open(libc::NETLINK_ROUTE)?,
        };
        let mut query = Socket::open(libc::NETLINK_ROUTE)?;
        let state = State::load(&mut query)?;
        Ok(Watch { route, netfilter, query, state })
    }

    /// Says what planning reads, so that other changes are no events.
    pub fn set_interest(&mut self, interest: Interest) {
        self.state.set_interest(interest);
    }

    /// Appends what has changed since the last call. Never waits.
    ///
    /// After [`WatchError::Overrun`] nothing is appended: everything has to be observed again, and the next call gives
    /// what changes from now on.
    pub fn read(&mut self, events: &mut Vec<Event>) -> Result<(), WatchError> {
        let before = events.len();
        let drained = self.drain(events);
        self.state.finish(events);
        if matches!(drained, Err(WatchError::Overrun)) {
            events.truncate(before);
            self.start_over()?;
        }
        drained
    }

    /// The sockets to wait for, routing and netfilter.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.route.as_fd(), self.netfilter.as_fd()]
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> Result<(), WatchError> {
        let Watch { route, netfilter, state, .. } = self;
        for _ in 0..DATAGRAMS {
            if !route.read_notifications(|message| state.routing(&message, events))? {
                break;
            }
        }
        for _ in 0..DATAGRAMS {
            if !netfilter.read_notifications(|message| state.netfilter(nft::event(&message), events))? {
                break;
            }
        }
        Ok(())
    }

    /// Throws away what is waiting and reads anew what notifications are measured against.
    fn start_over(&mut self) -> Result<(), WatchError> {
        for socket in [&mut self.route, &mut self.netfilter] {
            for _ in 0..DATAGRAMS {
                match socket.read_notifications(|_| {}) {
                    Ok(true) | Err(NetlinkError::Overrun) => {}
                    Ok(false) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let interest = self.state.take_interest();
        self.state = State::load(&mut self.query)?;
        if let Some(interest) = interest {
            self.state.set_interest(interest);
        }
        Ok(())
    }
}
