//! [`Requests`]: rtnetlink requests to send in one go.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use hopwise_core::name::{IfIndex, LinkName, MacAddr};

use super::spec::{AddressSpec, BridgeSpec, LinkRef, PortSpec, RouteSpec, VethSpec};
use crate::netlink::{Batch, MessageWriter};

/// `linux/veth.h`.
const VETH_INFO_PEER: u16 = 1;
/// `linux/if_link.h`, `IFLA_BR_*`.
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
/// `linux/if_link.h`, `IFLA_BRPORT_*`.
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
/// `linux/if_link.h`: values by `IPV4_DEVCONF_*` (`linux/ip.h`).
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;
/// `linux/if_addr.h`.
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
/// `linux/neighbour.h`.
const NUD_PERMANENT: u16 = 0x80;
/// `linux/rtnetlink.h`.
const RTA_VIA: u16 = 18;
const RTNH_F_ONLINK: u32 = 4;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

pub(super) const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
pub(super) const UP: u32 = libc::IFF_UP as u32;

/// Rtnetlink requests to send in one go, in this order. The kernel takes each on its own: one that is refused does not
/// hold back those after it, so never batch a request that must not be made when an earlier one fails.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    pub(super) batch: Batch,
}

impl Requests {
    /// None.
    pub fn new() -> Requests {
        Requests::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Makes a bridge. `EEXIST` when any link has the name.
    pub fn add_bridge(&mut self, bridge: &BridgeSpec) -> &mut Self {
        let flags = if bridge.up { UP } else { 0 };
        let mut message =
            self.batch.message(libc::RTM_NEWLINK, CREATE, &ifinfomsg(libc::AF_UNSPEC, 0, flags, flags));
        describe(&mut message, bridge.name, bridge.mac, bridge.mtu);
        let mut info = message.nested(libc::IFLA_LINKINFO);
        info.str(libc::IFLA_INFO_KIND, "bridge");
        let mut data = info.nested(libc::IFLA_INFO_DATA);
        data.u32(IFLA_BR_FORWARD_DELAY, 0).u32(IFLA_BR_STP_STATE, 0);
        if let Some(on) = bridge.vlan_filtering {
            data.u8(IFLA_BR_VLAN_FILTERING, u8::from(on));
        }
        drop(data);
        drop(info);
        drop(message);
        self
    }

    /// Makes a veth pair. [`VethSpec::alias`] is left out: the kernel ignores it here. `EEXIST` when either name is
    /// taken in its namespace; nothing is made then.
    pub fn add_veth(&mut self, veth: &VethSpec<'_>) -> &mut Self {
        let flags = if veth.up { UP } else { 0 };
        let mut message =
            self.batch.message(libc::RTM_NEWLINK, CREATE, &ifinfomsg(libc::AF_UNSPEC, 0, flags, flags));
        describe(&mut message, veth.name, veth.mac, veth.mtu);
        if let Some(master) = veth.master {
            message.u32(libc::IFLA_MASTER, master.0);
        }
        if let Some(group) = veth.group {
            message.u32(libc::IFLA_GROUP, group);
        }
        set_queues(&mut message, veth.queues);
        let mut info = message.nested(libc::IFLA_LINKINFO);
        info.str(libc::IFLA_INFO_KIND, "veth");
        let mut data = info.nested(libc::IFLA_INFO_DATA);
        let mut peer = data.nested(VETH_INFO_PEER);
        peer.raw(&ifinfomsg(libc::AF_UNSPEC, 0, 0, 0));
        describe(&mut peer, veth.peer.name, veth.peer.mac, veth.peer.mtu);
        set_queues(&mut peer, veth.queues);
        if let Some(namespace) = veth.peer.namespace {
            peer.u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        }
        drop(peer);
        drop(data);
        drop(info);
        drop(message);
        self
    }

    /// Deletes a link.
    pub fn delete_link(&mut self, link: impl Into<LinkRef>) -> &mut Self {
        drop(self.link(libc::RTM_DELLINK, link.into(), 0, 0));
        self
    }

    /// Raises a link.
    pub fn set_up(&mut self, link: impl Into<LinkRef>) -> &mut Self {
        drop(self.link(libc::RTM_SETLINK, link.into(), UP, UP));
        self
    }

    /// Has a link announce its IPv4 addresses when it is raised or gets another MAC address: the sysctl `arp_notify`, by
    /// netlink and so without /proc.
    pub fn set_arp_notify(&mut self, link: impl Into<LinkRef>) -> &mut Self {
        self.link(libc::RTM_SETLINK, link.into(), 0, 0)
            .nested(libc::IFLA_AF_SPEC)
            .nested(libc::AF_INET as u16)
            .nested(IFLA_INET_CONF)
            .u32(IPV4_DEVCONF_ARP_NOTIFY, 1);
        self
    }

    /// Takes a link down.
    pub fn set_down(&mut self, link: impl Into<LinkRef>) -> &mut Self {
        drop(self.link(libc::RTM_SETLINK, link.into(), 0, UP));
        self
    }

    /// Switches promiscuous mode.
    pub fn set_promiscuous(&mut self, link: impl Into<LinkRef>, on: bool) -> &mut Self {
        let flag = libc::IFF_PROMISC as u32;
        drop(self.link(libc::RTM_SETLINK, link.into(), if on { flag } else { 0 }, flag));
        self
    }

    /// Sets a link's MTU in bytes.
    pub fn set_mtu(&mut self, link: impl Into<LinkRef>, mtu: u32) -> &mut Self {
        self.link(libc::RTM_SETLINK, link.into(), 0, 0).u32(libc::IFLA_MTU, mtu);
        self
    }

    /// Sets a link's MAC address.
    pub fn set_mac(&mut self, link: impl Into<LinkRef>, mac: MacAddr) -> &mut Self {
        self.link(libc::RTM_SETLINK, link.into(), 0, 0).bytes(libc::IFLA_ADDRESS, &mac.0);
        self
    }

    /// Makes a link a port of a bridge, or of nothing.
    pub fn set_master(&mut self, link: impl Into<LinkRef>, master: Option<IfIndex>) -> &mut Self {
        self.link(libc::RTM_SETLINK, link.into(), 0, 0)
            .u32(libc::IFLA_MASTER, master.map_or(0, |index| index.0));
        self
    }

    /// Sets a link's alias.
    pub fn set_alias(&mut self, link: impl Into<LinkRef>, alias: &str) -> &mut Self {
        self.link(libc::RTM_SETLINK, link.into(), 0, 0).str(libc::IFLA_IFALIAS, alias);
        self
    }

    /// Puts a link into a group.
    pub fn set_group(&mut self, link: impl Into<LinkRef>, group: u32) -> &mut Self {
        self.link(libc::RTM_SETLINK, link.into(), 0, 0).u32(libc::IFLA_GROUP, group);
        self
    }

    /// Renames a link. The kernel refuses it (`EBUSY`) while the link is up, before Linux 6.2.
    pub fn rename(&mut self, link: IfIndex, name: LinkName) -> &mut Self {
        self.link(libc::RTM_SETLINK, link.into(), 0, 0).str(libc::IFLA_IFNAME, name.as_str());
        self
    }

    /// Sets options of a bridge port.
    pub fn set_port(&mut self, port: IfIndex, spec: PortSpec) -> &mut Self {
        let mut message = self.batch.message(libc::RTM_SETLINK, 0, &ifinfomsg(libc::AF_BRIDGE, port.0, 0, 0));
        let mut options = message.nested(libc::IFLA_PROTINFO);
        if let Some(on) = spec.hairpin {
            options.u8(IFLA_BRPORT_MODE, u8::from(on));
        }
        if let Some(on) = spec.isolated {
            options.u8(IFLA_BRPORT_ISOLATED, u8::from(on));
        }
        drop(options);
        drop(message);
        self
    }

    /// Puts an address on a link. `EEXIST` when it is there.
    pub fn add_address(&mut self, link: IfIndex, spec: &AddressSpec) -> &mut Self {
        self.address(libc::RTM_NEWADDR, CREATE, link, spec)
    }

    /// Takes an address from a link. `EADDRNOTAVAIL` when it isn't there.
    pub fn delete_address(&mut self, link: IfIndex, spec: &AddressSpec) -> &mut Self {
        self.address(libc::RTM_DELADDR, 0, link, spec)
    }

    fn address(&mut self, kind: u16, flags: u16, link: IfIndex, spec: &AddressSpec) -> &mut Self {
        let mut address_flags = 0;
        if spec.no_dad && spec.address.is_ipv6() {
            address_flags |= IFA_F_NODAD;
        }
        if spec.no_prefix_route {
            address_flags |= IFA_F_NOPREFIXROUTE;
        }
        let [a, b, c, d] = link.0.to_ne_bytes();
        let fixed = [family(spec.address), spec.prefix_len, address_flags as u8, spec.scope, a, b, c, d];
        let mut message = self.batch.message(kind, flags, &fixed);
        message.ip(libc::IFA_LOCAL, spec.address).ip(libc::IFA_ADDRESS, spec.address);
        if let IpAddr::V4(address) = spec.address
            && spec.prefix_len < 31
            && kind == libc::RTM_NEWADDR
        {
            let host_bits = u32::MAX.checked_shr(u32::from(spec.prefix_len)).unwrap_or(0);
            message.bytes(libc::IFA_BROADCAST, &(address.to_bits() | host_bits).to_be_bytes());
        }
        if address_flags != 0 {
            message.u32(libc::IFA_FLAGS, address_flags);
        }
        drop(message);
        self
    }

    /// Adds a route. `EEXIST` when one with the same destination, metric and table is there.
    pub fn add_route(&mut self, spec: &RouteSpec) -> &mut Self {
        self.route(libc::RTM_NEWROUTE, CREATE, spec)
    }

    /// Adds a route before others with the same destination, metric and table (`ip route prepend`); IPv6 makes one
    /// multipath route of them. `EEXIST` when there is just the same one.
    pub fn prepend_route(&mut self, spec: &RouteSpec) -> &mut Self {
        self.route(libc::RTM_NEWROUTE, libc::NLM_F_CREATE as u16, spec)
    }

    /// Adds a route, in place of one with the same destination, metric and table if there is one.
    pub fn replace_route(&mut self, spec: &RouteSpec) -> &mut Self {
        self.route(libc::RTM_NEWROUTE, REPLACE, spec)
    }

    /// Deletes a route that has all that the description says. `ESRCH` when there is none.
    pub fn delete_route(&mut self, spec: &RouteSpec) -> &mut Self {
        self.route(libc::RTM_DELROUTE, 0, spec)
    }

    fn route(&mut self, kind: u16, flags: u16, spec: &RouteSpec) -> &mut Self {
        let route_flags = if spec.onlink { RTNH_F_ONLINK } else { 0 };
        let mut fixed = [0; 12];
        fixed[0] = family(spec.dst.address());
        fixed[1] = spec.dst.prefix_len();
        fixed[4] = u8::try_from(spec.table).unwrap_or(libc::RT_TABLE_UNSPEC);
        fixed[5] = spec.protocol;
        fixed[6] = if kind == libc::RTM_DELROUTE && spec.scope.is_none() {
            libc::RT_SCOPE_NOWHERE
        } else {
            spec.scope_number()
        };
        fixed[7] = spec.kind;
        fixed[8..].copy_from_slice(&route_flags.to_ne_bytes());
        let mut message = self.batch.message(kind, flags, &fixed);
        if spec.dst.prefix_len() > 0 {
            message.ip(libc::RTA_DST, spec.dst.address());
        }
        message.u32(libc::RTA_TABLE, spec.table);
        match spec.gateway {
            Some(gateway) if gateway.is_ipv4() == spec.dst.address().is_ipv4() => {
                message.ip(libc::RTA_GATEWAY, gateway);
            }
            Some(gateway) => {
                let mut via = u16::from(family(gateway)).to_ne_bytes().to_vec();
                match gateway {
                    IpAddr::V4(address) => via.extend(address.octets()),
                    IpAddr::V6(address) => via.extend(address.octets()),
                }
                message.bytes(RTA_VIA, &via);
            }
            None => {}
        }
        if let Some(link) = spec.link {
            message.u32(libc::RTA_OIF, link.0);
        }
        if spec.metric != 0 {
            message.u32(libc::RTA_PRIORITY, spec.metric);
        }
        if let Some(source) = spec.source {
            message.ip(libc::RTA_PREFSRC, source);
        }
        if spec.mtu.is_some() || spec.advmss.is_some() {
            let mut metrics = message.nested(libc::RTA_METRICS);
            spec.mtu.map(|mtu| metrics.u32(RTAX_MTU, mtu));
            spec.advmss.map(|advmss| metrics.u32(RTAX_ADVMSS, advmss));
        }
        drop(message);
        self
    }

    /// Adds a permanent neighbour entry, in place of one for the same address.
    pub fn add_neighbour(&mut self, link: IfIndex, address: IpAddr, mac: MacAddr) -> &mut Self {
        self.neighbour(libc::RTM_NEWNEIGH, REPLACE, link, address).bytes(libc::NDA_LLADDR, &mac.0);
        self
    }

    /// Deletes a neighbour entry. `ENOENT` when there is none.
    pub fn delete_neighbour(&mut self, link: IfIndex, address: IpAddr) -> &mut Self {
        drop(self.neighbour(libc::RTM_DELNEIGH, 0, link, address));
        self
    }

    fn neighbour(&mut self, kind: u16, flags: u16, link: IfIndex, address: IpAddr) -> MessageWriter<'_> {
        let mut fixed = [0; 12];
        fixed[0] = family(address);
        fixed[4..8].copy_from_slice(&link.0.to_ne_bytes());
        fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
        let mut message = self.batch.message(kind, flags, &fixed);
        message.ip(libc::NDA_DST, address);
        message
    }

    fn link(&mut self, kind: u16, link: LinkRef, flags: u32, change: u32) -> MessageWriter<'_> {
        let (index, name) = match link {
            LinkRef::Index(index) => (index.0, None),
            LinkRef::Name(name) => (0, Some(name)),
        };
        let mut message = self.batch.message(kind, 0, &ifinfomsg(libc::AF_UNSPEC, index, flags, change));
        if let Some(name) = name {
            message.str(libc::IFLA_IFNAME, name.as_str());
        }
        message
    }
}

pub(super) fn describe(
    message: &mut MessageWriter<'_>,
    name: LinkName,
    mac: Option<MacAddr>,
    mtu: Option<u32>,
) {
    message.str(libc::IFLA_IFNAME, name.as_str());
    if let Some(mac) = mac {
        message.bytes(libc::IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = mtu {
        message.u32(libc::IFLA_MTU, mtu);
    }
}

fn set_queues(message: &mut MessageWriter<'_>, queues: Option<u32>) {
    if let Some(queues) = queues {
        message.u32(libc::IFLA_NUM_TX_QUEUES, queues).u32(libc::IFLA_NUM_RX_QUEUES, queues);
    }
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// `struct ifinfomsg`.
pub(crate) fn ifinfomsg(family: i32, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[0] = family as u8;
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&change.to_ne_bytes());
    fixed
}
