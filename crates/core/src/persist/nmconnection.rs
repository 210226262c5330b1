//! NetworkManager: `nm-settings-keyfile(5)`, a connection for the bridge and one for its port.

use super::{File, Persistent, Route, words};
use crate::family::Family;

/// Renders it.
pub fn render(p: &Persistent) -> Vec<File> {
    let file = |name: &str, content: String| File {
        path: format!("/etc/NetworkManager/system-connections/{name}.nmconnection"),
        // NetworkManager ignores what others can read.
        mode: 0o600,
        content,
    };
    let mut files = vec![file(p.bridge.as_str(), bridge(p))];
    if p.is_plain {
        files.push(file(&format!("{}-port", p.uplink), port(p)));
    }
    files
}

fn port(p: &Persistent) -> String {
    let mut text = p.heading(&[]);
    text += &format!("[connection]\nid={}-port\ntype=ethernet\ninterface-name={0}\n", p.uplink);
    text += &format!("master={}\nslave-type=bridge\nautoconnect-priority=100\n\n[ethernet]\n", p.bridge);
    text += &p.mtu.map(|mtu| format!("mtu={mtu}\n")).unwrap_or_default();
    text + "\n[bridge-port]\n"
}

fn bridge(p: &Persistent) -> String {
    let mut unsaid: Vec<String> = p.addresses.iter().flat_map(|address| address.unsaid(&[])).collect();
    unsaid.extend(p.unsaid_neighbours());
    unsaid.extend(p.unsaid_mixed());
    let mut text = p.heading(&unsaid);
    if !p.is_plain {
        text += &format!(
            "# {} stays as it is, but for: nmcli connection modify CONNECTION connection.master {} connection.slave-type bridge\n",
            p.uplink, p.bridge
        );
    }
    text += &format!(
        "[connection]\nid={0}\ntype=bridge\ninterface-name={0}\nautoconnect-priority=100\n",
        p.bridge
    );
    text += "autoconnect-slaves=1\n";
    text += &format!("\n[ethernet]\ncloned-mac-address={}\n", p.mac);
    text += &p.mtu.map(|mtu| format!("mtu={mtu}\n")).unwrap_or_default();
    text += "\n[bridge]\nstp=false\nforward-delay=0\n";
    for family in Family::BOTH {
        text += &section(p, family);
    }
    text
}

fn section(p: &Persistent, family: Family) -> String {
    let addresses: Vec<_> = p.addresses_of(family).collect();
    let method = match family {
        Family::V4 if p.dhcp.v4 => "auto",
        Family::V6 if p.accept_ra => "auto",
        Family::V6 if p.dhcp.v6 => "dhcp",
        _ if !addresses.is_empty() => "manual",
        Family::V6 if p.no_ipv6 => "disabled",
        Family::V4 => "disabled",
        Family::V6 => "link-local",
    };
    let name = if family == Family::V4 { "ipv4" } else { "ipv6" };
    let mut text = format!("\n[{name}]\nmethod={method}\n");
    for (index, address) in addresses.iter().enumerate() {
        text += &format!("address{}={}\n", index + 1, address.text());
    }
    for (index, route) in p.routes_of(family).filter(|route| !route.is_mixed()).enumerate() {
        text += &self::route(index + 1, route);
    }
    if let Some(metric) = p.dhcp_metric.filter(|_| family == Family::V4) {
        text += &format!("route-metric={metric}\n");
    }
    if family == Family::V6 {
        text += "addr-gen-mode=eui64\n";
    }
    let list = |items: String| if items.is_empty() { items } else { format!("{items};") };
    let (servers, search) = (list(words(p.servers_of(family), ";")), list(words(&p.dns.search, ";")));
    if !servers.is_empty() {
        text += &format!("dns={servers}\n");
        text += &if search.is_empty() { String::new() } else { format!("dns-search={search}\n") };
    }
    text
}

fn route(number: usize, route: &Route) -> String {
    let gateway = route.gateway.map_or_else(
        || if route.dst.family() == Family::V4 { "0.0.0.0".to_owned() } else { "::".to_owned() },
        |gateway| gateway.to_string(),
    );
    // The metric is always said: NetworkManager's default is that of the device.
    let mut text = format!("route{number}={},{gateway},{}\n", route.dst, route.metric);
    let mut options = Vec::new();
    options.extend(route.other_table().map(|table| format!("table={table}")));
    options.extend(route.source.map(|source| format!("src={source}")));
    options.extend(route.mtu.map(|mtu| format!("mtu={mtu}")));
    options.extend(
        route.scope.filter(|_| route.dst.family() == Family::V4).map(|scope| format!("scope={scope}")),
    );
    options.extend(route.onlink.then(|| "onlink=true".to_owned()));
    if !options.is_empty() {
        text += &format!("route{number}_options={}\n", options.join(","));
    }
    text
}
