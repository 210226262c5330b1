//! Choosing the link and address that carry this node's traffic.

use std::net::IpAddr;

use regex_lite::Regex;

use super::Uplink;
use crate::cidr::Cidr;
use crate::config::{NodeConfig, UplinkSelector};
use crate::family::{Family, PerFamily};
use crate::host::{HostView, Link, LinkAddress, Lookup};
use crate::mark;
use crate::name::Mtu;
use crate::note::{Note, Severity};

/// What was chosen, and what is to be said about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Choice {
    pub uplink: PerFamily<Option<Uplink>>,
    pub notes: Vec<Note>,
}

/// Chooses the uplinks of the families that are in use. `own` are the node's own addresses from the store.
///
/// What the operator configured is never second-guessed: a selector that fits no link leaves the node without an uplink,
/// with a note, rather than on a link that he did not mean.
pub(super) fn choose(
    host: &HostView,
    config: &NodeConfig,
    own: &PerFamily<Option<IpAddr>>,
    in_use: &PerFamily<bool>,
) -> Choice {
    let mut choice = Choice::default();
    let families = Family::BOTH.into_iter().filter(|family| *in_use.get(*family));
    if config.uplink == UplinkSelector::Auto {
        for family in families {
            let own = *own.get(family);
            *choice.uplink.get_mut(family) = automatic(host, config, family, own, &mut choice.notes);
        }
    } else {
        match selected(host, &config.uplink).map(|link| carrier_of(host, link)) {
            Ok(link) => {
                for family in families {
                    let address = address_on(host, link, family, *own.get(family));
                    *choice.uplink.get_mut(family) = address.map(|address| uplink(link, address, config));
                    if address.is_none() {
                        choice.notes.push(no_address(link, family));
                    }
                }
            }
            Err(evidence) => choice.notes.push(Note {
                id: "uplink-not-found",
                severity: Severity::Error,
                subject: "setting uplink".to_owned(),
                evidence,
                fix: "correct the setting, or take it out to have the uplink found by the node's address"
                    .to_owned(),
            }),
        }
    }
    for (_, uplink) in choice.uplink.iter() {
        let down =
            uplink.and_then(|uplink| host.links.get(&uplink.index)).filter(|link| !link.up || !link.carrier);
        if let Some(link) = down {
            choice.notes.push(link_down(link));
        }
    }
    choice.notes.dedup();
    choice
}

/// The link that carries a link's traffic: a port of a bridge has none of its own (`l2`, and the same done by hand).
fn carrier_of<'a>(host: &'a HostView, link: &'a Link) -> &'a Link {
    let bridge = link.master.and_then(|master| host.links.get(&master));
    bridge.filter(|bridge| bridge.kind == "bridge").unwrap_or(link)
}

/// The link that the configuration names, or why there is none.
fn selected<'a>(host: &'a HostView, selector: &UplinkSelector) -> Result<&'a Link, String> {
    let found = match selector {
        UplinkSelector::Auto => None,
        UplinkSelector::Name(name) => host.link_named(*name),
        UplinkSelector::NameRegex(pattern) => {
            let whole = Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| format!("{pattern:?} is not a regular expression: {error}"))?;
            host.links.values().find(|link| whole.is_match(link.name.as_str()))
        }
        UplinkSelector::Address(address) => host.link_with_address(*address),
        UplinkSelector::CanReach(address) => match host.lookups.get(address) {
            Some(Lookup::OnLink { link } | Lookup::Via { link, .. }) => host.links.get(link),
            _ => None,
        },
    };
    found.ok_or_else(|| match selector {
        UplinkSelector::Auto => String::new(),
        UplinkSelector::Name(name) => format!("there is no link {name}"),
        UplinkSelector::NameRegex(pattern) => format!("no link has a name that matches {pattern:?}"),
        UplinkSelector::Address(address) => format!("no link holds the address {address}"),
        UplinkSelector::CanReach(address) => format!("the kernel has no route to {address} through a link"),
    })
}

/// The link that holds the node's own address; else that of the default route.
fn automatic(
    host: &HostView,
    config: &NodeConfig,
    family: Family,
    own: Option<IpAddr>,
    notes: &mut Vec<Note>,
) -> Option<Uplink> {
    if let Some(address) = own {
        match host.link_with_address(address) {
            // On the loopback (routing to the host): the default route's link carries it.
            Some(link) if link.loopback => {
                return default_link(host, family).map(|link| uplink(link, address, config));
            }
            Some(link) => return Some(uplink(link, address, config)),
            None => notes.push(not_local(address)),
        }
    }
    let found = default_link(host, family)
        .and_then(|link| Some(uplink(link, address_on(host, link, family, None)?, config)));
    if found.is_none() {
        notes.push(Note {
            id: "no-uplink",
            severity: Severity::Error,
            subject: family.to_string(),
            evidence: format!(
                "no link holds the node's {family} address ({}), and there is no {family} default route",
                own.map_or("none in the store".to_owned(), |address| address.to_string()),
            ),
            fix: "give the node's address to a link (ip address add …), or set the uplink".to_owned(),
        });
    }
    found
}

fn default_link(host: &HostView, family: Family) -> Option<&Link> {
    let default =
        |route: &&crate::host::ForeignRoute| route.dst.prefix_len() == 0 && route.dst.family() == family;
    let mut routes: Vec<_> = host.routes.iter().filter(default).collect();
    routes.sort_by_key(|route| route.metric);
    let mut links = routes.into_iter().filter_map(|route| host.links.get(&route.link?));
    links.find(|link| !link.loopback && !is_ours(link))
}

/// The node's own address if the link holds it, else the first one that may be chosen.
fn address_on(host: &HostView, link: &Link, family: Family, own: Option<IpAddr>) -> Option<IpAddr> {
    let held = |address: &&LinkAddress| address.link == link.index && Family::of(address.address) == family;
    let mut addresses = host.addresses.iter().filter(held);
    if own.is_some_and(|own| addresses.clone().any(|held| held.address == own)) {
        return own;
    }
    addresses.find(|held| held.global && !held.unusable).map(|held| held.address)
}

fn uplink(link: &Link, address: IpAddr, config: &NodeConfig) -> Uplink {
    let own_mtu = || Mtu::new(link.mtu.clamp(68, 65535)).unwrap_or(Mtu::ETHERNET);
    Uplink {
        link: link.name,
        index: link.index,
        address,
        mtu: config.mtu.unwrap_or_else(own_mtu),
        mac: link.mac,
    }
}

/// Whether a link carries our mark.
pub(super) fn is_ours(link: &Link) -> bool {
    link.alias.starts_with(mark::LINK_ALIAS)
}

fn not_local(address: IpAddr) -> Note {
    Note {
        id: "node-address-not-local",
        severity: Severity::Error,
        subject: format!("address {address}"),
        evidence: "the store gives this node an address that none of its links holds".to_owned(),
        fix: format!(
            "correct the node's address in the store, or: ip address add {} dev LINK",
            Cidr::host(address)
        ),
    }
}

fn no_address(link: &Link, family: Family) -> Note {
    Note {
        id: "uplink-without-address",
        severity: Severity::Error,
        subject: format!("link {}", link.name),
        evidence: format!("the chosen uplink has no {family} address that can be used"),
        fix: format!("ip address add ADDRESS/LENGTH dev {}, or choose another uplink", link.name),
    }
}

fn link_down(link: &Link) -> Note {
    let (evidence, fix) = if link.up {
        ("the uplink has no carrier".to_owned(), "check the cable or the port at its other end".to_owned())
    } else {
        ("the uplink is down".to_owned(), format!("ip link set {} up", link.name))
    };
    Note {
        id: "uplink-down",
        severity: Severity::Error,
        subject: format!("link {}", link.name),
        evidence,
        fix,
    }
}
