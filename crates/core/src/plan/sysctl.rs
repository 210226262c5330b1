//! Sysctls: forwarding, router advertisements, reverse path filter, redirects.

use super::site::Site;
use super::uplink;
use crate::family::Family;
use crate::host::{HostView, Link, SysctlKey, SysctlLink};
use crate::mark;
use crate::name::LinkName;
use crate::note::{Note, Severity};

/// The sysctls that planning asks for: the global ones, and those of links that may be uplinks, which hold a global
/// address or carry a default route. Pods' links are left out: they come and go by the hundred.
pub(super) fn keys(host: &HostView) -> Vec<SysctlKey> {
    use SysctlKey::{AcceptRa, Forwarding, RpFilter, SendRedirects};
    let mut keys = vec![
        Forwarding(Family::V4),
        Forwarding(Family::V6),
        RpFilter(SysctlLink::All),
        SendRedirects(SysctlLink::All),
        SendRedirects(SysctlLink::Default),
    ];
    for link in host.links.values().filter(|link| may_be_uplink(host, link) || uplink::is_ours(link)) {
        let link = SysctlLink::Link(link.name);
        keys.extend([AcceptRa(link), RpFilter(link), SendRedirects(link)]);
    }
    keys
}

fn may_be_uplink(host: &HostView, link: &Link) -> bool {
    let holds = || host.addresses.iter().any(|held| held.link == link.index && held.global);
    let default =
        || host.routes.iter().any(|route| route.dst.prefix_len() == 0 && route.link == Some(link.index));
    !link.loopback && link.master.is_none() && (holds() || default())
}

/// The values to write, in the order of writing.
///
/// Values are only raised from what would break routing; whatever else the operator chose is left. IPv4 forwarding comes
/// first, since changing it resets other values; IPv6 forwarding comes after `accept_ra`, since switching it on deletes
/// the default routes learnt from router advertisements on links where `accept_ra` is not 2 (`rt6_purge_dflt_routers`).
pub(super) fn plan(host: &HostView, site: &Site, vxlan_links: &[LinkName]) -> Vec<(SysctlKey, String)> {
    use SysctlKey::{AcceptRa, Forwarding, RpFilter, SendRedirects};
    let value = |key: &SysctlKey| host.sysctls.get(key).map(|value| value.trim());
    let mut sysctls: Vec<(SysctlKey, &str)> = Vec::new();
    if site.in_use.v4 {
        sysctls.push((Forwarding(Family::V4), "1"));
    }
    if site.in_use.v6 {
        if value(&Forwarding(Family::V6)) == Some("0") {
            let listens =
                |(key, value): &(&SysctlKey, &String)| matches!(key, AcceptRa(_)) && value.trim() == "1";
            sysctls.extend(host.sysctls.iter().filter(listens).map(|(key, _)| (*key, "2")));
        }
        sysctls.push((Forwarding(Family::V6), "1"));
    }
    if site.in_use.v4 {
        // The kernel takes the stricter of `all` and the link's own, where 2 (loose) counts as more than 1 (strict).
        let all = value(&RpFilter(SysctlLink::All));
        if all == Some("1") {
            sysctls.push((RpFilter(SysctlLink::All), "2"));
        }
        let tunnels = vxlan_links.iter().filter(|link| **link == mark::vxlan_link(Family::V4));
        let uplink = site.uplink.v4.map(|uplink| uplink.link);
        if let Some(link) = uplink {
            let key = RpFilter(SysctlLink::Link(link));
            if value(&key) == Some("1") && all == Some("0") {
                sysctls.push((key, "2"));
            }
        }
        sysctls.extend(tunnels.map(|link| (RpFilter(SysctlLink::Link(*link)), "2")));
        // `all` and the link's own are ORed.
        let links = [SysctlLink::All, SysctlLink::Default].into_iter().chain(uplink.map(SysctlLink::Link));
        sysctls.extend(links.map(|link| (SendRedirects(link), "0")));
    }
    sysctls.into_iter().map(|(key, value)| (key, value.to_owned())).collect()
}

/// Forwarding that is off where we are told to leave sysctls alone.
pub(super) fn check(host: &HostView, site: &Site) -> Vec<Note> {
    let families = Family::BOTH.into_iter().filter(|family| *site.in_use.get(*family));
    let off = families
        .filter(|family| host.sysctls.get(&SysctlKey::Forwarding(*family)).is_some_and(|v| v.trim() == "0"));
    off.map(|family| {
        let path = SysctlKey::Forwarding(family).path();
        Note {
            id: "forwarding-off",
            severity: Severity::Error,
            subject: format!("sysctl net/{path}"),
            evidence: format!("it is 0: this host forwards no {family} packets to or from pods"),
            fix: format!("sysctl -w net/{path}=1, or set manageSysctls to true"),
        }
    })
    .collect()
}
