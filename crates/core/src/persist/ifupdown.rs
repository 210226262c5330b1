//! ifupdown: `interfaces(5)`, with the options of the package bridge-utils (`bridge-utils-interfaces(5)`).

use super::{Address, File, Persistent, Route, words};
use crate::family::Family;

/// Renders it.
pub fn render(p: &Persistent) -> Vec<File> {
    let mut text = p.heading(&[]);
    text += "# Needs the package bridge-utils.\n";
    text += &format!("auto {}\n", p.bridge);
    if p.is_plain {
        text += &format!("iface {} inet manual\n", p.uplink);
        text += &p.mtu.map(|mtu| format!("    mtu {mtu}\n")).unwrap_or_default();
    } else {
        text += &format!("# {} stays defined where it is, as `inet manual`, without addresses.\n", p.uplink);
    }
    for family in Family::BOTH {
        text += &stanzas(p, family);
    }
    vec![File { path: format!("/etc/network/interfaces.d/{}", p.bridge), mode: 0o644, content: text }]
}

/// Whether an address needs words that a stanza does not have.
fn is_special(address: &Address) -> bool {
    address.label.is_some() || address.no_prefix_route || address.metric != 0 || address.deprecated
}

fn stanzas(p: &Persistent, family: Family) -> String {
    let inet = if family == Family::V4 { "inet" } else { "inet6" };
    let (special, plain): (Vec<&Address>, Vec<&Address>) =
        p.addresses_of(family).partition(|address| is_special(address));
    let mut plain = plain.into_iter();
    // One stanza has what is not about an address: DHCP's, else the first address's.
    let dhcp = *p.dhcp.get(family);
    let first = if dhcp { None } else { plain.next() };
    let more: String = special.iter().map(|address| by_command(p, address)).collect();
    let routes: String = p.routes_of(family).map(|route| by_route(p, route)).collect();
    let hears = family == Family::V6 && p.accept_ra;
    let says = first.is_some() || dhcp || hears || !more.is_empty() || !routes.is_empty();
    if family == Family::V6 && !says {
        return String::new();
    }
    let method = match (first, dhcp, hears) {
        (Some(_), _, _) => "static",
        (None, true, _) if family == Family::V4 => "dhcp",
        (None, true, _) | (None, _, true) => "auto",
        (None, false, false) => "manual",
    };
    let mut text = format!("\niface {} {inet} {method}\n", p.bridge);
    text += &first.map(address_lines).unwrap_or_default();
    if family == Family::V4 {
        text += &bridge_lines(p);
        text += &p.dhcp_metric.filter(|_| dhcp).map(|m| format!("    metric {m}\n")).unwrap_or_default();
    } else {
        // 2: on a node that forwards, too.
        text += if hears || dhcp { "    accept_ra 2\n" } else { "    accept_ra 0\n" };
        text += match (method, hears, dhcp) {
            ("static", true, _) => "    autoconf 1\n",
            ("auto", _, true) => "    dhcp 1\n",
            _ => "",
        };
    }
    text += &dns_lines(p, family);
    text += &more;
    text += &neighbours(p, family);
    text += &routes;
    for address in plain {
        text += &format!("\niface {} {inet} static\n{}", p.bridge, address_lines(address));
    }
    text
}

fn bridge_lines(p: &Persistent) -> String {
    let mut text = format!("    bridge_ports {}\n    bridge_hw {}\n", p.uplink, p.mac);
    text += "    bridge_stp off\n    bridge_fd 0\n    bridge_maxwait 0\n";
    text + &p.mtu.map(|mtu| format!("    mtu {mtu}\n")).unwrap_or_default()
}

fn address_lines(address: &Address) -> String {
    let peer = address.peer.map(|peer| format!("    pointopoint {peer}\n")).unwrap_or_default();
    format!("    address {}\n{peer}", address.text())
}

fn by_command(p: &Persistent, address: &Address) -> String {
    let mut text = match address.peer {
        Some(peer) => {
            format!("    up ip address replace {} peer {peer}/{}", address.address, address.prefix_len)
        }
        None => format!("    up ip address replace {}", address.text()),
    };
    text += &format!(" dev {}", p.bridge);
    text += &address.label.as_ref().map(|label| format!(" label {label}")).unwrap_or_default();
    if address.metric != 0 {
        text += &format!(" metric {}", address.metric);
    }
    if address.deprecated {
        text += " preferred_lft 0";
    }
    if address.no_prefix_route {
        text += " noprefixroute";
    }
    text + "\n"
}

fn by_route(p: &Persistent, route: &Route) -> String {
    let family = if route.dst.family() == Family::V6 { " -6" } else { "" };
    let mut text = format!("    up ip{family} route replace {}", route.to());
    let mut word = |key: &str, value: Option<String>| {
        text += &value.map(|value| format!(" {key} {value}")).unwrap_or_default();
    };
    let other = if route.is_mixed() { "inet6 " } else { "" };
    word("via", route.gateway.map(|gateway| format!("{other}{gateway}")));
    word("dev", Some(p.bridge.to_string()));
    word("metric", route.own_metric().map(|metric| metric.to_string()));
    word("table", route.other_table().map(|table| table.to_string()));
    word("src", route.source.map(|source| source.to_string()));
    word("mtu", route.mtu.map(|mtu| mtu.to_string()));
    word("scope", route.scope_name().map(str::to_owned));
    text + if route.onlink { " onlink\n" } else { "\n" }
}

fn neighbours(p: &Persistent, family: Family) -> String {
    let of_family = p.neighbours.iter().filter(|entry| Family::of(entry.address) == family);
    let line = |entry: &crate::l2::value::Neighbour| match entry.mac {
        Some(mac) => format!(
            "    up ip neighbour replace {} lladdr {mac} nud permanent{} dev {}\n",
            entry.address,
            if entry.router { " router" } else { "" },
            p.bridge
        ),
        None => format!("    up ip neighbour replace proxy {} dev {}\n", entry.address, p.bridge),
    };
    of_family.map(line).collect()
}

/// For resolvconf, which takes them from the stanzas.
fn dns_lines(p: &Persistent, family: Family) -> String {
    let servers = words(p.servers_of(family), " ");
    let mut text = String::new();
    if !servers.is_empty() {
        text += &format!("    dns-nameservers {servers}\n");
    }
    if family == Family::V4 && !p.dns.search.is_empty() {
        text += &format!("    dns-search {}\n", words(&p.dns.search, " "));
    }
    text
}
