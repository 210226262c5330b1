//! Deleting links later: the kernel makes whoever deletes a link wait for two grace periods, 12 to 16 ms, but deletes any
//! number of links of a group for one such wait. So a link can be taken out of use in a fraction of a millisecond, marked and
//! put into a group ([`Requests::discard`]), and [`Rtnl::reap`] deletes what has gathered.
//!
//! What was measured (Linux 6.18, 2 cores): a link of a group costs 0.6 to 1.1 ms, all of it under RTNL, so a large group
//! would keep an ADD waiting for as long; hence a few at a time.

use std::os::fd::{AsRawFd, BorrowedFd};

use hopwise_core::mark::{DELETING_GROUP, DISCARDED_ALIAS, DISCARDED_GROUP};
use hopwise_core::name::IfIndex;

use super::request::{UP, ifinfomsg};
use super::{LinkInfo, Requests, Rtnl};
use crate::netlink::{Batch, NetlinkError};

/// How many links are deleted at once: RTNL is held for some 10 ms, less than the wait that follows without it.
const AT_ONCE: usize = 16;
/// `linux/net_namespace.h`.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

impl Requests {
    /// Takes a link out of use and leaves it for [`Rtnl::reap`]: down, a port of nothing, without its routes.
    pub fn discard(&mut self, link: IfIndex) -> &mut Self {
        let mut message =
            self.batch.message(libc::RTM_SETLINK, 0, &ifinfomsg(libc::AF_UNSPEC, link.0, 0, UP));
        message.u32(libc::IFLA_GROUP, DISCARDED_GROUP).str(libc::IFLA_IFALIAS, DISCARDED_ALIAS);
        message.u32(libc::IFLA_MASTER, 0);
        drop(message);
        self
    }
}

impl Rtnl {
    /// The link of that index, if it is one end of a veth pair whose other end is the link `peer` of another namespace.
    /// Indices alone would not tell: the pods of a node all have a link with the same one.
    pub fn other_end(
        &mut self,
        index: IfIndex,
        namespace: BorrowedFd<'_>,
        peer: IfIndex,
    ) -> Result<Option<LinkInfo>, NetlinkError> {
        let mut batch = Batch::new();
        // struct rtgenmsg: the family.
        batch.message(libc::RTM_GETNSID, 0, &[0; 4]).u32(NETNSA_FD, namespace.as_raw_fd() as u32);
        let mut id = None;
        self.socket.ask(&mut batch, |_, answer| {
            let answer = answer.ok().and_then(|message| message.attributes(4).find(NETNSA_NSID));
            id = answer.and_then(|id| id.u32());
        })?;
        let found = self.link_by_index(index)?;
        Ok(found.filter(|link| link.kind == "veth" && link.peer == Some(peer) && link.peer_namespace == id))
    }

    /// Deletes what was discarded, and returns how many links that were. Any number of processes may do it at once.
    pub fn reap(&mut self) -> Result<usize, NetlinkError> {
        let mut links = self.links()?;
        // Links that were being deleted when their reaper was killed are in the second group.
        links.retain(|link| {
            [DISCARDED_GROUP, DELETING_GROUP].contains(&link.group) && link.alias == DISCARDED_ALIAS
        });
        for some in links.chunks(AT_ONCE) {
            let mut requests = Requests::new();
            for link in some {
                requests.set_group(link.index, DELETING_GROUP);
            }
            // One that has gone meanwhile is one less to delete.
            self.execute(&mut requests)?;
            match self.delete_group(DELETING_GROUP) {
                Err(error) if error.errno() != libc::ENODEV => return Err(error),
                _ => {}
            }
        }
        Ok(links.len())
    }

    /// Deletes all links of a group; `ENODEV` when it has none.
    fn delete_group(&mut self, group: u32) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        batch
            .message(libc::RTM_DELLINK, 0, &ifinfomsg(libc::AF_UNSPEC, 0, 0, 0))
            .u32(libc::IFLA_GROUP, group);
        self.socket.execute_one(&mut batch)
    }
}
