//! Reading messages: iterators over a received buffer. They stop at the first malformed length and never panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopwise_core::name::MacAddr;

const HEADER: usize = 16;
/// The bits of `nla_type` that are flags: `NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`.
const TYPE_FLAGS: u16 = 0xc000;

fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

/// One message: header fields and payload.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub seq: u32,
    /// `nlmsg_pid`: the port of the socket whose request caused it, in notifications too.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages in a received datagram.
    pub fn new(datagram: &'a [u8]) -> Self {
        Messages(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let len = u32::from_ne_bytes(array(self.0, 0)?) as usize;
        let payload = self.0.get(HEADER..len)?;
        let message = Message {
            kind: u16::from_ne_bytes(array(self.0, 4)?),
            flags: u16::from_ne_bytes(array(self.0, 6)?),
            seq: u32::from_ne_bytes(array(self.0, 8)?),
            port: u32::from_ne_bytes(array(self.0, 12)?),
            payload,
        };
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(message)
    }
}

impl<'a> Message<'a> {
    /// The fixed part of the payload, such as `struct rtmsg`; `None` when the message is too short for it.
    pub fn fixed<const N: usize>(&self) -> Option<[u8; N]> {
        array(self.payload, 0)
    }

    /// The attributes after a fixed part of `fixed` bytes.
    pub fn attributes(&self, fixed: usize) -> Attributes<'a> {
        Attributes(self.payload.get(align(fixed)..).unwrap_or_default())
    }
}

/// A sequence of attributes.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes in a byte string.
    pub fn new(bytes: &'a [u8]) -> Self {
        Attributes(bytes)
    }

    /// The first attribute of a kind.
    pub fn find(&self, kind: u16) -> Option<Attribute<'a>> {
        self.clone().find_kind(kind)
    }

    fn find_kind(mut self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self, |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let len = usize::from(u16::from_ne_bytes(array(self.0, 0)?));
        let kind = u16::from_ne_bytes(array(self.0, 2)?) & !TYPE_FLAGS;
        let payload = self.0.get(4..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Attribute { kind, payload })
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// `nla_type` without its flag bits.
    pub kind: u16,
    /// Its value.
    pub payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// As an 8-bit number.
    pub fn u8(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// As a 16-bit number in host byte order.
    pub fn u16(&self) -> Option<u16> {
        array(self.payload, 0).map(u16::from_ne_bytes)
    }

    /// As a 16-bit number in network byte order.
    pub fn be16(&self) -> Option<u16> {
        array(self.payload, 0).map(u16::from_be_bytes)
    }

    /// As a 32-bit number in host byte order.
    pub fn u32(&self) -> Option<u32> {
        array(self.payload, 0).map(u32::from_ne_bytes)
    }

    /// As a 32-bit number in network byte order.
    pub fn be32(&self) -> Option<u32> {
        array(self.payload, 0).map(u32::from_be_bytes)
    }

    /// As a 64-bit number in network byte order.
    pub fn be64(&self) -> Option<u64> {
        array(self.payload, 0).map(u64::from_be_bytes)
    }

    /// As an IP address, its family told by its length.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.payload.len() {
            4 => array::<4>(self.payload, 0).map(|bytes| Ipv4Addr::from(bytes).into()),
            16 => array::<16>(self.payload, 0).map(|bytes| Ipv6Addr::from(bytes).into()),
            _ => None,
        }
    }

    /// As an Ethernet address.
    pub fn mac(&self) -> Option<MacAddr> {
        (self.payload.len() == 6).then(|| array(self.payload, 0).map(MacAddr)).flatten()
    }

    /// As a string, up to its terminating zero.
    pub fn str(&self) -> Option<&'a str> {
        let end = self.payload.iter().position(|byte| *byte == 0).unwrap_or(self.payload.len());
        std::str::from_utf8(&self.payload[..end]).ok()
    }

    /// As attributes.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes(self.payload)
    }
}
