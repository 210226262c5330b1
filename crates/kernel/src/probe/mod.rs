//! Asking a link whether an address is taken, before it is given to somebody: RFC 5227 for IPv4, RFC 4862 for IPv6.
//!
//! The RFCs give hosts seconds for it; a pod has none. Probes are sent close together ([`Pace`]) and the first answer
//! ends it. What is lost: a host that needs longer than the last interval to answer is not found, as one asleep in a
//! wireless network may.

pub mod arp;
mod frame;
pub mod ndp;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use arp::ArpPacket;
use hopwise_core::name::{IfIndex, MacAddr};
use ndp::NeighbourMessage;
use socket::PacketSocket;

/// How often and how fast is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many probes; RFC 5227 has 3, RFC 4862 has 1.
    pub probes: u32,
    /// The time for answers after each; RFC 5227 has 1 to 2 s, RFC 4861 1 s.
    pub interval: Duration,
}

/// An address that somebody has, or is about to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// Who said so.
    pub holder: MacAddr,
}

/// Probing on one link.
#[derive(Debug)]
pub struct Prober {
    link: IfIndex,
    own: MacAddr,
    arp: Option<PacketSocket>,
    ndp: Option<PacketSocket>,
}

impl Prober {
    /// A prober for a link of the calling thread's namespace. `own` is the link's MAC address: probes come from it, and
    /// what comes from it is no conflict. Sockets are opened when they are needed, and kept: closing one waits for the
    /// kernel (some 10 ms).
    pub fn new(link: IfIndex, own: MacAddr) -> Prober {
        Prober { link, own, arp: None, ndp: None }
    }

    /// Asks for all addresses at once. Returns at the first conflict, with what has been found by then; without one
    /// after all probes.
    ///
    /// # Errors
    ///
    /// When a socket can't be opened or used, for example as the link is down (`ENETDOWN`).
    pub fn probe(&mut self, addresses: &[IpAddr], pace: Pace) -> io::Result<Vec<Conflict>> {
        if self.arp.is_none() && addresses.iter().any(IpAddr::is_ipv4) {
            self.arp = Some(PacketSocket::arp(self.link)?);
        }
        if self.ndp.is_none() && addresses.iter().any(IpAddr::is_ipv6) {
            self.ndp = Some(PacketSocket::neighbour_discovery(self.link)?);
        }
        for _ in 0..pace.probes {
            self.ask(addresses)?;
            let until = Instant::now() + pace.interval;
            loop {
                let conflicts = self.read(addresses)?;
                let left = until.saturating_duration_since(Instant::now());
                if !conflicts.is_empty() || left.is_zero() {
                    if !conflicts.is_empty() {
                        return Ok(conflicts);
                    }
                    break;
                }
                let sockets: Vec<&PacketSocket> = self.arp.iter().chain(&self.ndp).collect();
                socket::wait(&sockets, left)?;
            }
        }
        Ok(Vec::new())
    }

    fn ask(&self, addresses: &[IpAddr]) -> io::Result<()> {
        for address in addresses {
            match address {
                IpAddr::V4(target) => {
                    self.arp.iter().try_for_each(|s| s.send(&arp::probe(self.own, *target)))?;
                }
                IpAddr::V6(target) => {
                    self.ndp.iter().try_for_each(|s| s.send(&ndp::solicitation(self.own, *target)))?;
                }
            }
        }
        Ok(())
    }

    /// Reads all that has arrived. An older answer, to a question before, counts as well.
    fn read(&self, addresses: &[IpAddr]) -> io::Result<Vec<Conflict>> {
        let mut conflicts: Vec<Conflict> = Vec::new();
        let mut buffer = [0; 256];
        for socket in self.arp.iter().chain(&self.ndp) {
            while let Some(frame) = socket.receive(&mut buffer)? {
                for conflict in conflicts_in(frame, addresses, self.own) {
                    if conflicts.iter().all(|known| known.address != conflict.address) {
                        conflicts.push(conflict);
                    }
                }
            }
        }
        Ok(conflicts)
    }
}

/// Which of the addresses a frame shows to be taken, by others than `own`.
pub fn conflicts_in(frame: &[u8], addresses: &[IpAddr], own: MacAddr) -> Vec<Conflict> {
    let (arp, ndp) = (ArpPacket::parse(frame), NeighbourMessage::parse(frame));
    let conflict = |address: &IpAddr| {
        let holder = match address {
            IpAddr::V4(address) => arp.filter(|packet| packet.claims(*address, own))?.sender_mac,
            IpAddr::V6(address) => ndp.filter(|message| message.claims(*address, own))?.sender_mac,
        };
        Some(Conflict { address: *address, holder })
    };
    addresses.iter().filter_map(conflict).collect()
}
