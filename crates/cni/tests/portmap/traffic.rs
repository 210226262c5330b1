//! Servers that tell whom they see, and clients that ask them.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hopwise_kernel::netns::Namespace;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

pub const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")];

/// Answers with its name and the address that it sees, on a port that the kernel chose, over both protocols and families.
pub struct Server {
    pub tcp: u16,
    pub udp: u16,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn new(namespace: &Namespace, name: &str) -> Server {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
        let bind = || (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
        let (listener, socket) = namespace.run(bind).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server {
            tcp: listener.local_addr().unwrap().port(),
            udp: socket.local_addr().unwrap().port(),
            stop: Arc::clone(&stop),
        };
        listener.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        let name = name.to_owned();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                answer_tcp(&listener, &name);
                answer_udp(&socket, &name);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        server
    }

    pub fn port(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn answer_tcp(listener: &TcpListener, name: &str) {
    while let Ok((mut stream, peer)) = listener.accept() {
        // A client that went away is no concern of the server's.
        let _ = write!(stream, "{name} {}", peer.ip().to_canonical());
    }
}

fn answer_udp(socket: &UdpSocket, name: &str) {
    let mut question = [0; 4];
    while let Ok((_, peer)) = socket.recv_from(&mut question) {
        let answer = [&question, format!("{name} {}", peer.ip().to_canonical()).as_bytes()].concat();
        let _ = socket.send_to(&answer, peer);
    }
}

/// Who answers, and whom they see: `NAME ADDRESS`.
pub fn ask(from: &Namespace, protocol: Protocol, address: IpAddr, port: u16) -> io::Result<String> {
    let target = SocketAddr::new(address, port);
    from.run(|| match protocol {
        Protocol::Tcp => ask_tcp(target, PATIENCE),
        Protocol::Udp => Flow::new(target).and_then(|flow| flow.ask()),
    })
    .unwrap()
}

/// Whether a connection over TCP comes about in a second: for those that must not.
pub fn connects(from: &Namespace, address: IpAddr, port: u16) -> bool {
    let target = SocketAddr::new(address, port);
    from.run(|| ask_tcp(target, Duration::from_secs(1))).unwrap().is_ok()
}

fn ask_tcp(target: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, patience)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A flow of UDP from one port. Each question has a number, which its answer repeats: one that was asked again on a busy
/// machine may be answered twice.
pub struct Flow {
    socket: UdpSocket,
    questions: Cell<u32>,
}

impl Flow {
    pub fn new(target: SocketAddr) -> io::Result<Flow> {
        let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(Flow { socket, questions: Cell::new(0) })
    }

    pub fn ask(&self) -> io::Result<String> {
        let started = Instant::now();
        self.questions.set(self.questions.get() + 1);
        let question = self.questions.get().to_ne_bytes();
        loop {
            match self.socket.send(&question).and_then(|_| self.answer(question)) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn answer(&self, question: [u8; 4]) -> io::Result<String> {
        let mut bytes = [0; 100];
        loop {
            let len = self.socket.recv(&mut bytes)?;
            if let Some(answer) = bytes[..len].strip_prefix(&question) {
                return Ok(String::from_utf8_lossy(answer).into_owned());
            }
        }
    }
}
