//! What has to be remembered to understand notifications, and the translation itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hopwise_core::family::PerFamily;
use hopwise_core::mark::PROTOCOL;
use hopwise_core::name::{LinkName, MacAddr};
use hopwise_core::object::Address;
use hopwise_core::observed::{Event, ObservedLink};

use super::Interest;
use crate::netlink::{Message, NetlinkError, Socket};
use crate::observe::translate::{self, Names};
use crate::observe::{self, Failed};
use crate::rt;
use crate::rt::address::AddressMessage;
use crate::rt::link::LinkMessage;
use crate::rt::netconf::NetconfLink;
use crate::rt::route::RouteMessage;

/// `NLM_F_REPLACE`, as notifications repeat it: what stood there before is gone.
const REPLACED: u16 = libc::NLM_F_REPLACE as u16;
/// `NLM_F_CREATE` without `NLM_F_EXCL`: a route was made where one with the same key stood, and still stands.
const CREATED: u16 = libc::NLM_F_CREATE as u16;
const ALONE: u16 = libc::NLM_F_EXCL as u16;

#[derive(Debug, Default)]
pub(super) struct State {
    links: BTreeMap<u32, KnownLink>,
    /// Addresses by link, address and prefix length, IPv6 link-local ones left out; whether each is usable.
    addresses: BTreeMap<(u32, IpAddr, u8), bool>,
    /// Foreign permanent neighbour entries. A deletion does not say what state the entry was in.
    permanent: BTreeMap<(u32, IpAddr), MacAddr>,
    interest: Option<Interest>,
    pending: Pending,
}

/// Events of which one is enough, however often they happen.
#[derive(Debug, Default)]
struct Pending {
    host: Option<bool>,
    sysctls: bool,
    table: bool,
    foreign_netfilter: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct KnownLink {
    name: LinkName,
    up: bool,
    carrier: bool,
    mtu: u32,
    mac: Option<MacAddr>,
    master: Option<u32>,
    alias: String,
    /// For links of ours.
    ours: Option<ObservedLink>,
}

impl KnownLink {
    fn new(link: &LinkMessage<'_>) -> Option<KnownLink> {
        Some(KnownLink {
            name: link.name?,
            up: link.up(),
            carrier: link.carrier(),
            mtu: link.mtu,
            mac: link.mac,
            master: link.master,
            alias: link.alias.to_owned(),
            ours: translate::is_ours(link).then(|| translate::observed_link(link)),
        })
    }
}

impl Names for State {
    fn name(&self, index: u32) -> Option<LinkName> {
        self.links.get(&index).map(|link| link.name)
    }
}

impl State {
    /// Reads the links, addresses and permanent neighbours that stand now.
    pub(super) fn load(socket: &mut Socket) -> Result<State, NetlinkError> {
        State::read(socket).map_err(|(_, error)| error)
    }

    fn read(socket: &mut Socket) -> Result<State, Failed> {
        let mut state = State::default();
        let links = observe::dump(socket, "links", rt::link::get_all, |message| {
            let link = rt::link::decode(message)?;
            Some((link.index, KnownLink::new(&link)?))
        })?;
        state.links = links.into_iter().collect();
        let addresses =
            observe::dump(socket, "addresses", |batch| rt::address::get_all(batch, 0), rt::address::decode)?;
        state.addresses = addresses
            .iter()
            .filter(|address| !address.link_local())
            .map(|address| (address_key(address), !address.unusable()))
            .collect();
        let families = PerFamily { v4: true, v6: crate::sysctl::has_ipv6() };
        for family in observe::enabled(families) {
            let entries = observe::dump(
                socket,
                "neighbours",
                |batch| rt::neighbour::get_all(batch, family),
                |message| {
                    let entry = rt::neighbour::decode(message)?;
                    let foreign = entry.permanent() && entry.protocol != PROTOCOL && !entry.proxy();
                    foreign.then_some(((entry.link, entry.address?), entry.mac?))
                },
            )?;
            state.permanent.extend(entries);
        }
        Ok(state)
    }

    pub(super) fn set_interest(&mut self, interest: Interest) {
        self.interest = Some(interest);
    }

    pub(super) fn take_interest(&mut self) -> Option<Interest> {
        self.interest.take()
    }

    /// Appends the events that were held back to be one.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) {
        let pending = std::mem::take(&mut self.pending);
        events.extend(pending.table.then_some(Event::Table));
        events.extend(pending.sysctls.then_some(Event::Sysctls));
        events.extend(pending.host.map(|resync| Event::Host { resync }));
        events.extend(pending.foreign_netfilter.then_some(Event::ForeignNetfilter));
    }

    /// Takes in an event of the netfilter socket.
    pub(super) fn netfilter(&mut self, event: Option<Event>, events: &mut Vec<Event>) {
        match event {
            Some(Event::Table) => self.pending.table = true,
            Some(Event::ForeignNetfilter) => self.pending.foreign_netfilter = true,
            event => events.extend(event),
        }
    }

    /// Takes in a routing notification.
    pub(super) fn routing(&mut self, message: &Message<'_>, events: &mut Vec<Event>) {
        match message.kind {
            libc::RTM_NEWLINK => self.link(message),
            libc::RTM_DELLINK => self.link_gone(message),
            libc::RTM_NEWADDR => self.address(message, true, events),
            libc::RTM_DELADDR => self.address(message, false, events),
            libc::RTM_NEWROUTE => self.route(message, true, events),
            libc::RTM_DELROUTE => self.route(message, false, events),
            libc::RTM_NEWNEIGH => self.neighbour(message, true, events),
            libc::RTM_DELNEIGH => self.neighbour(message, false, events),
            libc::RTM_NEWRULE => self.rule(message, true, events),
            libc::RTM_DELRULE => self.rule(message, false, events),
            rt::nexthop::NEW => self.next_hop(message, true, events),
            rt::nexthop::DEL => self.next_hop(message, false, events),
            rt::netconf::NEW => self.netconf(message),
            _ => {}
        }
    }

    fn host_changed(&mut self, resync: bool) {
        let host = self.pending.host.get_or_insert(resync);
        *host |= resync;
    }

    fn is_ours(&self, link: u32) -> bool {
        self.links.get(&link).is_some_and(|link| link.ours.is_some())
    }

    /// Whether our routes may go out through a link.
    fn is_uplink(&self, name: LinkName) -> bool {
        self.interest.as_ref().is_none_or(|interest| interest.uplinks.contains(&name))
    }

    /// Whether a link has an address that may be the node's own.
    fn has_address(&self, link: u32) -> bool {
        let lowest = (link, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.addresses
            .range(lowest..)
            .take_while(|((of, _, _), _)| *of == link)
            .any(|((_, address, _), _)| !self.is_own_pods(*address))
    }

    fn is_own_pods(&self, address: IpAddr) -> bool {
        let own = self.interest.iter().flat_map(|interest| &interest.own_pod_cidrs);
        own.into_iter().any(|cidr| cidr.contains(address))
    }

    fn link(&mut self, message: &Message<'_>) {
        // Messages of AF_BRIDGE are about a bridge port's state.
        let Some(link) = rt::link::decode(message).filter(|link| link.family == 0) else { return };
        let Some(now) = KnownLink::new(&link) else { return };
        let before = self.links.get(&link.index);
        if before == Some(&now) {
            return;
        }
        let ours = now.ours.is_some() || before.is_some_and(|before| before.ours.is_some());
        let uplink = self.is_uplink(now.name) || before.is_some_and(|before| self.is_uplink(before.name));
        let moved = before
            .is_none_or(|before| (before.name, before.up, before.carrier) != (now.name, now.up, now.carrier));
        if ours || uplink || self.has_address(link.index) {
            self.host_changed(ours || uplink && moved);
        }
        self.links.insert(link.index, now);
    }

    fn link_gone(&mut self, message: &Message<'_>) {
        let Some(link) = rt::link::decode(message).filter(|link| link.family == 0) else { return };
        let had_address = self.has_address(link.index);
        if let Some(before) = self.links.remove(&link.index) {
            let vital = before.ours.is_some() || self.is_uplink(before.name);
            if vital || had_address {
                self.host_changed(vital);
            }
        }
        self.addresses.retain(|(of, _, _), _| *of != link.index);
        self.permanent.retain(|(of, _), _| *of != link.index);
    }

    fn address(&mut self, message: &Message<'_>, present: bool, events: &mut Vec<Event>) {
        let Some(address) = rt::address::decode(message).filter(|address| !address.link_local()) else {
            return;
        };
        let known = self.links.get(&address.link);
        if let Some(link) = known.filter(|link| link.ours.is_some()) {
            let address =
                Address { link: link.name, address: address.address, prefix_len: address.prefix_len };
            events.push(Event::Address { address, present });
            return;
        }
        let uplink = known.is_none_or(|link| self.is_uplink(link.name));
        let matters = uplink || !self.is_own_pods(address.address);
        let key = address_key(&address);
        let usable = !address.unusable();
        // Router advertisements tell the same address again and again.
        let changed = if present {
            self.addresses.insert(key, usable) != Some(usable)
        } else {
            self.addresses.remove(&key).is_some()
        };
        if matters && changed {
            // With an uplink's last address the kernel drops routes through it, and does not say so.
            self.host_changed(uplink && !present);
        }
    }

    fn route(&mut self, message: &Message<'_>, present: bool, events: &mut Vec<Event>) {
        let Some(route) = rt::route::decode(message).filter(|route| !route.cloned) else { return };
        let key = translate::route_key(&route);
        if translate::is_our_route(&route) {
            let now = present.then(|| translate::observed_route(&route, self));
            events.push(Event::Route { key, now });
            if present && message.flags & (CREATED | ALONE) == CREATED {
                // The one beside it may be ours too: only a dump tells.
                self.host_changed(true);
            }
            return;
        }
        if present && message.flags & REPLACED != 0 {
            // Ours may have stood there.
            events.push(Event::Route { key, now: None });
        }
        if self.route_matters(&route) {
            self.host_changed(false);
        }
    }

    /// Whether a foreign route can have a say about pod networks or about how peers are reached.
    fn route_matters(&self, route: &RouteMessage) -> bool {
        // The local table's own kinds follow addresses, which are told of themselves.
        if !route.unicast() && !route.refuses() && route.kind != libc::RTN_THROW {
            return false;
        }
        let Some(interest) = &self.interest else { return true };
        let dst = route.dst;
        let of_a_pod = interest
            .own_pod_cidrs
            .iter()
            .any(|own| own.contains_cidr(dst) && own.prefix_len() < dst.prefix_len());
        dst.prefix_len() == 0
            || !of_a_pod && interest.pod_networks.iter().any(|network| network.overlaps(dst))
            || interest.lookups.range(dst.address()..=dst.last_address()).next().is_some()
    }

    fn next_hop(&mut self, message: &Message<'_>, present: bool, events: &mut Vec<Event>) {
        let Some(next_hop) = rt::nexthop::decode(message) else { return };
        let id = next_hop.id;
        if next_hop.protocol == PROTOCOL {
            let now = present.then(|| translate::observed_next_hop(&next_hop, self));
            events.push(Event::NextHop { id, now });
            return;
        }
        if present && message.flags & REPLACED != 0 {
            // Ours may have had that id; and foreign routes that use it lead elsewhere now.
            events.push(Event::NextHop { id, now: None });
            self.host_changed(false);
        }
        events.push(Event::ForeignNextHop { id, present });
    }

    fn neighbour(&mut self, message: &Message<'_>, present: bool, events: &mut Vec<Event>) {
        let Some(entry) = rt::neighbour::decode(message) else { return };
        let Some(name) = self.name(entry.link) else { return };
        let ours = self.is_ours(entry.link);
        if entry.is_fdb() {
            if let Some((key, now)) = translate::fdb(&entry, name).filter(|_| ours && !entry.is_echo()) {
                events.push(Event::Fdb { key, now: present.then_some(now) });
            }
            return;
        }
        let Some((key, now)) = translate::neighbour(&entry, name, ours) else { return };
        if ours || entry.protocol == PROTOCOL {
            events.push(Event::Neighbour { key, now: now.filter(|_| present) });
        }
        let foreign = present && now.is_none() && entry.permanent();
        let place = (entry.link, key.address);
        let changed = match entry.mac.filter(|_| foreign) {
            Some(mac) => self.permanent.insert(place, mac) != Some(mac),
            None => self.permanent.remove(&place).is_some(),
        };
        let matters = self.interest.as_ref().is_none_or(|interest| interest.lookups.contains(&key.address));
        if changed && matters {
            self.host_changed(false);
        }
    }

    fn rule(&mut self, message: &Message<'_>, present: bool, events: &mut Vec<Event>) {
        let Some(rule) = rt::rule::decode(message) else { return };
        match translate::observed_rule(&rule) {
            Some(rule) => events.push(Event::Rule { rule, present }),
            // It may lead lookups of peers' addresses elsewhere.
            None => self.host_changed(false),
        }
    }

    fn netconf(&mut self, message: &Message<'_>) {
        let Some(change) = rt::netconf::decode(message) else { return };
        self.pending.sysctls |= match change.link {
            NetconfLink::Common => true,
            // A link that is just being made is told of here first.
            NetconfLink::Link(index) => self.links.get(&index).is_some_and(|link| {
                link.ours.is_some() || self.is_uplink(link.name) || self.has_address(index)
            }),
        };
    }
}

fn address_key(address: &AddressMessage) -> (u32, IpAddr, u8) {
    (address.link, address.address, address.prefix_len)
}

#[cfg(test)]
mod tests;
