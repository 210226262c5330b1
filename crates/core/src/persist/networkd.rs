//! systemd-networkd: `systemd.netdev(5)` for the bridge, `systemd.network(5)` for both links.

use super::{Address, File, Persistent, Route, Special, words};
use crate::family::PerFamily;
use crate::l2::value::Neighbour;

/// Renders it.
pub fn render(p: &Persistent) -> Vec<File> {
    let file = |name: String, content: String| File {
        path: format!("/etc/systemd/network/{name}"),
        mode: 0o644,
        content,
    };
    vec![
        file(format!("10-{}.netdev", p.bridge), netdev(p)),
        file(format!("10-{}.network", p.bridge), network(p)),
        file(format!("10-{}.network", p.uplink), port(p)),
    ]
}

fn mtu_line(p: &Persistent) -> String {
    p.mtu.map(|mtu| format!("MTUBytes={mtu}\n")).unwrap_or_default()
}

fn netdev(p: &Persistent) -> String {
    let mtu = mtu_line(p);
    format!(
        "{}[NetDev]\nName={}\nKind=bridge\nMACAddress={}\n{mtu}\n[Bridge]\nSTP=no\nForwardDelaySec=0\n",
        p.heading(&[]),
        p.bridge,
        p.mac
    )
}

fn port(p: &Persistent) -> String {
    let mut text = p.heading(&[]);
    text += &format!("[Match]\nName={}\n\n", p.uplink);
    if let Some(mtu) = p.mtu {
        text += &format!("[Link]\nMTUBytes={mtu}\n\n");
    }
    text += &format!("[Network]\nBridge={}\nDHCP=no\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n", p.bridge);
    if !p.is_plain {
        text += &format!("# VLAN= lines of today's file for {} belong here too.\n", p.uplink);
    }
    text
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn network(p: &Persistent) -> String {
    let said = [Special::Label, Special::Peer, Special::NoPrefixRoute, Special::Metric, Special::Deprecated];
    let mut unsaid: Vec<String> = p.addresses.iter().flat_map(|address| address.unsaid(&said)).collect();
    let (proxies, neighbours): (Vec<&Neighbour>, _) = p.neighbours.iter().partition(|entry| entry.proxy);
    let v4_proxies = proxies.iter().filter(|entry| entry.address.is_ipv4());
    unsaid.extend(v4_proxies.map(|entry| format!("proxy neighbour {}", entry.address)));
    let mut text = p.heading(&unsaid);
    text += &format!("[Match]\nName={}\n\n", p.bridge);
    if let Some(mtu) = p.mtu {
        text += &format!("[Link]\nMTUBytes={mtu}\n\n");
    }
    let dhcp = match p.dhcp {
        PerFamily { v4: true, v6: true } => "yes",
        PerFamily { v4: true, v6: false } => "ipv4",
        PerFamily { v4: false, v6: true } => "ipv6",
        PerFamily { v4: false, v6: false } => "no",
    };
    text += &format!(
        "[Network]\nDHCP={dhcp}\nIPv6AcceptRA={}\nLinkLocalAddressing={}\nConfigureWithoutCarrier=yes\n",
        yes(p.accept_ra),
        if p.no_ipv6 { "no" } else { "ipv6" }
    );
    for server in &p.dns.servers {
        text += &format!("DNS={server}\n");
    }
    if !p.dns.search.is_empty() {
        text += &format!("Domains={}\n", words(&p.dns.search, " "));
    }
    for entry in proxies.iter().filter(|entry| entry.address.is_ipv6()) {
        text += &format!("IPv6ProxyNDPAddress={}\n", entry.address);
    }
    if p.dhcp.v4 {
        // By MAC address, which the bridge has from the uplink: the lease stays the same.
        text += "\n[DHCPv4]\nClientIdentifier=mac\n";
        text += &p.dhcp_metric.map(|metric| format!("RouteMetric={metric}\n")).unwrap_or_default();
    }
    text.extend(p.addresses.iter().map(address));
    text.extend(p.routes.iter().map(route));
    for Neighbour { address, mac, .. } in neighbours {
        let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
        text += &format!("\n[Neighbor]\nAddress={address}\nLinkLayerAddress={mac}\n");
    }
    text
}

fn address(address: &Address) -> String {
    let mut text = format!("\n[Address]\nAddress={}\n", address.text());
    text += &address.peer.map(|peer| format!("Peer={peer}/{}\n", address.prefix_len)).unwrap_or_default();
    text += &address.label.as_ref().map(|label| format!("Label={label}\n")).unwrap_or_default();
    if address.metric != 0 {
        text += &format!("RouteMetric={}\n", address.metric);
    }
    if address.no_prefix_route {
        text += "AddPrefixRoute=no\n";
    }
    if address.deprecated {
        text += "PreferredLifetime=0\n";
    }
    text
}

fn route(route: &Route) -> String {
    let mut text = format!("\n[Route]\nDestination={}\n", route.dst);
    let mut line = |key: &str, value: Option<String>| {
        text += &value.map(|value| format!("{key}={value}\n")).unwrap_or_default();
    };
    line("Gateway", route.gateway.map(|gateway| gateway.to_string()));
    line("GatewayOnLink", route.onlink.then(|| "yes".to_owned()));
    line("Metric", route.own_metric().map(|metric| metric.to_string()));
    line("Table", route.other_table().map(|table| table.to_string()));
    line("PreferredSource", route.source.map(|source| source.to_string()));
    line("MTUBytes", route.mtu.map(|mtu| mtu.to_string()));
    line("Scope", route.scope_name().map(str::to_owned));
    text
}
