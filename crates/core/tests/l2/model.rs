//! What the kernel makes of a step, on the value.

use hopwise_core::l2::step::{Place, Step};
use hopwise_core::l2::value::{Address, BridgeOptions, Link, Neighbour, Observed, Sysctl, address_flags};
use hopwise_core::name::LinkName;

/// Applies one step. A step that the kernel would refuse is a mistake of the plan.
pub fn apply(observed: &mut Observed, step: &Step) {
    match step.clone() {
        Step::MakeBridge { name, mac, mtu } => {
            let link = Link {
                kind: "bridge".to_owned(),
                ethernet: true,
                loopback: false,
                wireless: false,
                mac: Some(mac),
                mtu,
                up: true,
                master: None,
                on: None,
                bridge: Some(BridgeOptions::default()),
            };
            assert!(observed.links.insert(name, link).is_none(), "{step}: is there");
            observed.sysctls.insert(name, [(Sysctl::ADDR_GEN_MODE, "1".to_owned())].into());
        }
        Step::DeleteBridge(name) => {
            assert!(observed.links.remove(&name).is_some(), "{step}: isn't there");
            observed.addresses.remove(&name);
            observed.neighbours.remove(&name);
            observed.sysctls.remove(&name);
            observed.routes.retain(|route| !route.uses(name));
            for link in observed.links.values_mut().filter(|link| link.master == Some(name)) {
                link.master = None;
            }
        }
        Step::SetMac(link, mac) => links(observed, link).mac = Some(mac),
        Step::SetMtu(link, mtu) => links(observed, link).mtu = mtu,
        Step::SetUp(link) => links(observed, link).up = true,
        Step::Enslave(link, bridge) => {
            assert_eq!(links(observed, bridge).kind, "bridge");
            assert_eq!(links(observed, link).master.replace(bridge), None, "{step}: has one");
        }
        Step::Release(link) => assert!(links(observed, link).master.take().is_some(), "{step}: has none"),
        Step::SetSysctl(link, sysctl, value) => {
            links(observed, link);
            observed.sysctls.entry(link).or_default().insert(sysctl, value);
        }
        Step::AddAddress(link, mut address) => {
            if address.address.is_ipv6() {
                address.flags |= address_flags::NODAD;
            }
            let there = addresses(observed, link);
            assert!(!there.iter().any(|there| there.same_key(&address)), "{step}: is there");
            // `ipv6_link_dev_addr`: before the first one whose scope is not wider.
            let global = |address: &Address| !address.is_link_local();
            let at = there.iter().position(|there| {
                there.address.is_ipv6() && address.address.is_ipv6() && global(&address) >= global(there)
            });
            let v6 = there.iter().position(|there| there.address.is_ipv6()).unwrap_or(there.len());
            let end = if address.address.is_ipv6() { there.len() } else { v6 };
            there.insert(at.unwrap_or(end), address);
        }
        Step::SetAddress(link, address) => {
            let there = addresses(observed, link).iter_mut().find(|there| there.same_key(&address));
            *there.unwrap_or_else(|| panic!("{step}: isn't there")) = address;
        }
        Step::DeleteAddress(link, address) => {
            let there = addresses(observed, link);
            let before = there.len();
            there.retain(|there| !there.same_key(&address));
            assert_eq!(there.len() + 1, before, "{step}");
        }
        Step::AddNeighbour(link, neighbour) => {
            let there = neighbours(observed, link);
            there.retain(|there| there.address != neighbour.address);
            there.push(neighbour);
            there.sort();
        }
        Step::DeleteNeighbour(link, neighbour) => {
            let there = neighbours(observed, link);
            assert!(there.iter().any(|there| there.address == neighbour.address), "{step}: isn't there");
            there.retain(|there| there.address != neighbour.address);
        }
        Step::AddRoute(..) | Step::DeleteRoute(_) => route(observed, step),
    }
}

fn route(observed: &mut Observed, step: &Step) {
    match step {
        Step::AddRoute(route, place) => {
            for hop in &route.hops {
                links(observed, hop.link);
            }
            let with_key: Vec<usize> = observed
                .routes
                .iter()
                .enumerate()
                .filter_map(|(at, there)| there.same_key(route).then_some(at))
                .collect();
            match (place, with_key.as_slice()) {
                (Place::Replace, [at, ..]) => observed.routes[*at] = route.clone(),
                (Place::First, [at, ..]) => observed.routes.insert(*at, route.clone()),
                (Place::Last, [.., at]) => observed.routes.insert(at + 1, route.clone()),
                (_, []) => observed.routes.push(route.clone()),
            }
        }
        Step::DeleteRoute(route) => {
            let at = observed.routes.iter().position(|there| there == route);
            observed.routes.remove(at.unwrap_or_else(|| panic!("{step}: isn't there")));
        }
        _ => {}
    }
}

fn links(observed: &mut Observed, link: LinkName) -> &mut Link {
    observed.links.get_mut(&link).unwrap_or_else(|| panic!("{link} isn't there"))
}

fn addresses(observed: &mut Observed, link: LinkName) -> &mut Vec<Address> {
    links(observed, link);
    observed.addresses.entry(link).or_default()
}

fn neighbours(observed: &mut Observed, link: LinkName) -> &mut Vec<Neighbour> {
    links(observed, link);
    observed.neighbours.entry(link).or_default()
}

/// The same with what has no order sorted, and without what is empty.
pub fn normal(observed: &Observed) -> Observed {
    let mut normal = observed.clone();
    // The kernel sorts by destination; only among routes with one key is there an order.
    normal.routes.sort_by_key(|route| (route.table, route.dst, route.from, route.tos, route.metric));
    normal.addresses.retain(|_, addresses| !addresses.is_empty());
    normal.neighbours.retain(|_, neighbours| !neighbours.is_empty());
    for neighbours in normal.neighbours.values_mut() {
        neighbours.sort();
    }
    normal
}
