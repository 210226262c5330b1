//! `netplan(5)`: one YAML file.

use super::{File, Persistent, Route, Special, words};

/// Renders it.
pub fn render(p: &Persistent) -> Vec<File> {
    let said = [Special::Label, Special::Deprecated];
    let mut unsaid: Vec<String> = p.addresses.iter().flat_map(|address| address.unsaid(&said)).collect();
    unsaid.extend(p.unsaid_neighbours());
    unsaid.extend(p.unsaid_mixed());
    let mut text = p.heading(&unsaid);
    text += "network:\n  version: 2\n";
    let mtu = p.mtu.map(|mtu| format!("      mtu: {mtu}\n")).unwrap_or_default();
    if p.is_plain {
        text += &format!(
            "  ethernets:\n    {}:\n      dhcp4: false\n      dhcp6: false\n      accept-ra: false\n      link-local: []\n{mtu}",
            p.uplink
        );
    } else {
        text += &format!("  # {} stays defined where it is, without addresses, routes and DHCP.\n", p.uplink);
    }
    text += &format!(
        "  bridges:\n    {}:\n      interfaces: [{}]\n      macaddress: \"{}\"\n{mtu}",
        p.bridge, p.uplink, p.mac
    );
    text += "      parameters:\n        stp: false\n        forward-delay: 0\n";
    text += &format!(
        "      dhcp4: {}\n      dhcp6: {}\n      accept-ra: {}\n",
        p.dhcp.v4, p.dhcp.v6, p.accept_ra
    );
    if p.no_ipv6 {
        text += "      link-local: []\n";
    }
    if p.dhcp.v4 {
        // By MAC address, which the bridge has from the uplink: the lease stays the same.
        text += "      dhcp-identifier: mac\n";
    }
    if let Some(metric) = p.dhcp_metric {
        text += &format!("      dhcp4-overrides: {{route-metric: {metric}}}\n");
    }
    if !p.addresses.is_empty() {
        text += "      addresses:\n";
    }
    for address in &p.addresses {
        let mut options = Vec::new();
        options.extend(address.label.as_ref().map(|label| format!("label: \"{label}\"")));
        options.extend(address.deprecated.then(|| "lifetime: \"0\"".to_owned()));
        let colon = if options.is_empty() { String::new() } else { format!(": {{{}}}", options.join(", ")) };
        text += &format!("        - \"{}\"{colon}\n", address.text());
    }
    if p.routes.iter().any(|route| !route.is_mixed()) {
        text += "      routes:\n";
    }
    for route in p.routes.iter().filter(|route| !route.is_mixed()) {
        text += &self::route(route);
    }
    text += &nameservers(p);
    // Read by root alone: netplan warns of anything else.
    vec![File { path: format!("/etc/netplan/60-{}.yaml", p.bridge), mode: 0o600, content: text }]
}

fn route(route: &Route) -> String {
    let mut text = format!("        - to: \"{}\"\n", route.destination());
    let mut line = |key: &str, value: Option<String>| {
        text += &value.map(|value| format!("          {key}: {value}\n")).unwrap_or_default();
    };
    line("via", route.gateway.map(|gateway| format!("\"{gateway}\"")));
    line("on-link", route.onlink.then(|| "true".to_owned()));
    line("metric", route.own_metric().map(|metric| metric.to_string()));
    line("table", route.other_table().map(|table| table.to_string()));
    line("from", route.source.map(|source| format!("\"{source}\"")));
    line("mtu", route.mtu.map(|mtu| mtu.to_string()));
    // Without a next hop it has to be said, or netplan misses one.
    let scope = route.scope_name().or(route.gateway.is_none().then_some("link"));
    line("scope", scope.map(str::to_owned));
    text
}

impl Route {
    /// `default` is a word for both families, so a route without a next hop says which.
    fn destination(&self) -> String {
        if self.gateway.is_some() { self.to() } else { self.dst.to_string() }
    }
}

fn nameservers(p: &Persistent) -> String {
    let quoted = |text: &String| format!("\"{text}\"");
    let servers: Vec<String> = p.dns.servers.iter().map(|server| format!("\"{server}\"")).collect();
    let mut text = String::new();
    if !servers.is_empty() || !p.dns.search.is_empty() {
        text += "      nameservers:\n";
        text += &format!("        addresses: [{}]\n", words(servers, ", "));
        text += &format!("        search: [{}]\n", words(p.dns.search.iter().map(quoted), ", "));
    }
    text
}
