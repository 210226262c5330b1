//! A network in memory, with the manners of the kernel that the loop depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::{Changes, RouteTarget, TableChange};
use hopwise_core::host::{
    Capabilities, HostView, IptablesChain, Link, LinkAddress, Lookup, NetfilterView, SysctlKey,
};
use hopwise_core::name::{IfIndex, LinkName};
use hopwise_core::netfilter::ObservedTable;
use hopwise_core::object::RouteKey;
use hopwise_core::observed::{
    AcceptRule, Event, Observed, ObservedAccepts, ObservedFdb, ObservedLink, ObservedNextHop, ObservedRoute,
    ObservedRule, ObservedTarget,
};
use hopwise_core::report::{ApplyError, ObjectKind, Report};
use hopwise_kernel::watch::Interest;
use nix::sys::eventfd::EventFd;

use crate::reconciler::network::{Network, NetworkError};

/// The state of the network, shared between the loop and the test.
#[derive(Default)]
pub struct World {
    /// What is ours.
    pub ours: Observed,
    /// What is not.
    pub host: HostView,
    pub netfilter: NetfilterView,
    pub events: Vec<Event>,
    /// The next reading of notifications fails.
    pub lose_events: bool,
    /// The next readings fail.
    pub fail_readings: usize,
    /// Routes that the kernel refuses to write, with the error number.
    pub refuse: BTreeMap<RouteKey, i32>,
    /// Another program that undoes what is done to this route, at once.
    pub fight_over: Option<RouteKey>,
    /// How often [`Network::apply`] was called, and with how many changes in all.
    pub applied: (usize, usize),
    /// How often everything of ours was read.
    pub observed: usize,
    next_index: u32,
}

/// A handle to a [`World`].
#[derive(Clone)]
pub struct FakeNetwork {
    world: Arc<Mutex<World>>,
    fd: Arc<EventFd>,
}

pub const UPLINK: LinkName = LinkName::new_static("eth0");

impl FakeNetwork {
    /// One uplink `eth0` with 192.168.0.1/16.
    pub fn new() -> FakeNetwork {
        let index = IfIndex(2);
        let link = Link {
            index,
            name: UPLINK,
            kind: "veth".into(),
            mac: Some("02:00:00:00:01:01".parse().unwrap()),
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: false,
            master: None,
            alias: String::new(),
        };
        let address = LinkAddress {
            link: index,
            address: "192.168.0.1".parse().unwrap(),
            prefix_len: 16,
            global: true,
            unusable: false,
        };
        let host = HostView {
            links: BTreeMap::from([(index, link)]),
            addresses: vec![address],
            capabilities: Capabilities::default(),
            ..HostView::default()
        };
        let world = World { host, next_index: 10, ..World::default() };
        FakeNetwork { world: Arc::new(Mutex::new(world)), fd: Arc::new(EventFd::new().unwrap()) }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl World {
    fn read<T>(&mut self, value: impl FnOnce(&Self) -> T) -> Result<T, NetworkError> {
        if self.fail_readings > 0 {
            self.fail_readings -= 1;
            return Err(NetworkError::read("anything", std::io::Error::other("no")));
        }
        Ok(value(self))
    }

    fn look_up(&self, target: IpAddr) -> Lookup {
        let nodes: Cidr = "192.168.0.0/16".parse().unwrap();
        if self.host.addresses.iter().any(|held| held.address == target) {
            Lookup::Local
        } else if nodes.contains(target) {
            Lookup::OnLink { link: IfIndex(2) }
        } else {
            Lookup::Unreachable
        }
    }

    /// Does what the kernel does with changes of ours, or of anybody else.
    pub fn apply(&mut self, changes: &Changes) -> Report {
        let mut errors = Vec::new();
        for (key, value) in &changes.sysctls {
            self.ours.sysctls.insert(*key, value.clone());
            self.host.sysctls.insert(*key, value.clone());
            self.events.push(Event::Sysctls);
        }
        self.apply_links(changes);
        for (id, next_hop) in &changes.nexthops_add {
            let now = ObservedNextHop::Known(*next_hop);
            self.ours.nexthops.insert(*id, now);
            self.events.push(Event::NextHop { id: *id, now: Some(now) });
        }
        for neighbour in &changes.neighbours_set {
            self.ours.neighbours.insert(neighbour.key, neighbour.mac);
            self.events.push(Event::Neighbour { key: neighbour.key, now: Some(neighbour.mac) });
        }
        for entry in &changes.fdb_set {
            let now = ObservedFdb::Known(entry.dst);
            self.ours.fdb.insert(entry.key, now);
            self.events.push(Event::Fdb { key: entry.key, now: Some(now) });
        }
        self.apply_routes(changes, &mut errors);
        for rule in &changes.rules_add {
            let rule = ObservedRule { rule: *rule, altered: false };
            self.ours.rules.insert(rule);
            self.events.push(Event::Rule { rule, present: true });
        }
        self.apply_netfilter(changes);
        self.apply_deletions(changes);
        self.fight();
        self.applied.0 += 1;
        self.applied.1 += changes.len();
        Report { applied: changes.len() - errors.len(), errors, elapsed: std::time::Duration::ZERO }
    }

    fn apply_links(&mut self, changes: &Changes) {
        for name in changes.links_recreate.iter().chain(&changes.links_delete) {
            self.ours.links.remove(name);
            // The kernel takes with the link all that rests on it, and says little.
            self.ours.addresses.retain(|address| address.link != *name);
            self.ours.neighbours.retain(|key, _| key.link != *name);
            self.ours.fdb.retain(|key, _| key.link != *name);
            self.events.push(Event::Host { resync: true });
        }
        for link in changes.links_add.iter().chain(&changes.links_set) {
            self.next_index += 1;
            let observed = ObservedLink {
                index: IfIndex(self.next_index),
                kind: "vxlan".into(),
                up: true,
                mtu: link.mtu.bytes(),
                mac: Some(link.mac),
                vni: link.vni,
                port: link.port,
                local: Some(link.local),
                uplink: Some(IfIndex(2)),
                learning: false,
            };
            self.ours.links.insert(link.name, observed);
            self.events.push(Event::Host { resync: true });
        }
        for address in &changes.addresses_add {
            self.ours.addresses.insert(*address);
            self.events.push(Event::Address { address: *address, present: true });
        }
    }

    fn apply_routes(&mut self, changes: &Changes, errors: &mut Vec<ApplyError>) {
        for change in &changes.routes_set {
            let key = change.route.key;
            let taken = !change.replace && self.ours.routes.contains_key(&key);
            let refused = self.refuse.get(&key).copied().or(taken.then_some(nix::libc::EEXIST));
            if let Some(errno) = refused {
                errors.push(ApplyError {
                    kind: ObjectKind::Route,
                    change: format!("ip route replace {}", change.route),
                    errno,
                    message: std::io::Error::from_raw_os_error(errno).to_string(),
                });
                continue;
            }
            let target = match change.target {
                RouteTarget::Object(id) => ObservedTarget::Object(id),
                RouteTarget::Gateway => ObservedTarget::Gateway(change.route.next_hop),
            };
            let now = ObservedRoute { target, mtu: None };
            self.ours.routes.insert(key, now);
            self.events.push(Event::Route { key, now: Some(now) });
        }
    }

    fn apply_netfilter(&mut self, changes: &Changes) {
        let table = &mut self.ours.table;
        match &changes.table {
            None => return,
            Some(TableChange::Replace(wanted)) => {
                *table = Some(ObservedTable {
                    structure: Some(wanted.masquerade.clone()),
                    sets: wanted.sets.clone(),
                });
            }
            Some(TableChange::Delete) => *table = None,
            Some(TableChange::Elements { add, remove }) => {
                let Some(table) = table else { return };
                for (set, element) in add {
                    table.sets.entry(*set).or_default().insert(*element);
                }
                for (set, element) in remove {
                    table.sets.entry(*set).or_default().remove(element);
                }
            }
        }
        self.events.push(Event::Table);
        for (chain, rules) in &changes.forward_accepts {
            let rules: Vec<AcceptRule> = rules.clone();
            self.ours.forward_accepts.insert(*chain, ObservedAccepts { rules, first: true });
            self.events.push(Event::ForeignNetfilter);
        }
    }

    fn apply_deletions(&mut self, changes: &Changes) {
        for rule in &changes.rules_delete {
            let gone: Vec<_> = self.ours.rules.iter().filter(|found| found.rule == *rule).copied().collect();
            for rule in gone {
                self.ours.rules.remove(&rule);
                self.events.push(Event::Rule { rule, present: false });
            }
        }
        for key in &changes.routes_delete {
            if self.ours.routes.remove(key).is_some() {
                self.events.push(Event::Route { key: *key, now: None });
            }
        }
        for id in &changes.nexthops_delete {
            self.ours.nexthops.remove(id);
            let users: Vec<RouteKey> = self.ours.routes.users_of(*id).collect();
            for key in users {
                self.ours.routes.remove(&key);
            }
            self.events.push(Event::NextHop { id: *id, now: None });
        }
        for key in &changes.fdb_delete {
            self.ours.fdb.remove(key);
            self.events.push(Event::Fdb { key: *key, now: None });
        }
        for key in &changes.neighbours_delete {
            self.ours.neighbours.remove(key);
            self.events.push(Event::Neighbour { key: *key, now: None });
        }
        for address in &changes.addresses_delete {
            self.ours.addresses.remove(address);
            self.events.push(Event::Address { address: *address, present: false });
        }
    }

    fn fight(&mut self) {
        if let Some(key) = self.fight_over
            && self.ours.routes.remove(&key).is_some()
        {
            self.events.push(Event::Route { key, now: None });
        }
    }
}

impl Network for FakeNetwork {
    fn observe(&mut self, _sysctls: &[SysctlKey]) -> Result<Observed, NetworkError> {
        let mut world = self.world();
        world.observed += 1;
        world.read(|world| world.ours.clone())
    }

    fn observe_table(&mut self) -> Result<Option<ObservedTable>, NetworkError> {
        self.world().read(|world| world.ours.table.clone())
    }

    fn observe_accepts(&mut self) -> Result<BTreeMap<IptablesChain, ObservedAccepts>, NetworkError> {
        self.world().read(|world| world.ours.forward_accepts.clone())
    }

    fn observe_sysctls(&mut self, keys: &[SysctlKey]) -> BTreeMap<SysctlKey, String> {
        let world = self.world();
        keys.iter().filter_map(|key| Some((*key, world.ours.sysctls.get(key)?.clone()))).collect()
    }

    fn host(&mut self, _pods: &[Cidr], lookups: &BTreeSet<IpAddr>) -> Result<HostView, NetworkError> {
        self.world().read(|world| HostView {
            lookups: lookups.iter().map(|target| (*target, world.look_up(*target))).collect(),
            ..world.host.clone()
        })
    }

    fn lookups(&mut self, targets: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, Lookup>, NetworkError> {
        self.world().read(|world| targets.iter().map(|target| (*target, world.look_up(*target))).collect())
    }

    fn netfilter(&mut self) -> Result<NetfilterView, NetworkError> {
        self.world().read(|world| world.netfilter.clone())
    }

    fn apply(&mut self, changes: &Changes) -> Report {
        self.world().apply(changes)
    }

    fn set_interest(&mut self, _interest: Interest) {}

    fn events(&mut self, events: &mut Vec<Event>) -> Result<(), NetworkError> {
        let mut world = self.world();
        if std::mem::take(&mut world.lose_events) {
            world.events.clear();
            return Err(NetworkError::Lost);
        }
        events.append(&mut world.events);
        Ok(())
    }

    fn notification_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.fd.as_fd(), self.fd.as_fd()]
    }
}
