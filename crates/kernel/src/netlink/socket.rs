//! A blocking netlink socket: batches with an error per message, dumps that are complete or fail.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::SocketAddr;

use super::{Batch, Message, Messages};

/// Messages per datagram. Measured best around 100; larger ones only grow the kernel's allocation.
const CHUNK_MESSAGES: usize = 100;
/// Bytes per datagram, well below the default `net.core.wmem_default`.
const CHUNK_BYTES: usize = 64 * 1024;
/// Dumps are answered in datagrams of up to 32 KiB when the reader's buffer is that large (`netlink_dump`).
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often a dump that was interrupted by a change is started again before it counts as failed.
const DUMP_ATTEMPTS: usize = 16;

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
/// `linux/netlink.h`: the dump is inconsistent, something changed while it ran.
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_ACK_TLVS`: the acknowledgement carries attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// `NLM_F_CAPPED`: the acknowledgement does not repeat the request.
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Why a netlink exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("netlink socket")]
    Io(#[from] io::Error),
    /// The kernel refused a request.
    #[error("{}", refusal(*errno, message.as_deref()))]
    Refused {
        /// The error number, positive.
        errno: i32,
        /// The kernel's extended acknowledgement, where it gave one.
        message: Option<String>,
    },
    /// A dump was interrupted by changes every time it was tried.
    #[error("a netlink dump was interrupted by changes {DUMP_ATTEMPTS} times in a row")]
    DumpInterrupted,
    /// The kernel dropped messages because we were too slow to read them: all that was known must be read again.
    #[error("the netlink receive buffer overflowed")]
    Overrun,
}

/// The kernel's own words first, where it has any: the number's text is the same for a hundred causes.
fn refusal(errno: i32, message: Option<&str>) -> String {
    let text = nix::errno::Errno::from_raw(errno).desc();
    message.map_or_else(|| text.to_owned(), |message| format!("{message} ({text})"))
}

impl NetlinkError {
    /// The error number, positive; 0 where there is none.
    pub fn errno(&self) -> i32 {
        match self {
            NetlinkError::Io(error) => error.raw_os_error().unwrap_or(0),
            NetlinkError::Refused { errno, .. } => *errno,
            NetlinkError::DumpInterrupted => libc::EINTR,
            NetlinkError::Overrun => libc::ENOBUFS,
        }
    }

    fn from_receive(error: io::Error) -> NetlinkError {
        if error.raw_os_error() == Some(libc::ENOBUFS) {
            NetlinkError::Overrun
        } else {
            NetlinkError::Io(error)
        }
    }
}

/// A blocking netlink socket, bound in the network namespace of the thread that opens it, where it stays.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    buffer: Vec<u8>,
    seq: u32,
}

impl Socket {
    /// Opens and binds a socket of a protocol such as `libc::NETLINK_ROUTE`.
    ///
    /// What the kernel says it does not have is asked for once more: it loads the module when it is needed, but no more than
    /// 50 modules at a time, and whoever has waited 5 s for his turn is told that there is none (`request_module`, Linux
    /// 6.1). Many plugins that start on a node that has just booted see that. Where there really is none, asking again
    /// costs little.
    pub fn open(protocol: i32) -> Result<Socket, NetlinkError> {
        let mut inner = match netlink_sys::Socket::new(protocol as isize) {
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {
                netlink_sys::Socket::new(protocol as isize)
            }
            outcome => outcome,
        }?;
        inner.bind_auto()?;
        // Not every kernel has all of them; they only make errors tell more and dumps leaner.
        let _ = inner.set_ext_ack(true);
        let _ = inner.set_netlink_get_strict_chk(true);
        let _ = inner.set_cap_ack(true);
        Ok(Socket { inner, buffer: Vec::with_capacity(RECEIVE_BUFFER), seq: 1 })
    }

    /// Joins a multicast group by number (`RTNLGRP_*`, `NFNLGRP_*`).
    pub fn join(&self, group: u32) -> Result<(), NetlinkError> {
        Ok(self.inner.add_membership(group)?)
    }

    /// Asks for a receive buffer of that many bytes: beyond `net.core.rmem_max` with CAP_NET_ADMIN, else up to it.
    pub fn set_receive_buffer(&self, bytes: usize) {
        self.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes);
    }

    fn set_buffer(&self, forced: libc::c_int, polite: libc::c_int, bytes: usize) {
        let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        for option in [forced, polite] {
            // SAFETY: the pointer and length describe `value`, which outlives the call.
            let status = unsafe {
                libc::setsockopt(
                    self.inner.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const value).cast(),
                    size_of_val(&value) as libc::socklen_t,
                )
            };
            if status == 0 {
                return;
            }
        }
    }

    /// Sends a batch and returns the kernel's verdict on each message, in order.
    ///
    /// Only the last message of each datagram asks for an acknowledgement; refusals come for all of them.
    pub fn execute(&mut self, batch: &mut Batch) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        let mut verdicts: Vec<Result<(), NetlinkError>> = Vec::with_capacity(batch.len());
        verdicts.resize_with(batch.len(), || Ok(()));
        let mut first = 0;
        while first < batch.starts.len() {
            let last = chunk_end(batch, first);
            let first_seq = self.stamp(batch, first..last, true);
            self.send(datagram(batch, first..last))?;
            self.collect_verdicts(first_seq, &mut verdicts[first..last])?;
            first = last;
        }
        Ok(verdicts)
    }

    /// Sends a batch of which all is expected to succeed: the first refusal is the error.
    pub fn execute_one(&mut self, batch: &mut Batch) -> Result<(), NetlinkError> {
        self.execute(batch)?.into_iter().collect()
    }

    /// Sends a batch as one datagram, framed by the caller with `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: all of
    /// it takes effect, or nothing. The first refusal is the error.
    ///
    /// The last message before the end is the one that is acknowledged: kernels before 6.10 acknowledge neither the
    /// begin nor the end. What concerns the whole transaction (no memory, no permission, a failed commit) comes as an
    /// error on the begin (`nfnetlink_rcv_batch`).
    ///
    /// What is not supported is asked for once more, for the same reason as in [`Socket::open`].
    pub fn transaction(&mut self, batch: &mut Batch) -> Result<(), NetlinkError> {
        match self.transact(batch) {
            Err(error) if error.errno() == libc::EOPNOTSUPP => self.transact(batch),
            outcome => outcome,
        }
    }

    fn transact(&mut self, batch: &mut Batch) -> Result<(), NetlinkError> {
        let Some(last) = batch.starts.len().checked_sub(2).filter(|last| *last > 0) else {
            return Ok(());
        };
        if batch.bytes.len() > CHUNK_BYTES {
            self.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, 2 * batch.bytes.len());
        }
        let first_seq = self.stamp(batch, 0..batch.starts.len(), false);
        set_flags(&mut batch.bytes[batch.starts[last]..], libc::NLM_F_ACK as u16);
        self.send(&batch.bytes)?;
        let mut refusal = None;
        loop {
            self.receive()?;
            for message in Messages::new(&self.buffer) {
                let index = message.seq.wrapping_sub(first_seq) as usize;
                if message.kind != NLMSG_ERROR || index > last {
                    continue;
                }
                if let Err(error) = verdict(&message) {
                    refusal.get_or_insert(error);
                }
                if index == last || (index == 0 && refusal.is_some()) {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }

    fn collect_verdicts(
        &mut self,
        first_seq: u32,
        verdicts: &mut [Result<(), NetlinkError>],
    ) -> Result<(), NetlinkError> {
        let last = verdicts.len() - 1;
        loop {
            self.receive()?;
            for message in Messages::new(&self.buffer) {
                let index = message.seq.wrapping_sub(first_seq) as usize;
                if message.kind != NLMSG_ERROR || index > last {
                    continue;
                }
                verdicts[index] = verdict(&message);
                if index == last {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a batch of `GET` requests without `NLM_F_DUMP` and hands each answer to `each` with the index of its
    /// request. A refused request is an answer too.
    pub fn ask(
        &mut self,
        batch: &mut Batch,
        mut each: impl FnMut(usize, Result<Message<'_>, NetlinkError>),
    ) -> Result<(), NetlinkError> {
        let mut first = 0;
        while first < batch.starts.len() {
            let last = chunk_end(batch, first);
            let first_seq = self.stamp(batch, first..last, false);
            self.send(datagram(batch, first..last))?;
            let mut open = last - first;
            while open > 0 {
                self.receive()?;
                for message in Messages::new(&self.buffer) {
                    let index = message.seq.wrapping_sub(first_seq) as usize;
                    if index >= last - first {
                        continue;
                    }
                    open = open.saturating_sub(1);
                    match message.kind {
                        NLMSG_ERROR => match verdict(&message) {
                            Ok(()) => {}
                            Err(error) => each(first + index, Err(error)),
                        },
                        _ => each(first + index, Ok(message)),
                    }
                }
            }
            first = last;
        }
        Ok(())
    }

    /// Sends one `GET` request without `NLM_F_DUMP` that the kernel may leave without an answer, and hands what it answers
    /// to `each`, until the acknowledgement. A refusal is the error.
    pub fn ask_acknowledged(
        &mut self,
        batch: &mut Batch,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        let seq = self.stamp(batch, 0..1, true);
        self.send(datagram(batch, 0..1))?;
        loop {
            self.receive()?;
            for message in Messages::new(&self.buffer) {
                match message.kind {
                    _ if message.seq != seq => {}
                    NLMSG_ERROR => return verdict(&message),
                    _ => each(message),
                }
            }
        }
    }

    /// Runs one dump request to its end and hands each message to `each`.
    ///
    /// A dump that the kernel marks as interrupted (`NLM_F_DUMP_INTR`) looks complete but may lack objects: it is run
    /// again, after `restart` has thrown away what was collected.
    pub fn dump<C>(
        &mut self,
        request: &mut Batch,
        collected: &mut C,
        restart: impl Fn(&mut C),
        mut each: impl FnMut(&mut C, Message<'_>),
    ) -> Result<(), NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            restart(collected);
            let seq = self.stamp(request, 0..1, false);
            set_flags(&mut request.bytes, libc::NLM_F_DUMP as u16);
            let bytes = std::mem::take(&mut request.bytes);
            let sent = self.send(&bytes);
            request.bytes = bytes;
            sent?;
            if self.collect_dump(seq, collected, &mut each)? {
                return Ok(());
            }
        }
        Err(NetlinkError::DumpInterrupted)
    }

    /// Returns whether the dump was consistent.
    fn collect_dump<C>(
        &mut self,
        seq: u32,
        collected: &mut C,
        each: &mut impl FnMut(&mut C, Message<'_>),
    ) -> Result<bool, NetlinkError> {
        let mut consistent = true;
        loop {
            self.receive()?;
            for message in Messages::new(&self.buffer) {
                if message.seq != seq {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => {
                        let status = message.fixed::<4>().map_or(0, i32::from_ne_bytes);
                        return match -status {
                            0 => Ok(consistent),
                            // Some dumps say in the end only that they were interrupted.
                            libc::EINTR => Ok(false),
                            errno if errno > 0 => Err(NetlinkError::Refused { errno, message: None }),
                            _ => Ok(consistent),
                        };
                    }
                    NLMSG_ERROR => verdict(&message)?,
                    _ => each(collected, message),
                }
            }
        }
    }

    /// Reads what multicast groups have to say, one datagram's worth, without waiting. `Ok(false)`: nothing there.
    pub fn read_notifications(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<bool, NetlinkError> {
        match self.receive_with(libc::MSG_DONTWAIT) {
            Ok(()) => {}
            Err(NetlinkError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        for message in Messages::new(&self.buffer) {
            each(message);
        }
        Ok(true)
    }

    fn stamp(&mut self, batch: &mut Batch, range: std::ops::Range<usize>, acknowledge_last: bool) -> u32 {
        let first_seq = self.seq;
        for (offset, start) in batch.starts[range.clone()].iter().enumerate() {
            let seq = first_seq.wrapping_add(offset as u32);
            batch.bytes[start + 8..start + 12].copy_from_slice(&seq.to_ne_bytes());
        }
        if acknowledge_last && let Some(start) = batch.starts[range.clone()].last() {
            set_flags(&mut batch.bytes[*start..], libc::NLM_F_ACK as u16);
        }
        self.seq = first_seq.wrapping_add(range.len() as u32);
        first_seq
    }

    fn send(&self, datagram: &[u8]) -> Result<(), NetlinkError> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.inner.send_to(datagram, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive(&mut self) -> Result<(), NetlinkError> {
        self.receive_with(0)
    }

    fn receive_with(&mut self, flags: libc::c_int) -> Result<(), NetlinkError> {
        loop {
            self.buffer.clear();
            match self.inner.recv_from(&mut self.buffer, flags | libc::MSG_TRUNC) {
                // Only the kernel has port 0; another process may send us a datagram that looks like an answer.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((len, _)) if len > self.buffer.len() => return Err(NetlinkError::Overrun),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NetlinkError::from_receive(error)),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self.inner`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }
}

/// The bytes of some messages of a batch.
fn datagram(batch: &Batch, messages: std::ops::Range<usize>) -> &[u8] {
    let end = batch.starts.get(messages.end).copied().unwrap_or(batch.bytes.len());
    &batch.bytes[batch.starts[messages.start]..end]
}

fn chunk_end(batch: &Batch, first: usize) -> usize {
    let mut last = first + 1;
    while last < batch.starts.len()
        && last - first < CHUNK_MESSAGES
        && batch.starts.get(last + 1).copied().unwrap_or(batch.bytes.len()) - batch.starts[first]
            <= CHUNK_BYTES
    {
        last += 1;
    }
    last
}

fn set_flags(message: &mut [u8], flags: u16) {
    let present = u16::from_ne_bytes([message[6], message[7]]);
    message[6..8].copy_from_slice(&(present | flags).to_ne_bytes());
}

/// Reads an `NLMSG_ERROR`: a refusal, or with error 0 an acknowledgement.
fn verdict(message: &Message<'_>) -> Result<(), NetlinkError> {
    let errno = -message.fixed::<4>().map_or(-libc::EBADMSG, i32::from_ne_bytes);
    if errno == 0 {
        return Ok(());
    }
    let text = (message.flags & NLM_F_ACK_TLVS != 0).then(|| {
        // struct nlmsgerr: the error, then the request's header, then its payload unless the answer is capped.
        let request_len =
            message.payload.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
        let request = if message.flags & NLM_F_CAPPED != 0 { 16 } else { request_len as usize };
        let offset = request.saturating_add(4);
        message
            .attributes(offset)
            .find(NLMSGERR_ATTR_MSG)
            .and_then(|attribute| attribute.str())
            .map(str::to_owned)
    });
    Err(NetlinkError::Refused { errno, message: text.flatten() })
}
