//! ICMP echo on raw sockets (RFC 792, RFC 4443), from inside any namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

const ECHO_REPLY_V4: u8 = 0;
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
/// Type, code, checksum, identifier, sequence number.
pub(crate) const HEADER_LEN: usize = 8;

/// A raw socket that talks to one address.
pub(crate) struct EchoSocket {
    socket: Socket,
    target: IpAddr,
    id: u16,
    buffer: Vec<u8>,
}

impl EchoSocket {
    /// Opens a socket in the calling thread's namespace. `id` tells its echoes from those of others.
    pub(crate) fn open(target: IpAddr, id: u16) -> io::Result<EchoSocket> {
        let socket = match target {
            IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?,
            IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?,
        };
        socket.connect(&SocketAddr::new(target, 0).into())?;
        socket.set_nonblocking(true)?;
        Ok(EchoSocket { socket, target, id, buffer: vec![0; 0x1_0000] })
    }

    /// Sets the "don't fragment" bit on all that is sent, and has the kernel refuse what is larger than the path is
    /// known to carry (`IP_PMTUDISC_DO`).
    pub(crate) fn forbid_fragments(&self) -> io::Result<()> {
        let (level, option, value) = match self.target {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
        };
        // SAFETY: the option takes an int; pointer and length are those of one that lives across the call.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The size of the IP header in front of what is sent.
    pub(crate) fn ip_header_len(&self) -> usize {
        if self.target.is_ipv4() { 20 } else { 40 }
    }

    /// Sends an echo request with this sequence number and this much behind the ICMP header: `tag`, then zeroes.
    pub(crate) fn send(&self, seq: u16, tag: u64, payload_len: usize) -> io::Result<()> {
        let kind = if self.target.is_ipv4() { ECHO_V4 } else { ECHO_V6 };
        let mut packet = vec![0; HEADER_LEN + payload_len];
        packet[0] = kind;
        packet[4..6].copy_from_slice(&self.id.to_be_bytes());
        packet[6..8].copy_from_slice(&seq.to_be_bytes());
        let tag_len = payload_len.min(8);
        packet[HEADER_LEN..HEADER_LEN + tag_len].copy_from_slice(&tag.to_be_bytes()[..tag_len]);
        if self.target.is_ipv4() {
            // The kernel works it out for ICMPv6 only.
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket.send(&packet).map(drop)
    }

    /// Waits for the next answer to one of this socket's requests; gives its sequence number, tag and payload length.
    /// `None` at the deadline. An ICMP error about an earlier request is an error.
    pub(crate) fn receive(&mut self, deadline: Instant) -> io::Result<Option<(u16, u64, usize)>> {
        loop {
            match io::Read::read(&mut &self.socket, &mut self.buffer) {
                Ok(len) => {
                    if let Some(answer) = self.parse(&self.buffer[..len]) {
                        return Ok(Some(answer));
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // SO_RCVTIMEO counts in jiffies, up to 10 ms each; ppoll's timers are exact.
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn parse(&self, received: &[u8]) -> Option<(u16, u64, usize)> {
        // IPv4 raw sockets give the IP header too (raw(7)), IPv6 ones don't.
        let (expected, icmp) = match self.target {
            IpAddr::V4(_) => (ECHO_REPLY_V4, received.get(usize::from(received.first()? & 0xf) * 4..)?),
            IpAddr::V6(_) => (ECHO_REPLY_V6, received),
        };
        let header: [u8; HEADER_LEN] = icmp.get(..HEADER_LEN)?.try_into().ok()?;
        let [kind, _, _, _, id_high, id_low, seq_high, seq_low] = header;
        if kind != expected || u16::from_be_bytes([id_high, id_low]) != self.id {
            return None;
        }
        let payload = &icmp[HEADER_LEN..];
        let mut tag = [0; 8];
        let tag_len = payload.len().min(8);
        tag[..tag_len].copy_from_slice(&payload[..tag_len]);
        Some((u16::from_be_bytes([seq_high, seq_low]), u64::from_be_bytes(tag), payload.len()))
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.fold(0, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hopwise_kernel::netns::in_new_namespace;

    use super::*;

    #[test]
    fn checksum_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), !0xff00);
        assert_eq!(checksum(&vec![0xff; 60_000]), 0);
    }

    #[test]
    fn loopback_echoes_in_both_families() {
        in_new_namespace(|| {
            for target in ["127.0.0.1", "::1"] {
                let mut socket = EchoSocket::open(target.parse().unwrap(), 77).unwrap();
                socket.forbid_fragments().unwrap();
                socket.send(3, 0x0102_0304_0506_0708, 1000).unwrap();
                let deadline = Instant::now() + Duration::from_secs(2);
                assert_eq!(
                    socket.receive(deadline).unwrap(),
                    Some((3, 0x0102_0304_0506_0708, 1000)),
                    "{target}"
                );
                assert_eq!(socket.receive(Instant::now() + Duration::from_millis(20)).unwrap(), None);
                let too_large = socket.send(4, 0, 65_536 - socket.ip_header_len() - HEADER_LEN + 1);
                assert_eq!(too_large.unwrap_err().raw_os_error(), Some(libc::EMSGSIZE), "{target}");
            }
        });
    }
}
