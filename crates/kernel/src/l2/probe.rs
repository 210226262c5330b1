//! Whether somebody answers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hopwise_core::family::Family;
use hopwise_core::name::LinkName;

use super::{L2, echo, read};
use crate::netlink::{Batch, NetlinkError};
use crate::rt;

const NUD_REACHABLE: u16 = 0x02;
const NUD_FAILED: u16 = 0x20;
/// `NTF_USE`: behave as if a packet were to be sent there.
const NTF_USE: u8 = 0x01;
/// How often the kernel is asked whether an answer has come.
const PERIOD: Duration = Duration::from_millis(5);

impl L2 {
    /// Whether an address answers through a link, until a deadline.
    ///
    /// One on the link is asked for its MAC address, by the kernel itself (ARP, RFC 826; neighbour solicitation, RFC 4861):
    /// every host has to answer that, whatever its firewall says. One behind a router, or whose MAC address is given by a
    /// permanent entry, is sent echo requests.
    pub fn answers(
        &mut self,
        link: LinkName,
        address: IpAddr,
        deadline: Instant,
    ) -> Result<bool, NetlinkError> {
        let Some(index) = read::indices(&mut self.socket)?.get(&link).copied() else { return Ok(false) };
        let permanent = self.neighbour_state(index, address)?.is_some_and(|entry| entry.permanent());
        if permanent || !self.on_link(index, address)? {
            return Ok(echo::answers(address, deadline).unwrap_or(false));
        }
        // What is known may be old; only an answer that comes now counts.
        let mut ask = true;
        loop {
            if ask {
                self.forget(index, address)?;
                self.solicit(index, address)?;
                ask = false;
            }
            match self.neighbour_state(index, address)? {
                Some(entry) if entry.state & NUD_REACHABLE != 0 => return Ok(true),
                Some(entry) if entry.state & NUD_FAILED == 0 => {}
                _ => ask = true,
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Whether the kernel would send to the address itself. Link-local ones need no asking.
    fn on_link(&mut self, link: u32, address: IpAddr) -> Result<bool, NetlinkError> {
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            return Ok(true);
        }
        let mut batch = Batch::new();
        rt::route::lookup(&mut batch, address, false);
        let mut on_link = false;
        self.socket.ask(&mut batch, |_, answer| {
            let route = answer.ok().and_then(|message| rt::route::decode(&message));
            on_link = route.is_some_and(|route| route.gateway.is_none() && route.link == Some(link));
        })?;
        Ok(on_link)
    }

    fn neighbour_state(
        &mut self,
        link: u32,
        address: IpAddr,
    ) -> Result<Option<rt::neighbour::NeighbourMessage>, NetlinkError> {
        let mut batch = Batch::new();
        drop(batch.message(libc::RTM_GETNEIGH, 0, &[0; 12]));
        let mut found = None;
        self.socket.dump(
            &mut batch,
            &mut found,
            |found| *found = None,
            |found, message| {
                let entry = rt::neighbour::decode(&message);
                let wanted = entry.filter(|entry| {
                    entry.link == link && entry.address == Some(address) && !entry.is_fdb() && !entry.proxy()
                });
                *found = found.take().or(wanted);
            },
        )?;
        Ok(found)
    }

    fn forget(&mut self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        batch.message(libc::RTM_DELNEIGH, 0, &header(link, address, 0)).ip(libc::NDA_DST, address);
        // ENOENT: there was none.
        self.socket.execute(&mut batch).map(drop)
    }

    fn solicit(&mut self, link: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        batch
            .message(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE as u16, &header(link, address, NTF_USE))
            .ip(libc::NDA_DST, address);
        // EEXIST and the like: the kernel asks already.
        self.socket.execute(&mut batch).map(drop)
    }
}

/// `struct ndmsg`.
fn header(link: u32, address: IpAddr, flags: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = rt::af(Family::of(address));
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[10] = flags;
    header
}
