//! Planning what concerns the node as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::peer::Inputs;
use super::{NodeWide, refusal, site, sysctl};
use crate::cidr::Cidr;
use crate::cluster::{Node, NodeData};
use crate::config::MAIN_TABLE;
use crate::family::{Family, PerFamily};
use crate::host::DropCause;
use crate::mark;
use crate::name::{LinkName, Mtu};
use crate::netfilter::{self, Masquerade, SetName, SetRole, Table};
use crate::note::{Note, Severity};
use crate::object::{Address, Rule, VxlanLink};

/// The priority of the rule that looks up `main`.
const MAIN_RULE_PRIORITY: u32 = 32_766;

/// Plans the node's own part. `tunnels` tells the families in which a peer is reached by VXLAN; `notes` are those about
/// the uplinks.
pub(super) fn plan_node(
    inputs: Inputs<'_>,
    own: Option<&Node>,
    tunnels: &PerFamily<bool>,
    uplink_notes: &[Note],
) -> NodeWide {
    let Inputs { config, site, host, networks, .. } = inputs;
    let links = vxlan_links(inputs, tunnels);
    let names: Vec<LinkName> = links.iter().map(|link| link.name).collect();
    let families = || Family::BOTH.into_iter().filter(|family| *site.in_use.get(*family));
    let mut notes = uplink_notes.to_vec();
    notes.extend(own_notes(inputs, own));
    notes.extend(disabled_families(inputs));
    notes.extend(netfilter_notes(inputs));
    let sysctls = if config.manage_sysctls {
        sysctl::plan(host, site, &names)
    } else {
        notes.extend(sysctl::check(host, site));
        Vec::new()
    };
    let table_rule = |family| Rule { family, priority: config.rule_priority, table: config.route_table };
    let own_table = config.route_table != MAIN_TABLE;
    if own_table && config.rule_priority >= MAIN_RULE_PRIORITY {
        notes.push(Note {
            id: "rule-after-main",
            severity: Severity::Error,
            subject: "setting rulePriority".to_owned(),
            evidence: format!(
                "with priority {} the main table's routes come before table {}'s",
                config.rule_priority, config.route_table
            ),
            fix: format!("set rulePriority below {MAIN_RULE_PRIORITY}"),
        });
    }
    let forwards = config.forward_accept;
    let pods = networks.pods.iter().filter(|cidr| forwards && *site.in_use.get(cidr.family())).copied();
    let chains = host.netfilter.forward_policy_drop.iter();
    let chains: BTreeSet<_> =
        chains.filter(|chain| forwards && *site.in_use.get(chain.family)).copied().collect();
    NodeWide {
        uplink: site.uplink,
        addresses: tunnel_addresses(&links, &site.pod_cidrs),
        rules: families().filter(|_| own_table).map(table_rule).collect(),
        table: table(inputs, own),
        forward_accepts: netfilter::merge(pods.collect()).into_iter().collect(),
        forward_chains: chains.into_iter().collect(),
        sysctls,
        pod_cidrs: site.pod_cidrs.clone(),
        pod_mtu: pod_mtu(inputs, tunnels),
        publish: publish(inputs),
        links,
        notes,
    }
}

fn vxlan_links(inputs: Inputs<'_>, tunnels: &PerFamily<bool>) -> Vec<VxlanLink> {
    let Inputs { config, site, .. } = inputs;
    let used = Family::BOTH.into_iter().filter(|family| *tunnels.get(*family));
    let link = |family| {
        let uplink = (*site.uplink.get(family))?;
        Some(VxlanLink {
            name: mark::vxlan_link(family),
            vni: config.vxlan_vni,
            port: config.vxlan_port,
            local: uplink.address,
            uplink: uplink.link,
            mac: site.vxlan_mac,
            mtu: uplink.mtu.less(site::vxlan_overhead(family)),
        })
    };
    used.filter_map(link).collect()
}

/// Each device has the first address of our own pod CIDR, so that what this host itself sends to a remote pod has a source
/// that is answered through the tunnel.
fn tunnel_addresses(links: &[VxlanLink], pod_cidrs: &[Cidr]) -> Vec<Address> {
    let address = |link: &VxlanLink| {
        let family = Family::of(link.local);
        let cidr = pod_cidrs.iter().find(|cidr| cidr.family() == family)?;
        Some(Address { link: link.name, address: cidr.address(), prefix_len: family.bits() })
    };
    links.iter().filter_map(address).collect()
}

fn table(inputs: Inputs<'_>, own: Option<&Node>) -> Option<Table> {
    let Inputs { config, site, host, networks, claims, .. } = inputs;
    let families = || {
        let masquerades = |family: &Family| *site.in_use.get(*family) && *config.masquerade.get(*family);
        Family::BOTH.into_iter().filter(masquerades)
    };
    if !host.capabilities.nftables || families().next().is_none() {
        return None;
    }
    let mut sets = BTreeMap::new();
    for family in families() {
        let of_family = |cidr: &Cidr| cidr.family() == family;
        let mut fill = |role, cidrs: BTreeSet<Cidr>| sets.insert(SetName { role, family }, cidrs);
        let local = site.pod_cidrs.iter().copied().filter(of_family).collect();
        let exempt = networks.pods.iter().chain(&networks.services).chain(&config.masquerade_exempt);
        let exempt = exempt.copied().filter(of_family).collect();
        let own =
            own.into_iter().flat_map(|node| node.addresses.iter().map(move |claim| (node, claim.value)));
        let own = own.filter(|(node, address)| claims.judge_address(node, *address, networks).is_ok());
        let own = own.map(|(_, address)| Cidr::host(address));
        fill(SetRole::LocalPods, netfilter::merge(local));
        fill(SetRole::Exempt, netfilter::merge(exempt));
        fill(SetRole::Nodes, own.filter(of_family).collect());
    }
    let masquerade =
        families().map(|family| Masquerade { family, fully_random: config.masquerade_random }).collect();
    Some(Table { masquerade, sets })
}

/// What fits every way that pods' packets take: the smallest of the uplinks' path MTUs, less the overhead of VXLAN in the
/// families where a peer is reached by it.
fn pod_mtu(inputs: Inputs<'_>, tunnels: &PerFamily<bool>) -> Option<Mtu> {
    let ways = inputs.site.uplink.iter().filter_map(|(family, uplink)| {
        let overhead = if *tunnels.get(family) { site::vxlan_overhead(family) } else { 0 };
        uplink.map(|uplink| uplink.mtu.less(overhead))
    });
    ways.min()
}

/// Peers send to the node's address in the store, so what counts is the link that holds that one.
fn publish(inputs: Inputs<'_>) -> NodeData {
    let Inputs { host, site, .. } = inputs;
    let link_mac = PerFamily::from_fn(|family| {
        let link = host.link_with_address((*site.own_address.get(family))?)?;
        link.mac.filter(|mac| !link.loopback && mac.is_unicast())
    });
    NodeData { link_mac, vxlan_mac: Some(site.vxlan_mac) }
}

fn own_notes(inputs: Inputs<'_>, own: Option<&Node>) -> Vec<Note> {
    let Inputs { networks, config, claims, site, .. } = inputs;
    let Some(node) = own else {
        return vec![Note {
            id: "node-not-in-view",
            severity: Severity::Error,
            subject: format!("this node ({})", config.node),
            evidence: "the store does not know it, so peers have no route to its pods".to_owned(),
            fix: "add the node to the store, or start the agent with the name that the store has (--node)"
                .to_owned(),
        }];
    };
    let mut notes = Vec::new();
    for address in node.addresses.iter().map(|claim| claim.value) {
        let verdict = claims.judge_address(node, address, networks);
        if let (Err(reason), true) = (verdict, *site.declared.get(Family::of(address))) {
            let refused = refusal::address(node, address, &reason, networks, &config.node);
            notes.push(refusal::own(node, "own-address-refused", refused));
        }
    }
    for cidr in node.pod_cidrs.iter().map(|claim| claim.value) {
        let verdict = claims.judge_pod_cidr(node, cidr, networks);
        if let Err(reason) = verdict {
            let refused = refusal::pod_cidr(node, cidr, &reason, networks, &config.node);
            notes.push(refusal::own(node, "own-pod-cidr-refused", refused));
        }
    }
    for family in Family::BOTH.into_iter().filter(|family| *site.in_use.get(*family)) {
        if node.pod_cidrs(family).next().is_none() {
            notes.push(Note {
                id: "no-pod-cidr",
                severity: Severity::Warning,
                subject: format!("this node ({})", node.name),
                evidence: format!("{family} pod networks are declared, and it has no {family} pod CIDR"),
                fix: format!(
                    "give the node an {family} pod CIDR; until then pods here have no {family} address"
                ),
            });
        }
    }
    notes
}

fn disabled_families(inputs: Inputs<'_>) -> impl Iterator<Item = Note> {
    let site = inputs.site;
    let declared = Family::BOTH.into_iter().filter(|family| *site.declared.get(*family));
    declared.filter(|family| !*site.in_use.get(*family)).map(|family| Note {
        id: "family-disabled",
        severity: Severity::Error,
        subject: family.to_string(),
        evidence: format!("{family} pod networks are declared, and the kernel has {family} switched off"),
        fix: match family {
            Family::V4 => "use a kernel with IPv4".to_owned(),
            Family::V6 => "take ipv6.disable=1 off the kernel's command line, and: sysctl -w net/ipv6/conf/all/disable_ipv6=0"
                .to_owned(),
        },
    })
}

/// What stands in foreign tables and may drop pods' packets, whatever ours say: an accept in one table overrides no drop
/// in another.
fn netfilter_notes(inputs: Inputs<'_>) -> Vec<Note> {
    let Inputs { config, site, host, networks, .. } = inputs;
    let concerns = |family: &str| match family {
        "ip" => site.in_use.v4,
        "ip6" => site.in_use.v6,
        _ => site.in_use.v4 || site.in_use.v6,
    };
    let mut notes = Vec::new();
    for chain in host.netfilter.dropping_chains.iter().filter(|chain| concerns(chain.family)) {
        let name = format!("{} {} {}", chain.family, chain.table, chain.chain);
        let evidence = match &chain.cause {
            DropCause::Policy => {
                "its policy is drop: forwarded packets that it does not accept are lost".to_owned()
            }
            DropCause::Rule { handle, unconditional: true } => {
                format!("its rule with handle {handle} drops every forwarded packet that comes to it")
            }
            DropCause::Rule { handle, unconditional: false } => {
                format!("its rule with handle {handle} drops some forwarded packets; they may be pods'")
            }
        };
        let fits = |cidr: &&Cidr| match chain.family {
            "ip" => cidr.family() == Family::V4,
            "ip6" => cidr.family() == Family::V6,
            _ => true,
        };
        let pods = networks.pods.iter().find(fits);
        let accept = pods.map_or(String::new(), |cidr| {
            let protocol = if cidr.family() == Family::V4 { "ip" } else { "ip6" };
            format!(", then for each pod network: nft insert rule {name} {protocol} saddr {cidr} accept, and daddr")
        });
        let narrow = matches!(chain.cause, DropCause::Rule { unconditional: false, .. });
        notes.push(Note {
            id: "foreign-drop",
            severity: if narrow { Severity::Info } else { Severity::Warning },
            subject: format!("nftables chain {name}"),
            evidence,
            fix: format!("nft -a list chain {name}{accept}"),
        });
    }
    let drops = host.netfilter.forward_policy_drop.iter();
    for chain in drops.filter(|chain| !config.forward_accept && *site.in_use.get(chain.family)) {
        let command = chain.command();
        notes.push(Note {
            id: "forward-drop",
            severity: Severity::Warning,
            subject: format!("{command} filter FORWARD"),
            evidence: "its policy is DROP, and forwardAccept is off".to_owned(),
            fix: format!(
                "set forwardAccept to true, or: {command} -I FORWARD -s POD_NETWORK -j ACCEPT, and -d"
            ),
        });
    }
    if !host.capabilities.nftables
        && (config.masquerade.v4 && site.in_use.v4 || config.masquerade.v6 && site.in_use.v6)
    {
        notes.push(Note {
            id: "no-nftables",
            severity: Severity::Error,
            subject: "masquerade".to_owned(),
            evidence: "this kernel has no nftables, so pods keep their own addresses towards the outside"
                .to_owned(),
            fix: "modprobe nf_tables, or set masquerade to false".to_owned(),
        });
    }
    notes
}
