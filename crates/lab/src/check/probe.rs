//! The sending end of a check: what one endpoint finds out about another, in the calling thread's namespace.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::report::Finding;
use super::server::Ports;
use crate::expect::Expected;
use crate::icmp::{EchoSocket, HEADER_LEN};

/// For all tries of a request and its answer; the first packet of a path waits for ARP or neighbour discovery.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Between tries.
const RETRY: Duration = Duration::from_millis(250);
/// A lost SYN is sent again after 1 s (RFC 6298), and once more after 3.
const TCP_TIMEOUT: Duration = Duration::from_millis(3500);
/// Several segments of any MTU here, so that the segment size matters.
const TCP_BYTES: usize = 30_000;
/// Packets that every link carries: IPv4's least by convention, IPv6's by RFC 8200.
const SMALL_V4: u32 = 576;
const SMALL_V6: u32 = 1280;

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probed {
    pub(super) icmp: Finding,
    pub(super) tcp: Finding,
    pub(super) udp: Finding,
    pub(super) mtu: Finding,
    pub(super) source: Finding,
}

/// Tries everything on one target.
pub(super) fn probe(target: IpAddr, ports: Ports, id: u16, expected: &Expected) -> Probed {
    let icmp = echo(target, id);
    let tcp = tcp(SocketAddr::new(target, ports.tcp));
    let udp = udp(SocketAddr::new(target, ports.udp), id);
    let mtu = match &icmp {
        Ok(()) => largest_packet(target, id, expected.path_mtu),
        Err(_) => Finding::skipped(),
    };
    let seen = [&tcp, &udp].into_iter().filter_map(|answer| answer.as_ref().ok());
    let source = seen.fold(Finding::skipped(), |finding, seen| {
        if finding.is_failure() { finding } else { Finding::compare(expected.source, *seen) }
    });
    let finding = |what: &str, result: Result<(), io::Error>| match result {
        Ok(()) => Finding::pass(),
        Err(error) => Finding::fail(what, describe(&error)),
    };
    Probed {
        icmp: finding("an echo reply", icmp),
        tcp: finding("the same bytes back over TCP", tcp.map(drop)),
        udp: finding("an answer over UDP", udp.map(drop)),
        mtu,
        source,
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer".to_owned(),
        _ => error.to_string(),
    }
}

fn echo(target: IpAddr, id: u16) -> io::Result<()> {
    let mut socket = EchoSocket::open(target, id)?;
    exchange(&mut socket, 0, 56, TIMEOUT)
}

/// Sends echo requests until one is answered.
fn exchange(socket: &mut EchoSocket, seq: u16, payload_len: usize, timeout: Duration) -> io::Result<()> {
    let end = Instant::now() + timeout;
    loop {
        socket.send(seq, 0, payload_len)?;
        let retry = end.min(Instant::now() + RETRY);
        while let Some((answered, _, len)) = socket.receive(retry)? {
            if answered == seq && len == payload_len {
                return Ok(());
            }
        }
        if Instant::now() >= end {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Whether a packet of just the expected size gets there in one piece, and one byte more is refused, with a word.
fn largest_packet(target: IpAddr, id: u16, expected: u32) -> Finding {
    match try_largest_packet(target, id, expected) {
        Ok(finding) => finding,
        Err(error) => Finding::fail(expected, describe(&error)),
    }
}

fn try_largest_packet(target: IpAddr, id: u16, expected: u32) -> io::Result<Finding> {
    let mut socket = EchoSocket::open(target, id)?;
    socket.forbid_fragments()?;
    let mut fits = |bytes: u32, seq: u16, timeout| packet_fits(&mut socket, bytes, seq, timeout);
    if !matches!(fits(expected, 1, TIMEOUT)?, Fit::Arrives) {
        // Which size does get there? Only asked when something is wrong already.
        let (mut good, mut bad) = (if target.is_ipv4() { SMALL_V4 } else { SMALL_V6 }, expected);
        for seq in 10..30 {
            if bad - good.min(bad) <= 1 {
                break;
            }
            let middle = good + (bad - good) / 2;
            match fits(middle, seq, RETRY)? {
                Fit::Arrives => good = middle,
                Fit::Refused | Fit::Vanishes => bad = middle,
            }
        }
        return Ok(Finding::fail(expected, good));
    }
    Ok(match fits(expected + 1, 2, TIMEOUT)? {
        Fit::Refused => Finding::pass_with(expected),
        Fit::Arrives => Finding::fail(expected, format!("{} or more", expected + 1)),
        Fit::Vanishes => Finding::fail(
            format!("{expected}, and word from the router about larger packets"),
            "larger packets vanish without a word",
        ),
    })
}

enum Fit {
    Arrives,
    /// The kernel here, or a router on the way, says that it is too large.
    Refused,
    Vanishes,
}

fn packet_fits(socket: &mut EchoSocket, bytes: u32, seq: u16, timeout: Duration) -> io::Result<Fit> {
    let payload = (bytes as usize).saturating_sub(socket.ip_header_len() + HEADER_LEN);
    match exchange(socket, seq, payload, timeout) {
        Ok(()) => Ok(Fit::Arrives),
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Ok(Fit::Refused),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Fit::Vanishes),
        Err(error) => Err(error),
    }
}

/// Sends a lot over TCP and reads it back; gives our address as the other end sees it.
fn tcp(target: SocketAddr) -> io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&target, TCP_TIMEOUT)?;
    stream.set_read_timeout(Some(TCP_TIMEOUT))?;
    stream.set_write_timeout(Some(TCP_TIMEOUT))?;
    let data: Vec<u8> = (0..TCP_BYTES).map(|n| (n % 251) as u8).collect();
    let mut request = (TCP_BYTES as u32).to_be_bytes().to_vec();
    request.extend_from_slice(&data);
    stream.write_all(&request)?;
    let mut answer = Vec::with_capacity(TCP_BYTES + 64);
    stream.read_to_end(&mut answer)?;
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "other bytes came back");
    let end = answer.iter().position(|byte| *byte == b'\n').ok_or_else(garbled)?;
    if answer[end + 1..] != data {
        return Err(garbled());
    }
    parse_address(&answer[..end]).ok_or_else(garbled)
}

/// Sends datagrams until one is answered; gives our address as the other end sees it.
fn udp(target: SocketAddr, id: u16) -> io::Result<IpAddr> {
    let any: IpAddr =
        if target.is_ipv4() { [0, 0, 0, 0].into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    let end = Instant::now() + TIMEOUT;
    let request = format!("hopwise-lab {id}\n");
    let mut buffer = [0; 256];
    loop {
        socket.send(request.as_bytes())?;
        let left = end.saturating_duration_since(Instant::now()).min(RETRY);
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.recv(&mut buffer) {
            Ok(len) => {
                let answer = buffer[..len].strip_prefix(request.as_bytes());
                let seen = answer.and_then(|line| parse_address(line.strip_suffix(b"\n")?));
                return seen
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "another answer came back"));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {}
            Err(error) => return Err(error),
        }
    }
}

fn parse_address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
