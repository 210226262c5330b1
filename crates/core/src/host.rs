//! What the kernel says about this host: everything that planning needs and that is not ours.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::family::{Family, PerFamily};
use crate::name::{IfIndex, LinkName, MacAddr};

/// The host's network as the planner sees it. Our own objects are in [`crate::observed::Observed`] instead, with the
/// exception of our links, which are in both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// All links of the network namespace.
    pub links: BTreeMap<IfIndex, Link>,
    /// All addresses, in the kernel's order.
    pub addresses: Vec<LinkAddress>,
    /// Foreign unicast routes of the main table that are default routes or overlap the cluster's pod networks. Routes
    /// for the connected pod bridge are among them.
    pub routes: Vec<ForeignRoute>,
    /// The kernel's own answer (`RTM_GETROUTE`) for each address that [`crate::plan::lookup_targets`] names.
    pub lookups: BTreeMap<IpAddr, Lookup>,
    /// Permanent neighbour entries that are not ours, by link and address.
    pub foreign_neighbours: BTreeMap<(IfIndex, IpAddr), MacAddr>,
    /// Values of the sysctls that [`crate::plan::sysctl_keys`] names, where they exist.
    pub sysctls: BTreeMap<SysctlKey, String>,
    /// What foreign netfilter rules would do to forwarded packets. Read apart from the rest, and later.
    pub netfilter: NetfilterView,
    /// What this kernel can do.
    pub capabilities: Capabilities,
}

impl HostView {
    /// The link of that name.
    pub fn link_named(&self, name: LinkName) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The link that holds an address.
    pub fn link_with_address(&self, address: IpAddr) -> Option<&Link> {
        let index = self.addresses.iter().find(|held| held.address == address)?.link;
        self.links.get(&index)
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: LinkName,
    /// `IFLA_INFO_KIND`, such as `veth`, `bridge`, `vxlan`; empty for hardware.
    pub kind: String,
    /// Its MAC address, where it has an Ethernet one.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Carrier and operational state good (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Loopback (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// The bridge or bond that it belongs to.
    pub master: Option<IfIndex>,
    /// `ip link set alias`; carries our mark.
    pub alias: String,
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// The link.
    pub link: IfIndex,
    /// The address.
    pub address: IpAddr,
    /// The length of its prefix.
    pub prefix_len: u8,
    /// Not link-local, host or otherwise narrow (`RT_SCOPE_UNIVERSE`).
    pub global: bool,
    /// Deprecated, tentative, failed or temporary: not to be chosen.
    pub unusable: bool,
}

/// A route that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignRoute {
    /// The table.
    pub table: u32,
    /// The destination.
    pub dst: Cidr,
    /// `RTA_PRIORITY`.
    pub metric: u32,
    /// `rtm_protocol`: who made it.
    pub protocol: u8,
    /// The next hop's address; `None` for an on-link route.
    pub gateway: Option<IpAddr>,
    /// The link; `None` for blackhole and the like, or several next hops.
    pub link: Option<IfIndex>,
}

/// What the kernel would do with a packet to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Deliver it on this link, directly.
    OnLink {
        /// The link.
        link: IfIndex,
    },
    /// Hand it to a gateway.
    Via {
        /// The link.
        link: IfIndex,
        /// The gateway.
        gateway: IpAddr,
    },
    /// It is an address of this host.
    Local,
    /// Refuse it: no route, blackhole, prohibit.
    Unreachable,
}

/// A sysctl that Hopwise looks after, below `/proc/sys/net/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SysctlKey {
    /// `ipv4/ip_forward`, `ipv6/conf/all/forwarding`. Written first: changing it resets related values.
    Forwarding(Family),
    /// `ipv6/conf/LINK/accept_ra`.
    AcceptRa(SysctlLink),
    /// `ipv4/conf/LINK/rp_filter`.
    RpFilter(SysctlLink),
    /// `ipv4/conf/LINK/send_redirects`.
    SendRedirects(SysctlLink),
}

/// Which `conf/` folder a sysctl is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SysctlLink {
    /// `conf/all`.
    All,
    /// `conf/default`.
    Default,
    /// One link's.
    Link(LinkName),
}

impl SysctlKey {
    /// The path below `/proc/sys/net/`. A dot in a link's name needs no escape in a path.
    pub fn path(&self) -> String {
        let conf = |link: &SysctlLink| match link {
            SysctlLink::All => "all".to_owned(),
            SysctlLink::Default => "default".to_owned(),
            SysctlLink::Link(name) => name.to_string(),
        };
        match self {
            SysctlKey::Forwarding(Family::V4) => "ipv4/ip_forward".to_owned(),
            SysctlKey::Forwarding(Family::V6) => "ipv6/conf/all/forwarding".to_owned(),
            SysctlKey::AcceptRa(link) => format!("ipv6/conf/{}/accept_ra", conf(link)),
            SysctlKey::RpFilter(link) => format!("ipv4/conf/{}/rp_filter", conf(link)),
            SysctlKey::SendRedirects(link) => format!("ipv4/conf/{}/send_redirects", conf(link)),
        }
    }
}

/// What foreign netfilter rules would do to forwarded packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetfilterView {
    /// The iptables back ends in which a `filter FORWARD` chain with policy `DROP` stands.
    pub forward_policy_drop: Vec<IptablesChain>,
    /// Foreign nftables base chains on the forward hook that drop by policy or hold a rule that drops or rejects.
    pub dropping_chains: Vec<DroppingChain>,
}

/// An iptables `filter FORWARD` chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IptablesChain {
    /// Whose back end holds it.
    pub backend: IptablesBackend,
    /// `iptables` or `ip6tables`.
    pub family: Family,
}

/// The two implementations of iptables, which can be in use at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IptablesBackend {
    /// `iptables-nft`.
    Nft,
    /// `iptables-legacy`.
    Legacy,
}

/// A foreign nftables chain that drops forwarded packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DroppingChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What in it drops.
    pub cause: DropCause,
}

/// What in a chain drops packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropCause {
    /// Its policy.
    Policy,
    /// A rule, by its handle.
    Rule {
        /// `nft -a list` shows it.
        handle: u64,
        /// Whether nothing in the rule narrows what it drops.
        unconditional: bool,
    },
}

/// What the kernel can do, found out once at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Nexthop objects (`RTM_NEWNEXTHOP`, Linux 5.3).
    pub nexthop_objects: bool,
    /// VXLAN devices.
    pub vxlan: bool,
    /// nftables.
    pub nftables: bool,
    /// Families that the kernel has switched on.
    pub families: PerFamily<bool>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            nexthop_objects: true,
            vxlan: true,
            nftables: true,
            families: PerFamily { v4: true, v6: true },
        }
    }
}
