//! The part of the table that maps ports: names, keys, chains. Its shape is told in the [module](super).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;

use super::conditions::{Condition, Test};
use super::config::{Mapping, PortmapConfig};
use crate::nft::{BaseChain, Data, Element, Load, Rule, SetSpec, Transaction};
use crate::sha512;

/// At `NF_INET_PRE_ROUTING` with priority dstnat.
const PREROUTING: BaseChain<'_> =
    BaseChain { name: "portmap_prerouting", kind: "nat", hook: 0, priority: -100 };
/// At `NF_INET_LOCAL_OUT` with the same.
const OUTPUT: BaseChain<'_> = BaseChain { name: "portmap_output", kind: "nat", hook: 3, priority: -100 };
/// What is sent to an address of this host comes here.
const DISPATCH: &str = "portmap";
/// An element for each attachment that has mappings.
pub const PODS: &str = "portmap_pods";
/// nft's own numbers for its types: ipv4_addr, ipv6_addr, inet_proto, inet_service.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;
const IFNAME: u32 = SetSpec::IFNAME;
/// Bits of a number for each type of a concatenation.
const TYPE_BITS: u32 = 6;
/// `RTN_LOCAL`, as `fib daddr type` has it.
const TYPE_LOCAL: u32 = libc::RTN_LOCAL as u32;
/// 127.0.0.0/8.
const LOOPBACK: [u8; 4] = [127, 0, 0, 0];

/// The two maps in which a mapping has an element each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maps {
    /// To the chain that decides whether the mapping is for a packet.
    pub ways: &'static str,
    /// To address and port of the pod.
    pub targets: &'static str,
    family: Family,
    hosted: bool,
}

const fn maps(ways: &'static str, targets: &'static str, family: Family, hosted: bool) -> Maps {
    Maps { ways, targets, family, hosted }
}

/// All maps; those with an address of the host, which are more specific, before those without.
const MAPS: [Maps; 4] = [
    maps("hostip_hostports_v4", "hostip_targets_v4", Family::V4, true),
    maps("hostports_v4", "targets_v4", Family::V4, false),
    maps("hostip_hostports_v6", "hostip_targets_v6", Family::V6, true),
    maps("hostports_v6", "targets_v6", Family::V6, false),
];

/// The names of all sets and maps whose elements belong to attachments.
pub const SETS: [&str; 9] = [
    PODS,
    MAPS[0].ways,
    MAPS[0].targets,
    MAPS[1].ways,
    MAPS[1].targets,
    MAPS[2].ways,
    MAPS[2].targets,
    MAPS[3].ways,
    MAPS[3].targets,
];

impl Maps {
    /// The maps that a mapping belongs in.
    pub fn of(mapping: &Mapping) -> Maps {
        let is = |maps: &&Maps| (maps.family, maps.hosted) == (mapping.family(), mapping.host.is_some());
        *MAPS.iter().find(is).expect("there is one for each family, with and without an address")
    }

    /// What of a packet is the key.
    fn key(&self) -> Vec<Load> {
        let host = self.hosted.then_some(Load::Destination(self.family));
        host.into_iter().chain([Load::L4Proto, Load::DestinationPort]).collect()
    }

    /// nft's number for the type of the key, and its length.
    fn key_type(&self) -> (u32, u32) {
        let port = PROTOCOL << TYPE_BITS | SERVICE;
        if self.hosted {
            (address_type(self.family) << (2 * TYPE_BITS) | port, self.address_len() + 8)
        } else {
            (port, 8)
        }
    }

    fn address_len(&self) -> u32 {
        u32::from(self.family.bits()) / 8
    }

    fn add(&self, transaction: &mut Transaction) {
        let key = self.key_type();
        transaction.add_set(&SetSpec { name: self.ways, key, data: Some(SetSpec::VERDICT) });
        let target = (address_type(self.family) << TYPE_BITS | SERVICE, self.address_len() + 4);
        transaction.add_set(&SetSpec { name: self.targets, key, data: Some(target) });
    }
}

fn address_type(family: Family) -> u32 {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

fn push_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend(address.octets()),
        IpAddr::V6(address) => bytes.extend(address.octets()),
    }
}

fn push_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 2]);
}

/// The key of a mapping in both maps.
pub fn key(mapping: &Mapping) -> Vec<u8> {
    let mut key = Vec::new();
    if let Some(host) = mapping.host {
        push_address(&mut key, host);
    }
    key.extend([mapping.protocol.number(), 0, 0, 0]);
    push_port(&mut key, mapping.host_port);
    key
}

/// What the target map has for it.
pub fn target(mapping: &Mapping) -> Data {
    let mut value = Vec::new();
    push_address(&mut value, mapping.target.ip());
    push_port(&mut value, mapping.target.port());
    Data::Value(value)
}

/// Reads what a target map has for a key.
pub fn read_target(data: &Data) -> Option<SocketAddr> {
    let Data::Value(value) = data else { return None };
    let (address, port) = value.split_at_checked(value.len().checked_sub(4)?)?;
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(SocketAddr::new(address, u16::from_be_bytes([port[0], port[1]])))
}

/// The key of an attachment: what of a hash of it has room for a name.
pub fn pod_key(owner: &str) -> Vec<u8> {
    let mut key = sha512::hex(owner.as_bytes()).as_bytes()[..15].to_vec();
    key.push(0);
    key
}

/// How a packet finds its mapping: which are for it, and which of them are masqueraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    family: Family,
    masquerade: Option<(Masquerade, u32)>,
    conditions: Vec<Vec<Condition>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Masquerade {
    /// What comes from the pod's own network, or the host's 127.0.0.0/8.
    Near(Cidr),
    All,
}

impl Way {
    /// The way to a pod's address.
    pub fn new(config: &PortmapConfig, network: Cidr) -> Way {
        let family = network.family();
        let whom = if config.masq_all { Masquerade::All } else { Masquerade::Near(network) };
        let conditions = config.conditions(family);
        let any: [Vec<Condition>; 1] = [Vec::new()];
        Way {
            family,
            masquerade: config.snat.then_some((whom, config.mark_bit)),
            conditions: if conditions == any { Vec::new() } else { conditions.to_vec() },
        }
    }

    /// The family that it is for.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The chain in which it starts.
    pub fn chain(&self) -> String {
        if self.conditions.is_empty() {
            return self.marking_chain();
        }
        let text = format!("{:?} {}", self.conditions, self.marking_chain());
        format!("when_{}", &sha512::hex(text.as_bytes())[..16])
    }

    fn marking_chain(&self) -> String {
        // nft takes no colon in a name.
        match self.masquerade {
            None => dnat_chain(self.family).to_owned(),
            Some((Masquerade::Near(network), bit)) => format!("near_{network}_{bit}").replace(':', "_"),
            Some((Masquerade::All, bit)) if self.family == Family::V4 => format!("all_v4_{bit}"),
            Some((Masquerade::All, bit)) => format!("all_v6_{bit}"),
        }
    }

    /// The chain that masquerades what was marked.
    fn masquerading_chain(&self) -> Option<String> {
        self.masquerade.map(|(_, bit)| format!("portmap_postrouting_{bit}"))
    }

    /// The chains that must be there and to which nothing leads but rules of ours, with what uses them: their own rules,
    /// and those that lead there.
    pub fn used_chains(&self) -> Vec<(String, u32)> {
        let mut used = vec![
            (PREROUTING.name.to_owned(), 1),
            (OUTPUT.name.to_owned(), 1),
            // Two chains lead to it.
            (DISPATCH.to_owned(), 3 + MAPS.len() as u32),
        ];
        used.extend(self.masquerading_chain().map(|chain| (chain, 1)));
        used
    }

    /// The other chains that must be there, with the number of their rules. Elements lead to them, any number of them, so
    /// their uses tell nothing.
    pub fn shared_chains(&self) -> Vec<(String, usize)> {
        let mut shared = vec![(dnat_chain(self.family).to_owned(), 2)];
        shared.extend(self.masquerade.map(|(whom, _)| {
            let marks = match whom {
                Masquerade::All => 1,
                Masquerade::Near(network) => near(network).count(),
            };
            (self.marking_chain(), marks + 1)
        }));
        if !self.conditions.is_empty() {
            shared.push((self.chain(), self.conditions.len()));
        }
        shared
    }

    /// Its chains, made or put right.
    pub fn add(&self, transaction: &mut Transaction) {
        let marking = self.marking_chain();
        if let Some((whom, bit)) = self.masquerade {
            transaction.reset_chain(&marking);
            let mark = |rule: &mut Rule<'_, '_>| rule.set_mark_bits(1 << bit);
            match whom {
                Masquerade::All => transaction.rule(&marking, mark),
                Masquerade::Near(network) => {
                    for near in near(network) {
                        transaction.rule(&marking, |rule| {
                            rule.address_in(Load::Source, near, true);
                            mark(rule);
                        });
                    }
                }
            }
            transaction.rule(&marking, |rule| rule.goto(dnat_chain(self.family)));
        }
        if let (Some((_, bit)), Some(name)) = (self.masquerade, self.masquerading_chain()) {
            // At NF_INET_POST_ROUTING with priority srcnat.
            transaction.reset_base_chain(&BaseChain { name: &name, kind: "nat", hook: 4, priority: 100 });
            transaction.rule(&name, |rule| {
                rule.mark(1 << bit, true, 1 << bit);
                rule.masquerade();
            });
        }
        if !self.conditions.is_empty() {
            let chain = self.chain();
            transaction.reset_chain(&chain);
            for conditions in &self.conditions {
                transaction.rule(&chain, |rule| {
                    for condition in conditions {
                        write_condition(rule, condition);
                    }
                    rule.goto(&marking);
                });
            }
        }
    }
}

/// What has to be masqueraded of what is sent to a pod of a network: its neighbours' connections, and for IPv4 those from
/// the host's 127.0.0.0/8.
fn near(network: Cidr) -> impl Iterator<Item = Cidr> {
    let loopback = Cidr::containing(LOOPBACK.into(), 8).filter(|_| network.family() == Family::V4);
    std::iter::once(network).chain(loopback)
}

fn write_condition(rule: &mut Rule<'_, '_>, Condition { test, holds }: &Condition) {
    match test {
        Test::Source(network) => rule.address_in(Load::Source, *network, *holds),
        Test::Destination(network) => rule.address_in(Load::Destination, *network, *holds),
        Test::Input(name) => {
            let mut padded = name.as_bytes().to_vec();
            padded.resize(16, 0);
            rule.is(Load::InputName, *holds, &padded);
        }
        Test::InputPrefix(prefix) => rule.is(Load::InputName, *holds, prefix.as_bytes()),
        Test::Mark { mask, value } => rule.mark(*mask, *holds, *value),
    }
}

fn dnat_chain(family: Family) -> &'static str {
    match family {
        Family::V4 => "portmap_dnat_v4",
        Family::V6 => "portmap_dnat_v6",
    }
}

/// The table with its maps and the chains that all mappings share, made or put right.
pub fn add_table(transaction: &mut Transaction) {
    transaction.add_table();
    transaction.add_set(&SetSpec { name: PODS, key: (IFNAME, 16), data: None });
    for maps in MAPS {
        maps.add(transaction);
    }
    for family in Family::BOTH {
        let chain = dnat_chain(family);
        transaction.reset_chain(chain);
        for maps in MAPS.iter().filter(|maps| maps.family == family) {
            transaction.rule(chain, |rule| {
                // The address says it where it is part of the key, to the kernel; to nft this does.
                if maps.hosted {
                    rule.family(family);
                }
                rule.dnat_to(family, &maps.key(), maps.targets);
            });
        }
    }
    transaction.reset_chain(DISPATCH);
    // IPv6 has no route_localnet: such packets could not be answered, while servers of the host can hear them.
    transaction.rule(DISPATCH, |rule| {
        rule.address_in(Load::Destination, Cidr::host(Ipv6Addr::LOCALHOST.into()), true);
        rule.return_();
    });
    for maps in MAPS {
        transaction.rule(DISPATCH, |rule| {
            rule.family(maps.family);
            rule.verdict_of(&maps.key(), maps.ways);
        });
    }
    for chain in [PREROUTING, OUTPUT] {
        transaction.reset_base_chain(&chain);
        transaction.rule(chain.name, |rule| {
            rule.is(Load::DestinationType, true, &TYPE_LOCAL.to_ne_bytes());
            rule.goto(DISPATCH);
        });
    }
}

/// The two elements of a mapping.
pub fn elements(mapping: &Mapping, way: &Way, owner: &str) -> [(&'static str, Element); 2] {
    let maps = Maps::of(mapping);
    [
        (maps.ways, Element::new(key(mapping), Data::Goto(way.chain()), owner)),
        (maps.targets, Element::new(key(mapping), target(mapping), owner)),
    ]
}
