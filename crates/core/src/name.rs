//! Names and small numbers that carry their own preconditions: parsed at the edge, trusted inside.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A node's name: an RFC 1123 subdomain, as Kubernetes demands of Node objects (at most 253 characters of `a-z`,
/// `0-9`, `-` and `.`, each label starting and ending with a letter or digit).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// Why a string can't be one of the names or numbers of this module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a node name.
    #[error("{0:?} is not a node name: use lower-case letters, digits, '-' and '.', at most 253 characters")]
    Node(String),
    /// Not a link name.
    #[error(
        "{0:?} is not a link name: use 1 to 15 characters without '/', ':', '%' or white space, not '.' or '..'"
    )]
    Link(String),
    /// Not a MAC address.
    #[error("{0:?} is not a MAC address: write six pairs of hexadecimal digits, as in 02:00:5e:00:53:01")]
    Mac(String),
    /// Not a usable MTU.
    #[error("an MTU of {0} bytes can't be used: IPv4 needs at least 68, links carry at most 65535")]
    Mtu(u32),
}

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Sorts before every name.
    pub(crate) fn lowest() -> NodeName {
        NodeName(Arc::default())
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let label_ok = |label: &str| {
            let bytes = label.as_bytes();
            let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            bytes.first().is_some_and(alphanumeric)
                && bytes.last().is_some_and(alphanumeric)
                && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
        };
        if value.len() <= 253 && value.split('.').all(label_ok) {
            Ok(NodeName(value.into()))
        } else {
            Err(NameError::Node(value.to_owned()))
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network interface's name as the kernel takes it (`dev_valid_name`): 1 to 15 bytes, without the `%` by
/// which the kernel is asked to choose a number. Small and `Copy`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName {
    bytes: [u8; 15],
    len: u8,
}

impl LinkName {
    /// A name known at compile time. Fails to compile (or panics, outside a constant) when it is not 1 to 15 bytes.
    pub const fn new_static(name: &'static str) -> LinkName {
        let source = name.as_bytes();
        assert!(!source.is_empty() && source.len() <= 15);
        let mut bytes = [0; 15];
        let mut i = 0;
        while i < source.len() {
            bytes[i] = source[i];
            i += 1;
        }
        LinkName { bytes, len: source.len() as u8 }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for LinkName {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        // A link asked for as `cni%d` is made as `cni0`: no link ever has a name with a percent sign.
        let forbidden = |c: char| matches!(c, '/' | ':' | '%' | '\0') || c.is_whitespace();
        if value.is_empty() || value.len() > 15 || value == "." || value == ".." || value.contains(forbidden)
        {
            return Err(NameError::Link(value.to_owned()));
        }
        let mut bytes = [0; 15];
        bytes[..value.len()].copy_from_slice(value.as_bytes());
        Ok(LinkName { bytes, len: value.len() as u8 })
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An Ethernet MAC address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Whether a single host can own it: not multicast, not all zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for MacAddr {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let error = || NameError::Mac(value.to_owned());
        let mut bytes = [0; 6];
        let mut parts = value.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(error)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(MacAddr(bytes)) }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A maximum transmission unit in bytes, 68 to 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtu(u32);

impl Mtu {
    /// Ethernet's default, 1,500 bytes.
    pub const ETHERNET: Mtu = Mtu(1500);

    /// Checks the bounds; RFC 791 asks for 68 bytes at least.
    pub fn new(bytes: u32) -> Result<Mtu, NameError> {
        if (68..=65535).contains(&bytes) { Ok(Mtu(bytes)) } else { Err(NameError::Mtu(bytes)) }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        self.0
    }

    /// What is left after `overhead` bytes of encapsulation; never below 68.
    pub fn less(self, overhead: u32) -> Mtu {
        Mtu(self.0.saturating_sub(overhead).max(68))
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The kernel's number for a link within one network namespace. A link that is deleted and made again has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_follow_rfc_1123() {
        for good in ["node1", "a", "ip-10-0-0-1.eu-central-1.compute.internal", "0"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "Node1", "-a", "a-", "a..b", "a_b", "a/b", &"a".repeat(254)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn link_names_follow_the_kernel() {
        assert_eq!("eth0".parse::<LinkName>().unwrap(), LinkName::new_static("eth0"));
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "eth%d", "sixteen-letters-"] {
            assert!(bad.parse::<LinkName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mac_addresses_round_trip() {
        let mac: MacAddr = "02:00:5e:00:53:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:00:53:01");
        assert!(mac.is_unicast() && !MacAddr([0xff; 6]).is_unicast() && !MacAddr([0; 6]).is_unicast());
        for bad in ["", "02:00:5e:00:53", "02:00:5e:00:53:01:02", "02-00-5e-00-53-01", "2:0:5e:0:53:1"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}
