use std::os::fd::AsFd;

use super::*;
use crate::netns::{Namespace, in_new_namespace};

const HOST: LinkName = LinkName::new_static("host");
const POD: LinkName = LinkName::new_static("eth0");
const BRIDGE: LinkName = LinkName::new_static("br0");
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

#[test]
fn a_veth_pair_is_made_by_one_message_on_a_bridge_and_into_another_namespace() {
    in_new_namespace(|| {
        let pod = Namespace::new().unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        let mut bridge = BridgeSpec::new(BRIDGE);
        bridge.mac = Some(MAC);
        let bridge = rtnl.ensure_bridge(&bridge).unwrap();
        assert_eq!((bridge.kind.as_str(), bridge.mac, bridge.up), ("bridge", Some(MAC), true));

        let mut veth = VethSpec::new(HOST, POD, Some(pod.as_fd()));
        veth.mtu = Some(1400);
        veth.master = Some(bridge.index);
        veth.alias = Some("hopwise:test");
        veth.group = Some(7);
        veth.peer.mac = Some(MAC);
        veth.peer.mtu = Some(1400);
        rtnl.add_veth(&veth).unwrap();
        let host = rtnl.link_by_name(HOST).unwrap().unwrap();
        assert_eq!((host.mtu, host.up, host.master), (1400, true, Some(bridge.index)));
        assert_eq!((host.alias.as_str(), host.group, host.kind.as_str()), ("hopwise:test", 7, "veth"));

        let mut inside = Rtnl::open_in(pod.as_fd()).unwrap();
        let eth0 = inside.link_by_name(POD).unwrap().unwrap();
        assert_eq!((eth0.mac, eth0.mtu, eth0.up, eth0.peer), (Some(MAC), 1400, false, Some(host.index)));
        assert_eq!(rtnl.link_by_name(POD).unwrap(), None, "never seen here");

        let mut requests = Requests::new();
        requests.set_up(eth0.index);
        requests.add_address(eth0.index, &AddressSpec::new("10.9.0.2".parse().unwrap(), 24));
        requests.add_address(eth0.index, &AddressSpec::new("fd00:9::2".parse().unwrap(), 64));
        requests.add_route(&RouteSpec::new("0.0.0.0/0".parse().unwrap()).via("10.9.0.1".parse().unwrap()));
        requests.add_route(&RouteSpec::new("::/0".parse().unwrap()).via("fd00:9::1".parse().unwrap()));
        requests.add_neighbour(eth0.index, "10.9.0.1".parse().unwrap(), MAC);
        requests.add_address(eth0.index, &AddressSpec::new("10.9.0.2".parse().unwrap(), 24));
        requests.set_mtu(eth0.index, 1300);
        let verdicts = inside.execute(&mut requests).unwrap();
        let errnos: Vec<i32> =
            verdicts.iter().map(|verdict| verdict.as_ref().err().map_or(0, NetlinkError::errno)).collect();
        assert_eq!(errnos, [0, 0, 0, 0, 0, 0, libc::EEXIST, 0], "a refusal holds nothing back");
        let held = inside.addresses(eth0.index).unwrap();
        assert!(
            held.iter().any(|address| address.address.to_string() == "10.9.0.2" && address.prefix_len == 24)
        );
        assert!(
            held.iter()
                .any(|address| address.address.to_string() == "fd00:9::2" && address.flags & 0x40 == 0)
        );

        rtnl.delete_link(HOST).unwrap();
        assert_eq!(inside.link_by_name(POD).unwrap(), None);
    });
}

#[test]
fn a_veth_pair_has_as_many_queues_as_asked_for() {
    in_new_namespace(|| {
        let pod = Namespace::new().unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        let mut veth = VethSpec::new(HOST, POD, Some(pod.as_fd()));
        veth.queues = Some(3);
        rtnl.add_veth(&veth).unwrap();
        let queues = || {
            // sysfs shows the namespace that it was mounted in; `ip` asks the kernel.
            let output = std::process::Command::new("ip").args(["-d", "link"]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.matches("numtxqueues 3").count() + text.matches("numrxqueues 3").count()
        };
        assert_eq!((queues(), pod.run(queues).unwrap()), (2, 2));
    });
}

#[test]
fn a_link_is_found_by_its_name_and_told_to_announce_itself() {
    in_new_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        assert_eq!(rtnl.index_by_name(HOST).unwrap(), None);
        rtnl.add_veth(&VethSpec::new(HOST, POD, None)).unwrap();
        let index = rtnl.index_by_name(HOST).unwrap().unwrap();
        assert_eq!(index, rtnl.link_by_name(HOST).unwrap().unwrap().index);
        let arp_notify = |link: LinkName| {
            std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/arp_notify")).unwrap()
        };
        rtnl.execute_all(Requests::new().set_arp_notify(index)).unwrap();
        assert_eq!((arp_notify(HOST).trim(), arp_notify(POD).trim()), ("1", "0"));
    });
}

#[test]
fn refusals_carry_the_error_number() {
    in_new_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        assert_eq!(rtnl.delete_link(HOST).unwrap_err().errno(), libc::ENODEV);
        rtnl.add_bridge(&BridgeSpec::new(BRIDGE)).unwrap();
        assert_eq!(rtnl.add_bridge(&BridgeSpec::new(BRIDGE)).unwrap_err().errno(), libc::EEXIST);
        let lo = rtnl.link_by_name(LinkName::new_static("lo")).unwrap().unwrap();
        let absent = AddressSpec::new("10.1.1.1".parse().unwrap(), 24);
        assert_eq!(rtnl.delete_address(lo.index, &absent).unwrap_err().errno(), libc::EADDRNOTAVAIL);
        let route = RouteSpec::new("10.2.0.0/16".parse().unwrap()).dev(lo.index);
        rtnl.add_route(&route).unwrap();
        assert_eq!(rtnl.add_route(&route).unwrap_err().errno(), libc::EEXIST);
        rtnl.replace_route(&route).unwrap();
        rtnl.delete_route(&route).unwrap();
        assert_eq!(rtnl.delete_route(&route).unwrap_err().errno(), libc::ESRCH);
        let names: Vec<LinkName> = rtnl.links().unwrap().iter().map(|link| link.name).collect();
        assert!(names.contains(&BRIDGE) && names.contains(&lo.name));
    });
}

#[test]
fn links_change_as_asked() {
    in_new_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let bridge = rtnl.ensure_bridge(&BridgeSpec::new(BRIDGE)).unwrap();
        rtnl.add_veth(&VethSpec::new(HOST, POD, None)).unwrap();
        rtnl.set_master(HOST, Some(bridge.index)).unwrap();
        rtnl.set_mtu(HOST, 1280).unwrap();
        rtnl.set_mac(HOST, MAC).unwrap();
        let host = rtnl.link_by_name(HOST).unwrap().unwrap();
        assert_eq!((host.master, host.mtu, host.mac), (Some(bridge.index), 1280, Some(MAC)));
        let mut requests = Requests::new();
        requests.set_port(host.index, PortSpec { hairpin: Some(true), isolated: Some(true) });
        requests.set_promiscuous(bridge.index, true);
        rtnl.execute_all(&mut requests).unwrap();
        assert!(rtnl.link_by_index(bridge.index).unwrap().unwrap().promiscuous);
        rtnl.set_master(HOST, None).unwrap();
        rtnl.set_down(HOST).unwrap();
        rtnl.rename(host.index, LinkName::new_static("other")).unwrap();
        let host = rtnl.link_by_index(host.index).unwrap().unwrap();
        assert_eq!((host.name.as_str(), host.up, host.master), ("other", false, None));
    });
}

#[test]
fn an_ipv4_route_can_go_through_an_ipv6_next_hop() {
    in_new_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        rtnl.add_veth(&VethSpec::new(HOST, POD, None)).unwrap();
        let host = rtnl.link_by_name(HOST).unwrap().unwrap();
        rtnl.set_up(POD).unwrap();
        let mut route =
            RouteSpec::new("0.0.0.0/0".parse().unwrap()).via("fe80::1".parse().unwrap()).dev(host.index);
        route.onlink = true;
        route.mtu = Some(1400);
        rtnl.add_route(&route).unwrap();
        let routes = rtnl.routes().unwrap();
        let read = routes.iter().find(|read| read.dst == route.dst && read.table == 254).unwrap();
        assert_eq!((read.gateway, read.link, read.protocol), (route.gateway, route.link, libc::RTPROT_BOOT));
        rtnl.delete_route(&route).unwrap();
    });
}

#[test]
fn traffic_is_shaped_as_tc_shows_it() {
    in_new_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let ifb = LinkName::new_static("ifb9");
        rtnl.add_veth(&VethSpec::new(HOST, POD, None)).unwrap();
        rtnl.add_ifb(ifb, MAC, 1400).unwrap();
        assert_eq!(rtnl.add_ifb(ifb, MAC, 1400).unwrap_err().errno(), libc::EEXIST);
        let host = rtnl.link_by_name(HOST).unwrap().unwrap().index;
        let ifb = rtnl.link_by_name(ifb).unwrap().unwrap();
        assert_eq!((ifb.kind.as_str(), ifb.mac, ifb.mtu, ifb.up), ("ifb", Some(MAC), 1400, true));

        let own = rtnl.root_qdisc(host).unwrap();
        assert!(own.is_none_or(|own| own.kind == "noqueue"));
        assert!(!rtnl.has_ingress(host).unwrap());
        let tbf = Tbf { rate: 1_250_000, limit: 40_000, buffer: 150_000 };
        let wide = Tbf { rate: 5_000_000_000, limit: 1 << 30, buffer: 1_000_000 };
        let mut requests = Requests::new();
        requests.add_tbf(host, &tbf).add_ingress(host).add_redirect(host, ifb.index);
        requests.add_tbf(ifb.index, &wide);
        rtnl.execute_all(&mut requests).unwrap();
        let root = rtnl.root_qdisc(host).unwrap().unwrap();
        assert_eq!((root.kind.as_str(), root.tbf), ("tbf", Some(tbf)));
        assert_eq!(rtnl.root_qdisc(ifb.index).unwrap().unwrap().tbf, Some(wide));
        assert!(rtnl.has_ingress(host).unwrap() && !rtnl.has_ingress(ifb.index).unwrap());

        let mut requests = Requests::new();
        requests.add_tbf(host, &tbf).add_ingress(host).delete_root(host).delete_ingress(host);
        requests.delete_root(host);
        let errnos: Vec<i32> = rtnl.execute(&mut requests).unwrap().iter().map(errno).collect();
        assert_eq!(errnos, [libc::EEXIST, libc::EEXIST, 0, 0, libc::ENOENT]);
        assert!(rtnl.root_qdisc(host).unwrap().is_none_or(|root| root.tbf.is_none()));
        assert!(!rtnl.has_ingress(host).unwrap(), "there was one");
        assert!(rtnl.delete_if_there(ifb.index).unwrap() && !rtnl.delete_if_there(ifb.index).unwrap());
    });
}

fn errno(verdict: &Result<(), NetlinkError>) -> i32 {
    verdict.as_ref().err().map_or(0, NetlinkError::errno)
}

#[test]
fn discarded_links_are_out_of_use_and_deleted_together() {
    in_new_namespace(|| {
        let mut rtnl = Rtnl::open().unwrap();
        let bridge = rtnl.ensure_bridge(&BridgeSpec::new(BRIDGE)).unwrap();
        let pods: Vec<Namespace> = (0..40).map(|_| Namespace::new().unwrap()).collect();
        let mut requests = Requests::new();
        for (n, pod) in pods.iter().enumerate() {
            let name: LinkName = format!("veth{n}").parse().unwrap();
            let mut veth = VethSpec::new(name, POD, Some(pod.as_fd()));
            veth.master = Some(bridge.index);
            rtnl.add_veth(&veth).unwrap();
            let mut inside = Rtnl::open_in(pod.as_fd()).unwrap();
            let eth0 = inside.link_by_name(POD).unwrap().unwrap();
            let peer = eth0.peer.unwrap();
            let found = rtnl.other_end(peer, pod.as_fd(), eth0.index).unwrap().unwrap();
            assert_eq!(found.name, name);
            // The same index in another namespace is another link.
            let other = pods[(n + 1) % pods.len()].as_fd();
            assert_eq!(rtnl.other_end(peer, other, eth0.index).unwrap(), None);
            requests.discard(found.index);
        }
        // Somebody else's link in the same group stays.
        rtnl.add_veth(&VethSpec::new(HOST, POD, None)).unwrap();
        let foreign = rtnl.link_by_name(HOST).unwrap().unwrap();
        requests.set_group(foreign.index, hopwise_core::mark::DISCARDED_GROUP);
        rtnl.execute_all(&mut requests).unwrap();
        let discarded = rtnl.link_by_name(LinkName::new_static("veth7")).unwrap().unwrap();
        assert_eq!((discarded.up, discarded.master), (false, None));
        assert_eq!(rtnl.reap().unwrap(), pods.len());
        assert_eq!(rtnl.reap().unwrap(), 0);
        let left: Vec<_> = rtnl.links().unwrap().into_iter().filter(|link| link.kind == "veth").collect();
        assert_eq!(left.len(), 2, "the foreign pair");
        assert_eq!(Rtnl::open_in(pods[3].as_fd()).unwrap().link_by_name(POD).unwrap(), None);
    });
}
