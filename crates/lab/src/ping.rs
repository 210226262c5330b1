//! A stream of echo requests that counts what is lost: the measure of "without a gap".

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hopwise_kernel::netns::Namespace;

use crate::error::LabError;
use crate::icmp::EchoSocket;
use crate::lab::Lab;

/// How long an answer may take before its request counts as lost.
const GRACE: Duration = Duration::from_secs(1);

/// Echo requests at a fixed spacing, sent until it is stopped.
#[derive(Debug)]
pub struct PingStream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<PingCount, LabError>>,
}

/// What became of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PingCount {
    /// How many requests were sent, or refused by the sender's own kernel, which counts as lost.
    pub n_sent: u64,
    /// The numbers, from 0, of those that were not answered.
    pub lost: Vec<u64>,
    /// How many more answers than requests came.
    pub n_duplicates: u64,
    /// The longest time between two answers.
    pub longest_gap: Duration,
}

impl Lab {
    /// Starts a stream from a target (a pod, mostly) to an address. It runs already when this returns: the first answer
    /// has come.
    pub fn ping(&self, from: &str, to: IpAddr, spacing: Duration) -> Result<PingStream, LabError> {
        let namespace = self.namespace(from)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (first, came) = std::sync::mpsc::channel();
        let run = {
            let stop = Arc::clone(&stop);
            move || stream(&namespace, to, spacing, &stop, &first)
        };
        let name = format!("ping {from}");
        let thread =
            std::thread::Builder::new().name(name).spawn(run).map_err(LabError::step("starting a thread"))?;
        let stream = PingStream { stop, thread };
        match came.recv_timeout(Duration::from_secs(5)) {
            Ok(()) => Ok(stream),
            Err(_) => {
                stream.stop()?;
                Err(LabError::step(format!("pinging {to} from {from}"))("no answer within 5 s"))
            }
        }
    }
}

impl PingStream {
    /// Stops sending, waits for the last answers, and counts.
    pub fn stop(self) -> Result<PingCount, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn stream(
    namespace: &Namespace,
    to: IpAddr,
    spacing: Duration,
    stop: &AtomicBool,
    first: &std::sync::mpsc::Sender<()>,
) -> Result<PingCount, LabError> {
    let doing = format!("pinging {to}");
    namespace.enter().map_err(LabError::step(&*doing))?;
    let mut socket =
        EchoSocket::open(to, std::process::id() as u16 ^ 0x5069).map_err(LabError::step(doing))?;
    let mut answered: Vec<bool> = Vec::new();
    let mut count = PingCount::default();
    let mut last_answer = Instant::now();
    let start = Instant::now();
    let mut grace_end = None;
    loop {
        let now = Instant::now();
        if grace_end.is_none() && stop.load(Ordering::Relaxed) {
            grace_end = Some(now + GRACE);
        }
        let n_sent = answered.len() as u32;
        // Late by some spacings, on a busy machine: catch up one at a time rather than send a burst.
        if grace_end.is_none() && now >= start + spacing * n_sent {
            // "Network is unreachable" and the like are losses, not failures of the measurement.
            let _ = socket.send(n_sent as u16, u64::from(n_sent), 56);
            answered.push(false);
        }
        let until = match grace_end {
            Some(end) if now >= end || !answered.contains(&false) => break,
            Some(end) => end,
            None => start + spacing * answered.len() as u32,
        };
        // Errors are ICMP errors about requests, which stay unanswered.
        let Ok(Some((_, tag, _))) = socket.receive(until.max(now)) else { continue };
        match answered.get_mut(tag as usize) {
            Some(true) => count.n_duplicates += 1,
            Some(seen) => {
                *seen = true;
                let gap = if tag == 0 { Duration::ZERO } else { last_answer.elapsed() };
                count.longest_gap = count.longest_gap.max(gap);
                last_answer = Instant::now();
                let _ = first.send(());
            }
            None => {}
        }
    }
    count.n_sent = answered.len() as u64;
    count.lost = (0..).zip(&answered).filter(|(_, seen)| !**seen).map(|(number, _)| number).collect();
    Ok(count)
}
