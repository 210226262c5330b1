//! The portmap plugin's keys, and what they ask for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;

use super::conditions::{self, Condition};
use crate::config::NetworkConfig;
use crate::json::{FieldError, Object};
use crate::spec::{AddResult, CniError};

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// `IPPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A port of the host that shall lead to a port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the host; `None` for all of them.
    pub host: Option<IpAddr>,
    /// The port of the host.
    pub host_port: u16,
    /// Address and port of the pod.
    pub target: SocketAddr,
}

impl Mapping {
    /// The family; those of host and pod are the same.
    pub fn family(&self) -> Family {
        Family::of(self.target.ip())
    }

    fn is_same_port(&self, other: &Mapping) -> bool {
        (self.family(), self.protocol, self.host, self.host_port)
            == (other.family(), other.protocol, other.host, other.host_port)
    }
}

/// The port of the host: `hostPort 8080/tcp`, or `hostPort 8080/tcp of 192.0.2.1`.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hostPort {}/{}", self.host_port, self.protocol.as_str())?;
        match self.host {
            Some(address) => write!(f, " of {address}"),
            None => write!(f, " ({})", self.family()),
        }
    }
}

/// An entry of `runtimeConfig.portMappings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    protocol: Protocol,
    host: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
}

/// An address of the pod with its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodAddress {
    /// The address.
    pub address: IpAddr,
    /// Its network: others in it may be reached without passing the host.
    pub network: Cidr,
}

/// What the portmap plugin is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortmapConfig {
    entries: Vec<Entry>,
    /// `snat`: masquerade connections from the host's 127.0.0.0/8 and from the pod's own network.
    pub snat: bool,
    /// `masqAll`: masquerade all connections.
    pub masq_all: bool,
    /// `markMasqBit`: the bit of the packet mark by which those to masquerade are known.
    pub mark_bit: u32,
    /// `conditionsV4`: see [`conditions::parse`].
    conditions_v4: Vec<Vec<Condition>>,
    /// `conditionsV6`.
    conditions_v6: Vec<Vec<Condition>>,
}

/// Kubernetes uses 14 and 15, Calico 20 to 31.
const DEFAULT_MARK_BIT: u32 = 13;

impl PortmapConfig {
    /// Reads and checks the keys.
    ///
    /// # Errors
    ///
    /// When a value has the wrong shape, two contradict each other, or one asks for what can't be done.
    pub fn load(config: &NetworkConfig) -> Result<PortmapConfig, CniError> {
        let root = &config.root();
        let conditions = [root.strings("conditionsV4")?, root.strings("conditionsV6")?];
        check_backend(root, &conditions)?;
        let mark_bit: Option<i64> = root.number("markMasqBit")?;
        if mark_bit.is_some() && root.string("externalSetMarkChain")?.is_some() {
            return Err(invalid("Cannot specify externalSetMarkChain and markMasqBit"));
        }
        let mark_bit = mark_bit.unwrap_or(i64::from(DEFAULT_MARK_BIT));
        let Some(mark_bit) = u32::try_from(mark_bit).ok().filter(|bit| *bit <= 31) else {
            return Err(invalid("MasqMarkBit must be between 0 and 31")
                .details(format!("{}: {mark_bit}", root.field("markMasqBit"))));
        };
        let runtime = root.object("runtimeConfig")?;
        let asked = runtime.map(|runtime| runtime.objects("portMappings")).transpose()?.unwrap_or_default();
        Ok(PortmapConfig {
            entries: asked.iter().map(read_entry).collect::<Result<_, _>>()?,
            snat: root.get("snat").is_none() || root.bool("snat")?,
            masq_all: root.bool("masqAll")?,
            mark_bit,
            conditions_v4: conditions::parse("conditionsV4", Family::V4, &conditions[0])?,
            conditions_v6: conditions::parse("conditionsV6", Family::V6, &conditions[1])?,
        })
    }

    /// Whether any mapping is asked for.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The conditions of a family: all of one of these lists.
    pub fn conditions(&self, family: Family) -> &[Vec<Condition>] {
        match family {
            Family::V4 => &self.conditions_v4,
            Family::V6 => &self.conditions_v6,
        }
    }

    /// The mappings to addresses of the pod: of each family, for entries whose `hostIP` is of the same, if they have one.
    ///
    /// # Errors
    ///
    /// When a port is to lead to two places.
    pub fn mappings(&self, pod: &[PodAddress]) -> Result<Vec<Mapping>, CniError> {
        let mut mappings: Vec<Mapping> = Vec::new();
        for (entry, pod) in self.entries.iter().flat_map(|entry| pod.iter().map(move |pod| (entry, pod))) {
            if entry.host.is_some_and(|host| Family::of(host) != Family::of(pod.address)) {
                continue;
            }
            let mapping = Mapping {
                protocol: entry.protocol,
                // The unspecified address stands for all of its family.
                host: entry.host.filter(|host| !host.is_unspecified()),
                host_port: entry.host_port,
                target: SocketAddr::new(pod.address, entry.container_port),
            };
            match mappings.iter().find(|other| other.is_same_port(&mapping)) {
                None => mappings.push(mapping),
                Some(other) if *other == mapping => {}
                Some(other) => {
                    let (one, two) = (other.target.port(), mapping.target.port());
                    let msg = format!(
                        "runtimeConfig.portMappings: {mapping} is to lead to the container's ports {one} and {two}; \
                         use another hostPort for one of them"
                    );
                    return Err(CniError::failed(msg));
                }
            }
        }
        Ok(mappings)
    }
}

/// The back ends are one here; what the reference's don't take from each other is refused as there.
fn check_backend(root: &Object<'_>, conditions: &[Vec<String>; 2]) -> Result<(), CniError> {
    let Some(backend) = root.string("backend")? else { return Ok(()) };
    let other = match backend.as_str() {
        "iptables" => "nftables",
        "nftables" => "iptables",
        _ => {
            return Err(invalid(&format!("unrecognized backend {backend:?}"))
                .details("backend: use \"nftables\" or \"iptables\""));
        }
    };
    let mut wrong = Vec::new();
    if other == "iptables" && root.string("externalSetMarkChain")?.is_some() {
        wrong.push("externalSetMarkChain");
    }
    for (field, items) in ["conditionsV4", "conditionsV6"].into_iter().zip(conditions) {
        let given = items.first().is_some_and(|first| !first.is_empty());
        if given && conditions::is_iptables(items) == (other == "iptables") {
            wrong.push(field);
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let msg = format!(
        "{backend} backend was requested but configuration contains {other}-specific options [{}]",
        wrong.join(" ")
    );
    Err(invalid(&msg))
}

fn invalid(problem: &str) -> CniError {
    CniError::failed(format!("failed to parse config: {problem}"))
}

fn read_entry(entry: &Object<'_>) -> Result<Entry, CniError> {
    let port = |key: &str, what: &str| -> Result<u16, CniError> {
        let number: i64 = entry.number(key)?.unwrap_or(0);
        u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| {
            invalid(&format!("Invalid {what} port number: {number}"))
                .details(format!("{}: give 1 to 65535", entry.field(key)))
        })
    };
    let container_port = port("containerPort", "container")?;
    let host_port = port("hostPort", "host")?;
    let text = entry.string("protocol")?.unwrap_or_default();
    let known = Protocol::ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(&text));
    let protocol = known.ok_or_else(|| FieldError {
        field: entry.field("protocol"),
        problem: format!("{text:?} is none of tcp, udp, sctp"),
    })?;
    Ok(Entry { protocol, host: entry.ip("hostIP")?, host_port, container_port })
}

/// The pod's addresses in a result: the first of each family that is not on another link.
pub fn pod_addresses(result: &AddResult, ifname: &str) -> Vec<PodAddress> {
    let in_pod = |index: Option<usize>| {
        let link = index.and_then(|index| result.interfaces.get(index));
        link.is_none_or(|link| link.name == ifname && !link.sandbox.is_empty())
    };
    let mut found: Vec<PodAddress> = Vec::new();
    for ip in result.ips.iter().filter(|ip| in_pod(ip.interface)) {
        let (address, prefix_len) = (ip.address.address, ip.address.prefix_len);
        let is_first = found.iter().all(|other| other.address.is_ipv4() != address.is_ipv4());
        if let Some(network) = Cidr::containing(address, prefix_len).filter(|_| is_first) {
            found.push(PodAddress { address, network });
        }
    }
    found
}
