//! Links, addresses, routes and neighbours as [`Observed`] has them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hopwise_core::cidr::Cidr;
use hopwise_core::l2::value::{
    Address, BridgeOptions, Hop, Lifetime, Link, Neighbour, Observed, Route, Special, Wanted, address_flags,
};
use hopwise_core::mark;
use hopwise_core::name::LinkName;

use crate::netlink::{Attribute, Attributes, Batch, Message, NetlinkError, Socket};
use crate::rt;

const ARPHRD_ETHER: u16 = 1;
/// `linux/if_link.h`.
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_STP_STATE: u16 = 5;
/// `RTEXT_FILTER_SKIP_STATS`.
const SKIP_STATS: u32 = 8;
/// `linux/if_addr.h`.
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
pub(super) const IFA_RT_PRIORITY: u16 = 9;
pub(super) const IFA_PROTO: u16 = 11;
/// `INFINITY_LIFE_TIME`.
pub(super) const FOREVER: u32 = u32::MAX;
/// `linux/rtnetlink.h`.
pub(super) const RTA_VIA: u16 = 18;
pub(super) const RTA_PREF: u16 = 20;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
pub(super) const RTAX_CC_ALGO: u16 = 16;
pub(super) const RTNH_F_ONLINK: u8 = 4;
const RTM_F_CLONED: u32 = 0x200;
/// Ticks in a second of what the kernel tells users (`USER_HZ`).
const USER_HZ: u32 = 100;
/// `linux/neighbour.h`.
pub(super) const NTF_PROXY: u8 = 0x08;
pub(super) const NTF_ROUTER: u8 = 0x80;

/// The folder of sysctls that new links get their values from.
const DEFAULTS: LinkName = LinkName::new_static("default");

/// Links by index: what names are made of.
type Names = BTreeMap<u32, LinkName>;

pub(super) fn observe(socket: &mut Socket, wanted: Wanted) -> Result<Observed, NetlinkError> {
    let links = links(socket)?;
    let names: Names = links.iter().map(|(index, (name, _))| (*index, *name)).collect();
    let mut observed = Observed {
        links: links.into_values().collect(),
        routes: routes(socket, wanted, &names)?,
        ..Observed::default()
    };
    for (index, name) in names.iter().filter(|(_, name)| [wanted.uplink, wanted.bridge].contains(name)) {
        observed.addresses.insert(*name, addresses(socket, *index)?);
        observed.neighbours.insert(*name, neighbours(socket, *index)?);
        observed.sysctls.insert(*name, super::sysctls(*name));
    }
    // A link that is made now starts with these.
    observed.sysctls.entry(wanted.bridge).or_insert_with(|| super::sysctls(DEFAULTS));
    Ok(observed)
}

/// The indices of all links.
pub(super) fn indices(socket: &mut Socket) -> Result<BTreeMap<LinkName, u32>, NetlinkError> {
    Ok(links(socket)?.into_iter().map(|(index, (name, _))| (name, index)).collect())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn dump<T>(
    socket: &mut Socket,
    kind: u16,
    fixed: &[u8],
    mut read: impl FnMut(&Message<'_>) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    let mut batch = Batch::new();
    drop(batch.message(kind, 0, fixed));
    let mut all = Vec::new();
    match socket.dump(&mut batch, &mut all, Vec::clear, |all, message| all.extend(read(&message))) {
        // A family that the kernel was built or booted without.
        Err(error) if error.errno() == libc::EOPNOTSUPP => Ok(all),
        dumped => dumped.map(|()| all),
    }
}

/// A link and the indices that it refers to.
struct RawLink {
    index: u32,
    name: LinkName,
    link: Link,
    master: Option<u32>,
    on: Option<u32>,
}

fn links(socket: &mut Socket) -> Result<BTreeMap<u32, (LinkName, Link)>, NetlinkError> {
    let mut batch = Batch::new();
    batch.message(libc::RTM_GETLINK, 0, &[0; 16]).u32(libc::IFLA_EXT_MASK, SKIP_STATS);
    let mut raw: Vec<RawLink> = Vec::new();
    socket.dump(&mut batch, &mut raw, Vec::clear, |raw, message| raw.extend(link(&message)))?;
    let names: Names = raw.iter().map(|raw| (raw.index, raw.name)).collect();
    let named = |index: Option<u32>| index.and_then(|index| names.get(&index).copied());
    let resolved = raw.iter().map(|raw| {
        let link = Link { master: named(raw.master), on: named(raw.on), ..raw.link.clone() };
        (raw.index, (raw.name, link))
    });
    Ok(resolved.collect())
}

fn link(message: &Message<'_>) -> Option<RawLink> {
    if message.kind != libc::RTM_NEWLINK {
        return None;
    }
    let fixed = message.fixed::<16>()?;
    let flags = u32_at(&fixed, 8);
    let attributes = message.attributes(16);
    let find = |kind| attributes.find(kind);
    let name: LinkName = find(libc::IFLA_IFNAME)?.str()?.parse().ok()?;
    let info = find(libc::IFLA_LINKINFO).map(|info| info.nested());
    let kind = info.as_ref().and_then(|info| info.find(libc::IFLA_INFO_KIND)?.str()).unwrap_or_default();
    let data = info.as_ref().and_then(|info| info.find(libc::IFLA_INFO_DATA)).map(|data| data.nested());
    let bridge = data.filter(|_| kind == "bridge").map(|data| BridgeOptions {
        stp: data.find(IFLA_BR_STP_STATE).and_then(|state| state.u32()).unwrap_or(0) != 0,
        forward_delay: data.find(IFLA_BR_FORWARD_DELAY).and_then(|delay| delay.u32()).unwrap_or(0),
    });
    // The other end of a veth pair is nothing that it is made on; neither is a link of another namespace.
    let on = find(libc::IFLA_LINK).filter(|_| kind != "veth" && find(IFLA_LINK_NETNSID).is_none());
    Some(RawLink {
        index: u32_at(&fixed, 4),
        name,
        master: find(libc::IFLA_MASTER).and_then(|master| master.u32()),
        on: on.and_then(|on| on.u32()).filter(|on| *on != 0),
        link: Link {
            kind: kind.to_owned(),
            ethernet: u16::from_ne_bytes([fixed[2], fixed[3]]) == ARPHRD_ETHER,
            loopback: flags & libc::IFF_LOOPBACK as u32 != 0,
            wireless: is_wireless(name, u32_at(&fixed, 4)),
            mac: find(libc::IFLA_ADDRESS).and_then(|mac| mac.mac()),
            mtu: find(libc::IFLA_MTU).and_then(|mtu| mtu.u32()).unwrap_or(0),
            up: flags & libc::IFF_UP as u32 != 0,
            master: None,
            on: None,
            bridge,
        },
    })
}

/// sysfs shows the links of the namespace that it was mounted in: only where the index agrees is it about this link.
fn is_wireless(name: LinkName, index: u32) -> bool {
    let folder = std::path::Path::new("/sys/class/net").join(name.as_str());
    folder.join("phy80211").exists()
        && std::fs::read_to_string(folder.join("ifindex")).is_ok_and(|text| text.trim() == index.to_string())
}

fn addresses(socket: &mut Socket, link: u32) -> Result<Vec<Address>, NetlinkError> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut fixed = [family as u8, 0, 0, 0, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&link.to_ne_bytes());
        // Kernels before 4.20 do not filter by link.
        all.extend(dump(socket, libc::RTM_GETADDR, &fixed, |message| address(message, link))?);
    }
    Ok(all)
}

fn address(message: &Message<'_>, link: u32) -> Option<Address> {
    let fixed = message.fixed::<8>()?;
    if message.kind != libc::RTM_NEWADDR || u32_at(&fixed, 4) != link {
        return None;
    }
    let attributes = message.attributes(8);
    let find = |kind| attributes.find(kind);
    let (local, far) = (
        find(libc::IFA_LOCAL).and_then(|local| local.ip()),
        find(libc::IFA_ADDRESS).and_then(|address| address.ip()),
    );
    let address = local.or(far)?;
    let flags = find(IFA_FLAGS).and_then(|flags| flags.u32()).unwrap_or_else(|| u32::from(fixed[2]));
    // struct ifa_cacheinfo: preferred, valid, then when it was made and changed.
    let times = find(IFA_CACHEINFO)
        .map_or([FOREVER; 2], |times| [u32_at(times.payload, 0), u32_at(times.payload, 4)]);
    let lifetime = |seconds: u32| -> Lifetime { (seconds != FOREVER).then_some(seconds) };
    let broadcast = find(libc::IFA_BROADCAST).and_then(|broadcast| match broadcast.ip()? {
        IpAddr::V4(broadcast) => Some(broadcast),
        IpAddr::V6(_) => None,
    });
    Some(Address {
        address,
        prefix_len: fixed[1],
        peer: far.filter(|far| *far != address),
        broadcast,
        label: find(libc::IFA_LABEL).and_then(|label| label.str()).map(str::to_owned),
        scope: fixed[3],
        flags: flags & address_flags::SETTABLE,
        state: flags & !address_flags::SETTABLE,
        preferred: lifetime(times[0]),
        valid: lifetime(times[1]),
        metric: find(IFA_RT_PRIORITY).and_then(|metric| metric.u32()).unwrap_or(0),
        protocol: find(IFA_PROTO).and_then(|protocol| protocol.u8()).unwrap_or(0),
    })
}

/// The routes of the two links, and of others with the same key as one of those.
fn routes(socket: &mut Socket, wanted: Wanted, names: &Names) -> Result<Vec<Route>, NetlinkError> {
    let all = dump(socket, libc::RTM_GETROUTE, &[0; 12], |message| route(message, names))?;
    let ours = |route: &Route| route.uses(wanted.uplink) || route.uses(wanted.bridge);
    let key = |route: &Route| (route.table, route.dst, route.from, route.tos, route.metric);
    let keys: std::collections::BTreeSet<_> = all.iter().filter(|route| ours(route)).map(key).collect();
    Ok(all.into_iter().filter(|route| keys.contains(&key(route))).collect())
}

fn route(message: &Message<'_>, names: &Names) -> Option<Route> {
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let fixed = message.fixed::<12>()?;
    let flags = u32_at(&fixed, 8);
    let unspecified = match i32::from(fixed[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let attributes = message.attributes(12);
    let find = |kind| attributes.find(kind);
    let number = |kind| find(kind).and_then(|attribute: Attribute<'_>| attribute.u32());
    let address = |kind| find(kind).and_then(|attribute: Attribute<'_>| attribute.ip());
    let table = number(libc::RTA_TABLE).unwrap_or_else(|| u32::from(fixed[4]));
    let own = table == u32::from(libc::RT_TABLE_LOCAL) && fixed[5] == libc::RTPROT_KERNEL;
    if flags & RTM_F_CLONED != 0 || own {
        return None;
    }
    let metrics = find(libc::RTA_METRICS).map(|metrics| metrics.nested());
    let expires = find(libc::RTA_CACHEINFO).map_or(0, |info| u32_at(info.payload, 8));
    Some(Route {
        dst: Cidr::containing(address(libc::RTA_DST).unwrap_or(unspecified), fixed[1])?,
        from: address(libc::RTA_SRC).and_then(|from| Cidr::containing(from, fixed[2])),
        tos: fixed[3],
        table,
        metric: number(libc::RTA_PRIORITY).unwrap_or(0),
        protocol: fixed[5],
        scope: fixed[6],
        kind: fixed[7],
        source: address(libc::RTA_PREFSRC),
        hops: hops(&attributes, flags, names),
        metrics: metrics.clone().map(metric_values).unwrap_or_default(),
        congestion: metrics.and_then(|metrics| metrics.find(RTAX_CC_ALGO)?.str()).map(str::to_owned),
        preference: find(RTA_PREF).and_then(|preference| preference.u8()),
        // Negative: it has ended and waits to be collected.
        expires: (expires != 0).then(|| (expires.cast_signed().max(0).cast_unsigned() / USER_HZ).max(1)),
        special: number(RTA_NH_ID)
            .map(Special::NextHopObject)
            .or_else(|| find(RTA_ENCAP).map(|_| Special::Encapsulation)),
    })
}

fn metric_values(metrics: Attributes<'_>) -> Vec<(u16, u32)> {
    metrics
        .filter(|metric| metric.kind != RTAX_CC_ALGO)
        .filter_map(|metric| Some((metric.kind, metric.u32()?)))
        .collect()
}

fn gateway(attributes: &Attributes<'_>) -> Option<IpAddr> {
    // struct rtvia: a family and an address.
    let via = attributes.find(RTA_VIA);
    let via = via.and_then(|via| Attribute { kind: RTA_VIA, payload: via.payload.get(2..)? }.ip());
    attributes.find(libc::RTA_GATEWAY).and_then(|gateway| gateway.ip()).or(via)
}

fn hops(attributes: &Attributes<'_>, flags: u32, names: &Names) -> Vec<Hop> {
    let named = |index: u32| names.get(&index).copied();
    let Some(several) = attributes.find(libc::RTA_MULTIPATH) else {
        let link = attributes.find(libc::RTA_OIF).and_then(|link| named(link.u32()?));
        let hop = link.map(|link| Hop {
            link,
            gateway: gateway(attributes),
            onlink: flags & u32::from(RTNH_F_ONLINK) != 0,
            weight: 1,
        });
        return hop.into_iter().collect();
    };
    // struct rtnexthop: length, flags, weight - 1, link; then attributes.
    let (mut hops, mut rest) = (Vec::new(), several.payload);
    while let Some(&[low, high, flags, weight]) = rest.get(..4).and_then(|head| head.first_chunk()) {
        let len = usize::from(u16::from_ne_bytes([low, high]));
        let Some(inner) = rest.get(8..len) else { break };
        hops.extend(named(u32_at(rest, 4)).map(|link| Hop {
            link,
            gateway: gateway(&Attributes::new(inner)),
            onlink: flags & RTNH_F_ONLINK != 0,
            weight: u16::from(weight) + 1,
        }));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// Permanent entries, without the agent's own, which follow its plan.
fn neighbours(socket: &mut Socket, link: u32) -> Result<Vec<Neighbour>, NetlinkError> {
    let mut all = Vec::new();
    for proxy in [0, NTF_PROXY] {
        let mut fixed = [0; 12];
        fixed[10] = proxy;
        all.extend(dump(socket, libc::RTM_GETNEIGH, &fixed, |message| neighbour(message, link))?);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

fn neighbour(message: &Message<'_>, link: u32) -> Option<Neighbour> {
    let entry = rt::neighbour::decode(message)?;
    let wanted = entry.link == link
        && !entry.is_fdb()
        && (entry.permanent() || entry.proxy())
        && entry.protocol != mark::PROTOCOL;
    wanted.then_some(())?;
    Some(Neighbour {
        address: entry.address?,
        mac: entry.mac.filter(|_| !entry.proxy()),
        proxy: entry.proxy(),
        router: entry.flags & NTF_ROUTER != 0,
    })
}
