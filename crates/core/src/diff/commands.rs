//! Changes as the commands that one would type.

use super::{Changes, RouteChange, RouteTarget, TableChange};
use crate::cidr::Cidr;
use crate::family::Family;
use crate::host::{IptablesBackend, IptablesChain, SysctlKey};
use crate::mark::{IPTABLES_COMMENT, LINK_ALIAS, NFT_TABLE, PROTOCOL};
use crate::netfilter::SetName;
use crate::object::{Address, FdbEntry, FdbKey, Neighbour, NeighbourKey, NextHop, RouteKey, Rule, VxlanLink};
use crate::observed::AcceptRule;

impl Changes {
    /// Every change as the command that one would type for it, in the order of applying. A change of the nftables table is
    /// one command over several lines.
    pub fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::with_capacity(self.len());
        commands.extend(self.sysctls.iter().map(sysctl));
        commands.extend(self.links_recreate.iter().map(|name| format!("ip link delete {name}")));
        commands.extend(self.links_add.iter().flat_map(link_add));
        commands.extend(self.links_set.iter().map(link_set));
        commands.extend(self.link_sysctls.iter().map(sysctl));
        commands.extend(
            self.addresses_add.iter().map(|address| format!("ip address add {}", address_text(address))),
        );
        commands.extend(self.nexthops_add.iter().map(nexthop_add));
        commands.extend(self.neighbours_set.iter().map(neighbour_set));
        commands.extend(self.fdb_set.iter().map(fdb_set));
        commands.extend(self.routes_set.iter().map(RouteChange::command));
        commands.extend(self.rules_add.iter().map(|rule| rule_command("add", rule)));
        commands.extend(self.table.as_ref().map(TableChange::command));
        commands.extend(self.forward_accepts.iter().flat_map(|(chain, rules)| accepts(*chain, rules)));
        commands.extend(self.rules_delete.iter().map(|rule| rule_command("del", rule)));
        commands.extend(self.routes_delete.iter().map(route_delete));
        commands.extend(self.nexthops_delete.iter().map(|id| format!("ip nexthop del id {id}")));
        commands.extend(self.fdb_delete.iter().map(fdb_delete));
        commands.extend(self.neighbours_delete.iter().map(neighbour_delete));
        commands.extend(
            self.addresses_delete.iter().map(|address| format!("ip address del {}", address_text(address))),
        );
        commands.extend(self.links_delete.iter().map(|name| format!("ip link delete {name}")));
        commands
    }
}

impl RouteChange {
    /// The `ip route` command.
    pub fn command(&self) -> String {
        let verb = if self.replace { "replace" } else { "add" };
        match self.target {
            RouteTarget::Object(id) => {
                format!("ip route {verb} {} nhid {id} proto {PROTOCOL}", self.route.key)
            }
            RouteTarget::Gateway => {
                format!("ip route {verb} {} {} proto {PROTOCOL}", self.route.key, self.route.next_hop)
            }
        }
    }
}

impl TableChange {
    /// The `nft` command.
    pub fn command(&self) -> String {
        let text = match self {
            // Without the first line, deleting a table that isn't there would fail.
            TableChange::Replace(table) => {
                format!("add table inet {NFT_TABLE}\ndelete table inet {NFT_TABLE}\n{}", table.render())
            }
            TableChange::Delete => return format!("nft delete table inet {NFT_TABLE}"),
            TableChange::Elements { add, remove } => {
                let added = add.iter().map(|element| element_line("add", element));
                remove.iter().map(|element| element_line("delete", element)).chain(added).collect()
            }
        };
        format!("nft -f - <<'EOF'\n{text}EOF")
    }
}

fn element_line(verb: &str, (set, element): &(SetName, Cidr)) -> String {
    let host = element.prefix_len() == element.family().bits();
    let element = if host { element.address().to_string() } else { element.to_string() };
    format!("{verb} element inet {NFT_TABLE} {set} {{ {element} }}\n")
}

fn sysctl((key, value): &(SysctlKey, String)) -> String {
    format!("sysctl -w net/{}={value}", key.path())
}

fn link_add(link: &VxlanLink) -> [String; 2] {
    let VxlanLink { name, vni, port, local, uplink, mac, mtu } = link;
    [
        format!(
            "ip link add {name} address {mac} mtu {mtu} type vxlan id {vni} local {local} dev {uplink} dstport {port} nolearning"
        ),
        format!("ip link set {name} alias {LINK_ALIAS}vxlan up"),
    ]
}

fn link_set(link: &VxlanLink) -> String {
    format!("ip link set {} address {} mtu {} up", link.name, link.mac, link.mtu)
}

fn address_text(address: &Address) -> String {
    let nodad = if address.address.is_ipv6() { " nodad" } else { "" };
    format!("{}/{} dev {}{nodad}", address.address, address.prefix_len, address.link)
}

fn nexthop_add((id, next_hop): &(u32, NextHop)) -> String {
    format!("ip nexthop add id {id} {next_hop} protocol {PROTOCOL}")
}

fn neighbour_set(neighbour: &Neighbour) -> String {
    let Neighbour { key, mac } = neighbour;
    format!(
        "ip neigh replace {} lladdr {mac} dev {} nud permanent protocol {PROTOCOL}",
        key.address, key.link
    )
}

fn neighbour_delete(key: &NeighbourKey) -> String {
    format!("ip neigh del {} dev {}", key.address, key.link)
}

fn fdb_set(entry: &FdbEntry) -> String {
    format!("bridge fdb replace {} dev {} dst {} self permanent", entry.key.mac, entry.key.link, entry.dst)
}

fn fdb_delete(key: &FdbKey) -> String {
    format!("bridge fdb del {} dev {} self", key.mac, key.link)
}

fn route_delete(key: &RouteKey) -> String {
    format!("ip route del {key} proto {PROTOCOL}")
}

fn rule_command(verb: &str, rule: &Rule) -> String {
    let family = match rule.family {
        Family::V4 => "",
        Family::V6 => "-6 ",
    };
    format!(
        "ip {family}rule {verb} from all lookup {} priority {} protocol {PROTOCOL}",
        rule.table, rule.priority
    )
}

/// Our accepts are taken out and written anew at the top, the last one first.
fn accepts(chain: IptablesChain, rules: &[AcceptRule]) -> Vec<String> {
    let tool = chain.command();
    let comment = format!("-m comment --comment \"{IPTABLES_COMMENT}\" -j ACCEPT");
    let mut commands = vec![format!(
        "{tool}-save -t filter | grep -- '-A FORWARD .*{IPTABLES_COMMENT}' | sed 's/^-A/-D/' | xargs -r -L 1 {tool}"
    )];
    commands.extend(rules.iter().rev().map(|rule| {
        let side = if rule.destination { "-d" } else { "-s" };
        format!("{tool} -I FORWARD 1 {side} {} {comment}", rule.cidr)
    }));
    commands
}

impl IptablesChain {
    /// The command that lists and changes the chain.
    pub fn command(self) -> &'static str {
        match (self.backend, self.family) {
            (IptablesBackend::Nft, Family::V4) => "iptables-nft",
            (IptablesBackend::Nft, Family::V6) => "ip6tables-nft",
            (IptablesBackend::Legacy, Family::V4) => "iptables-legacy",
            (IptablesBackend::Legacy, Family::V6) => "ip6tables-legacy",
        }
    }
}
