//! Describing a plan beside what stands in the kernel, for `/status`, `hopwise routes` and the like.

use hopwise_api::status::{PeerRoute, PeerStatus, RouteState, Status, UplinkStatus};
use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_core::name::NodeName;
use hopwise_core::object::Route;
use hopwise_core::observed::{Observed, ObservedNextHop, ObservedTarget};
use hopwise_core::plan::{NodePlan, PeerPlan, Reach};

/// Fills in what a plan says: uplinks, pod CIDRs, peers with the state of their routes, notes.
pub fn describe_plan(status: &mut Status, plan: &NodePlan, observed: &Observed) {
    for (family, uplink) in plan.node.uplink.iter() {
        status.uplinks.extend(uplink.map(|uplink| UplinkStatus {
            family: family.into(),
            link: uplink.link.to_string(),
            address: uplink.address.to_string(),
            mtu: uplink.mtu.bytes(),
            mac: uplink.mac.map(|mac| mac.to_string()),
        }));
    }
    status.pod_cidrs = plan.node.pod_cidrs.iter().map(Cidr::to_string).collect();
    status.pod_mtu = plan.node.pod_mtu.map(|mtu| mtu.bytes());
    for (name, families) in &plan.peers {
        for (family, peer) in families.iter() {
            status.peers.extend(peer.as_ref().map(|peer| describe_peer(name, family, peer, observed)));
        }
    }
    status.notes.extend(plan.notes().map(Into::into));
}

fn describe_peer(name: &NodeName, family: Family, peer: &PeerPlan, observed: &Observed) -> PeerStatus {
    let describe = |cidr: &Cidr| {
        let route = peer.routes.iter().find(|route| route.key.dst == *cidr);
        let state = match route {
            Some(route) if stands(route, observed) => RouteState::In,
            Some(_) => RouteState::Missing,
            // The routers know this pod CIDR, and the kernel's own route leads to them.
            None if peer.reach == Reach::Fabric => RouteState::In,
            None => RouteState::Blocked,
        };
        PeerRoute {
            pod_cidr: cidr.to_string(),
            next_hop: route.map(|route| route.next_hop.to_string()),
            state,
        }
    };
    PeerStatus {
        node: name.to_string(),
        family: family.into(),
        address: peer.address.map(|address| address.to_string()),
        mode: peer.reach.into(),
        routes: peer.pod_cidrs.iter().map(describe).collect(),
    }
}

/// Whether a route stands in the kernel as planned.
fn stands(route: &Route, observed: &Observed) -> bool {
    let Some(found) = observed.routes.get(&route.key) else { return false };
    match found.target {
        ObservedTarget::Object(id) => {
            observed.nexthops.get(&id) == Some(&ObservedNextHop::Known(route.next_hop))
        }
        ObservedTarget::Gateway(next_hop) => next_hop == route.next_hop,
        ObservedTarget::Other => false,
    }
}
