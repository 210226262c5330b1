//! Packet sockets (`packet(7)`): whole frames, sent to and received from one link.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use hopwise_core::name::IfIndex;

use super::frame;

/// A socket that sees the frames of one kind that a link receives.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    address: libc::sockaddr_ll,
}

/// An instruction of classic BPF: code, jump if true, jump if false, operand.
type Instruction = (u16, u8, u8, u32);

/// Lets only ICMPv6 types 135 and 136 through, so that a busy link does not wake us for every packet.
const NEIGHBOUR_DISCOVERY: [Instruction; 6] = [
    (0x30, 0, 0, frame::HEADER as u32 + 6),  // ldb [next header]
    (0x15, 0, 3, 58),                        // jeq ICMPv6, else drop
    (0x30, 0, 0, frame::HEADER as u32 + 40), // ldb [type]
    (0x15, 2, 0, 135),                       // jeq solicitation, accept
    (0x15, 1, 0, 136),                       // jeq advertisement, accept
    (0x06, 0, 0, 0),                         // ret 0
];
const ACCEPT: Instruction = (0x06, 0, 0, 256);

fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

impl PacketSocket {
    /// Opens a socket on a link of the calling thread's namespace, for ARP.
    pub fn arp(link: IfIndex) -> io::Result<PacketSocket> {
        PacketSocket::open(link, frame::ARP, None)
    }

    /// Opens one for neighbour discovery.
    pub fn neighbour_discovery(link: IfIndex) -> io::Result<PacketSocket> {
        PacketSocket::open(link, frame::IPV6, Some(NEIGHBOUR_DISCOVERY))
    }

    fn open(link: IfIndex, kind: u16, filter: Option<[Instruction; 6]>) -> io::Result<PacketSocket> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: it receives nothing before it is bound, so nothing of other links and nothing unfiltered.
        // SAFETY: plain system call; the result is checked before it is used as a descriptor.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, flags, 0) })?;
        // SAFETY: the descriptor is new and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = kind.to_be();
        address.sll_ifindex = link.0.cast_signed();
        let socket = PacketSocket { fd, address };
        if let Some(filter) = filter {
            socket.attach(&filter)?;
        }
        // SAFETY: pointer and length describe `address`.
        check(unsafe {
            libc::bind(socket.fd.as_raw_fd(), (&raw const socket.address).cast(), Self::ADDRESS_LEN)
        })?;
        Ok(socket)
    }

    const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

    fn attach(&self, filter: &[Instruction]) -> io::Result<()> {
        let mut program: Vec<libc::sock_filter> = filter
            .iter()
            .chain([&ACCEPT])
            .map(|(code, jt, jf, k)| libc::sock_filter { code: *code, jt: *jt, jf: *jf, k: *k })
            .collect();
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the kernel copies the program that `filter` and `len` describe, which lives until after the call.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: pointers and lengths describe `frame` and `self.address`.
            let sent = unsafe {
                libc::sendto(
                    self.fd.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const self.address).cast(),
                    Self::ADDRESS_LEN,
                )
            };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// The next frame that has arrived, in `buffer`; `None` when there is none.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        // SAFETY: pointer and length describe `buffer`.
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match usize::try_from(got) {
            Ok(len) => Ok(Some(&buffer[..len.min(buffer.len())])),
            Err(_) => match io::Error::last_os_error() {
                error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }
}

/// Waits until one of the sockets has a frame or the time is over, whichever comes first.
pub fn wait(sockets: &[&PacketSocket], timeout: Duration) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|socket| libc::pollfd { fd: socket.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // Up to the next millisecond, so that the last wait is not a row of waits of 0.
    let timeout = libc::c_int::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX);
    // SAFETY: pointer and length describe `polled`.
    match check(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}
