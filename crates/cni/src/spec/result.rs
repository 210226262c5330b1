//! The result of an ADD, in the shape of the newest version.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What an ADD made. IPAM plugins leave `interfaces` empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// Links, in the host and in the pod.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes in the pod.
    pub routes: Vec<Route>,
    /// Name resolution for the pod.
    pub dns: Dns,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address as text, or empty.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// The path of the network namespace that it is in; empty for the host's.
    pub sandbox: String,
    /// A socket file that belongs to it, or empty.
    pub socket_path: String,
    /// The PCI device, or empty.
    pub pci_id: String,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// The address with its prefix length.
    pub address: InterfaceAddress,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces holds it.
    pub interface: Option<usize>,
}

/// A route in the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub dst: InterfaceAddress,
    /// The gateway; without one, that of the first address of the same family.
    pub gw: Option<IpAddr>,
    /// The path's MTU in bytes.
    pub mtu: Option<u32>,
    /// The MSS to advertise.
    pub advmss: Option<u32>,
    /// The metric.
    pub priority: Option<u32>,
    /// The table; main without one.
    pub table: Option<u32>,
    /// The scope.
    pub scope: Option<u8>,
}

impl Route {
    /// A route without anything but a destination and a gateway.
    pub fn new(dst: InterfaceAddress, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of name servers, most preferred first.
    pub nameservers: Vec<String>,
    /// The local domain, or empty.
    pub domain: String,
    /// Domains to search.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

/// An address together with the length of its prefix, host bits and all: `10.1.2.3/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
}

impl FromStr for InterfaceAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || format!("{text:?} is not an address with a prefix length, such as 10.1.2.0/24");
        let (address, prefix_len) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let digits = prefix_len.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_len: u8 = prefix_len.parse().ok().filter(|_| digits).ok_or_else(error)?;
        if prefix_len > if address.is_ipv4() { 32 } else { 128 } {
            return Err(error());
        }
        Ok(InterfaceAddress { address, prefix_len })
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}
