//! Echo requests (RFC 792, RFC 4443) on a raw socket.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv, send, socket,
};

/// Between two requests.
const PERIOD: Duration = Duration::from_millis(200);
/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// Whether an address answers an echo request until a deadline.
pub(super) fn answers(address: IpAddr, deadline: Instant) -> Result<bool, Errno> {
    let socket = open(address)?;
    let id = std::process::id() as u16;
    for sequence in 0u16.. {
        // Not reachable yet is not a reason to give up.
        let _ = send(socket.as_raw_fd(), &request(address, id, sequence), MsgFlags::empty());
        let until = (Instant::now() + PERIOD).min(deadline);
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if received(&socket, address, id, left) {
                return Ok(true);
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(false)
}

fn open(address: IpAddr) -> Result<OwnedFd, Errno> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Raw, flags, protocol)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, 0)))?;
    Ok(socket)
}

fn request(address: IpAddr, id: u16, sequence: u16) -> [u8; HEADER] {
    let mut packet = [0; HEADER];
    packet[0] = if address.is_ipv4() { 8 } else { 128 };
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..].copy_from_slice(&sequence.to_be_bytes());
    if address.is_ipv4() {
        // The kernel works it out for ICMPv6 only (RFC 1071).
        let words = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum = words.sum::<u32>();
        let folded = (sum & 0xffff) + (sum >> 16);
        packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }
    packet
}

fn received(socket: &OwnedFd, address: IpAddr, id: u16, left: Duration) -> bool {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, timeout);
    let mut buffer = [0; 512];
    let Ok(len) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { return false };
    is_answer(&buffer[..len], address, id)
}

/// IPv4 raw sockets give the IP header too (raw(7)), IPv6 ones don't.
fn is_answer(packet: &[u8], address: IpAddr, id: u16) -> bool {
    let (kind, start) = match address {
        IpAddr::V4(_) => (0, packet.first().map_or(0, |first| usize::from(first & 0xf) * 4)),
        IpAddr::V6(_) => (129, 0),
    };
    let Some(header) = packet.get(start..start + HEADER) else { return false };
    header[0] == kind && header[4..6] == id.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::in_new_namespace;

    #[test]
    fn loopback_answers_in_both_families_and_nobody_else() {
        in_new_namespace(|| {
            let soon = || Instant::now() + Duration::from_secs(20);
            assert_eq!(answers("127.0.0.1".parse().unwrap(), soon()), Ok(true));
            assert_eq!(answers("::1".parse().unwrap(), soon()), Ok(true));
            let now = Instant::now();
            assert_eq!(answers("127.0.0.1".parse().unwrap(), now), Ok(false));
        });
    }
}
