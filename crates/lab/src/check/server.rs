//! The receiving ends of a check: one thread that serves the sockets of all namespaces. A socket stays in the namespace in
//! which it was opened, whichever thread uses it.
//!
//! Over TCP a client sends a length (four bytes, big endian) and that many bytes; the answer is a line with the client's
//! address as seen here, then the same bytes. Over UDP the answer to a datagram is the datagram with that line behind it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use hopwise_core::family::PerFamily;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Protocol, Socket, Type};

/// A client may not make the server keep more than this.
const MAX_LENGTH: usize = 1 << 20;
const STOP: u64 = u64::MAX;

/// Listening sockets of one family in one namespace.
pub(super) struct Listening {
    tcp: TcpListener,
    udp: UdpSocket,
}

/// Where they listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) tcp: u16,
    pub(super) udp: u16,
}

impl Listening {
    /// Opens sockets in the calling thread's namespace, on ports that are free.
    ///
    /// They are bound to the address: a datagram's answer from a wildcard socket leaves with the address of the link
    /// towards the client, which on a node that a pod of its own asks is not the one that was asked.
    pub(super) fn open(address: IpAddr) -> io::Result<Listening> {
        let open = |kind, protocol| {
            let socket = Socket::new(Domain::for_address(SocketAddr::new(address, 0)), kind, Some(protocol))?;
            socket.set_nonblocking(true)?;
            socket.bind(&SocketAddr::new(address, 0).into())?;
            Ok::<_, io::Error>(socket)
        };
        let tcp = open(Type::STREAM, Protocol::TCP)?;
        tcp.listen(512)?;
        Ok(Listening { tcp: tcp.into(), udp: open(Type::DGRAM, Protocol::UDP)?.into() })
    }

    pub(super) fn ports(&self) -> io::Result<Ports> {
        Ok(Ports { tcp: self.tcp.local_addr()?.port(), udp: self.udp.local_addr()?.port() })
    }
}

/// The serving thread. Dropping it ends the thread.
pub(super) struct Server {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(listening: Vec<PerFamily<Option<Listening>>>) -> io::Result<Server> {
        let (stop, stopped) = UnixStream::pair()?;
        let mut state = State {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            listening: listening.into_iter().flat_map(|both| [both.v4, both.v6]).flatten().collect(),
            connections: HashMap::new(),
            next: 0,
        };
        state.watch(stopped.as_fd(), STOP)?;
        for (number, sockets) in state.listening.iter().enumerate() {
            state.watch(sockets.tcp.as_fd(), 2 * number as u64)?;
            state.watch(sockets.udp.as_fd(), 2 * number as u64 + 1)?;
        }
        state.next = 2 * state.listening.len() as u64;
        let thread = std::thread::Builder::new().name("lab-server".to_owned()).spawn(move || {
            state.serve();
            drop(stopped);
        })?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct State {
    epoll: Epoll,
    listening: Vec<Listening>,
    connections: HashMap<u64, Connection>,
    next: u64,
}

impl State {
    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    fn serve(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let n_events = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(n_events) => n_events,
                Err(nix::Error::EINTR) => continue,
                Err(_) => return,
            };
            for event in &events[..n_events] {
                match event.data() {
                    STOP => return,
                    token if token < 2 * self.listening.len() as u64 => self.listen(token),
                    token => self.proceed(token),
                }
            }
        }
    }

    fn listen(&mut self, token: u64) {
        let sockets = &self.listening[token as usize / 2];
        if token % 2 == 1 {
            answer_datagrams(&sockets.udp);
            return;
        }
        while let Ok((stream, peer)) = sockets.tcp.accept() {
            let token = self.next;
            self.next += 1;
            let watched = stream.set_nonblocking(true).and_then(|()| self.watch(stream.as_fd(), token));
            if watched.is_ok() {
                self.connections.insert(token, Connection::new(stream, peer.ip()));
            }
        }
    }

    fn proceed(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let went = connection.proceed();
        match went {
            Ok(Wait::Readable) => {}
            Ok(Wait::Writable) => {
                let mut event = EpollEvent::new(EpollFlags::EPOLLOUT, token);
                let _ = self.epoll.modify(&connection.stream, &mut event);
            }
            // Closing the descriptor takes it out of the epoll set.
            Ok(Wait::Done) | Err(_) => drop(self.connections.remove(&token)),
        }
    }
}

fn answer_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((len, peer)) = socket.recv_from(&mut buffer[..1024]) {
        let line = format!("{}\n", peer.ip());
        buffer[len..len + line.len()].copy_from_slice(line.as_bytes());
        let _ = socket.send_to(&buffer[..len + line.len()], peer);
    }
}

enum Wait {
    Readable,
    Writable,
    Done,
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    received: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
}

impl Connection {
    fn new(stream: TcpStream, peer: IpAddr) -> Connection {
        Connection { stream, peer, received: Vec::new(), answer: Vec::new(), sent: 0 }
    }

    fn proceed(&mut self) -> io::Result<Wait> {
        if self.answer.is_empty() && !self.read_request()? {
            return Ok(Wait::Readable);
        }
        while self.sent < self.answer.len() {
            match self.stream.write(&self.answer[self.sent..]) {
                Ok(n_bytes) => self.sent += n_bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Wait::Writable),
                Err(error) => return Err(error),
            }
        }
        Ok(Wait::Done)
    }

    /// Whether the request is complete; then the answer is there.
    fn read_request(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 0x4000];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n_bytes) => self.received.extend_from_slice(&buffer[..n_bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            let Some(header) = self.received.first_chunk::<4>() else { continue };
            let length = u32::from_be_bytes(*header) as usize;
            if length > MAX_LENGTH {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if let Some(data) = self.received.get(4..4 + length) {
                self.answer = format!("{}\n", self.peer).into_bytes();
                self.answer.extend_from_slice(data);
                return Ok(true);
            }
        }
    }
}
