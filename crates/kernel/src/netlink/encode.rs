//! Writing messages: many into one buffer, each attribute straight to its place.

use std::net::IpAddr;

const ALIGN: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// The longest value of an attribute, nested ones included.
const MAX_VALUE: usize = u16::MAX as usize - 4;

/// Messages to send together. Sequence numbers are given by [`super::Socket`] when it sends them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where each message starts.
    pub(super) starts: Vec<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The messages as they stand, sequence numbers not given yet.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the messages, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Starts a message with a fixed part (such as `struct rtmsg`). `NLM_F_REQUEST` is added to the flags.
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> MessageWriter<'_> {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(fixed);
        pad(&mut self.bytes);
        MessageWriter { bytes: &mut self.bytes, start }
    }
}

fn pad(bytes: &mut Vec<u8>) {
    while !bytes.len().is_multiple_of(ALIGN) {
        bytes.push(0);
    }
}

/// A message being written. Its length is filled in when it is dropped.
pub struct MessageWriter<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl MessageWriter<'_> {
    /// Appends an attribute of raw bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        debug_assert!(value.len() <= MAX_VALUE, "an attribute's length has 16 bits");
        let len = (4 + value.len()) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }

    /// Appends a flag: an attribute without a value.
    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.bytes(kind, &[])
    }

    /// Appends an 8-bit number.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// Appends a 16-bit number in host byte order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends a 16-bit number in network byte order.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends a 32-bit number in host byte order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Appends a 32-bit number in network byte order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends a 64-bit number in network byte order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Appends a string with its terminating zero.
    pub fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        debug_assert!(value.len() < MAX_VALUE, "an attribute's length has 16 bits");
        let len = (4 + value.len() + 1) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        pad(self.bytes);
        self
    }

    /// Appends an IP address: 4 or 16 bytes.
    pub fn ip(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        match value {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    /// Starts a nested attribute that lasts until the guard is dropped.
    pub fn nested(&mut self, kind: u16) -> Nested<'_> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        Nested { inner: MessageWriter { bytes: self.bytes, start: usize::MAX }, start }
    }

    /// Appends bytes that are neither header nor attribute: `struct ifinfomsg` inside `VETH_INFO_PEER`.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }
}

impl Drop for MessageWriter<'_> {
    fn drop(&mut self) {
        // A nested writer has no header of its own to fill in.
        if self.start != usize::MAX {
            let len = (self.bytes.len() - self.start) as u32;
            self.bytes[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
        }
    }
}

/// A nested attribute being written; derefs to the writer. Its length is filled in when it is dropped.
pub struct Nested<'a> {
    inner: MessageWriter<'a>,
    start: usize,
}

impl<'a> std::ops::Deref for Nested<'a> {
    type Target = MessageWriter<'a>;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl std::ops::DerefMut for Nested<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        debug_assert!(
            self.inner.bytes.len() - self.start <= 4 + MAX_VALUE,
            "an attribute's length has 16 bits"
        );
        let len = (self.inner.bytes.len() - self.start) as u16;
        self.inner.bytes[self.start..self.start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}
