//! Single cases: refusals, and what is printed.

use expect_test::expect;
use hopwise_core::l2::heal::{self, Finding, Suspect, culprit};
use hopwise_core::l2::step::Step;
use hopwise_core::l2::value::{
    Address, Hop, Link, Neighbour, Observed, Record, Route, Special, Sysctl, address_flags,
};
use hopwise_core::l2::{attach, detach};

use crate::arbitrary::{BRIDGE, OTHER, UPLINK, WANTED, link};
use crate::model::apply;

fn address(text: &str) -> Address {
    let (address, prefix_len) = text.split_once('/').unwrap();
    let address: std::net::IpAddr = address.parse().unwrap();
    Address {
        address,
        prefix_len: prefix_len.parse().unwrap(),
        peer: None,
        broadcast: None,
        label: address.is_ipv4().then(|| "eth1".to_owned()),
        scope: if text.starts_with("fe80") { 253 } else { 0 },
        flags: 0,
        state: address_flags::PERMANENT,
        preferred: None,
        valid: None,
        metric: 0,
        protocol: 0,
    }
}

fn route(dst: &str, gateway: &str) -> Route {
    Route {
        dst: dst.parse().unwrap(),
        from: None,
        tos: 0,
        table: 254,
        metric: 0,
        protocol: 3,
        scope: 0,
        kind: 1,
        source: None,
        hops: vec![Hop { link: UPLINK, gateway: gateway.parse().ok(), onlink: false, weight: 1 }],
        metrics: Vec::new(),
        congestion: None,
        preference: None,
        expires: None,
        special: None,
    }
}

fn node() -> Observed {
    let mut leased = address("192.168.0.5/24");
    (leased.valid, leased.preferred) = (Some(3600), Some(1800));
    leased.broadcast = Some("192.168.0.255".parse().unwrap());
    let labelled = Address { label: Some("eth1:web".to_owned()), ..address("192.168.0.6/24") };
    let metrics = Route {
        metric: 100,
        protocol: 16,
        source: Some("192.168.0.5".parse().unwrap()),
        metrics: vec![(2, 1400), (8, 1300)],
        ..route("0.0.0.0/0", "192.168.0.1")
    };
    let mut multipath = Route { table: 1000, ..route("10.9.0.0/16", "192.168.0.1") };
    multipath.hops.push(Hop {
        link: OTHER,
        gateway: Some("10.0.0.1".parse().unwrap()),
        onlink: true,
        weight: 3,
    });
    let neighbour = Neighbour {
        address: "192.168.0.1".parse().unwrap(),
        mac: Some("02:00:00:00:00:fe".parse().unwrap()),
        proxy: false,
        router: false,
    };
    Observed {
        links: [(UPLINK, link("", 1)), (OTHER, link("", 99))].into(),
        addresses: [(UPLINK, vec![leased, labelled, address("fd00::5/64"), address("fe80::1/64")])].into(),
        routes: vec![metrics, multipath, route("::/0", "fe80::ff")],
        neighbours: [(UPLINK, vec![neighbour])].into(),
        sysctls: [(
            UPLINK,
            [
                (Sysctl::ADDR_GEN_MODE, "0".to_owned()),
                (Sysctl::ACCEPT_RA, "0".to_owned()),
                (Sysctl::find("ipv4/conf", "arp_ignore").unwrap(), "1".to_owned()),
            ]
            .into(),
        )]
        .into(),
    }
}

fn commands(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

#[test]
fn attaching_as_commands() {
    let plan = attach::plan(&node(), WANTED).unwrap();
    expect![[r#"
        ip link add cni0 address 02:00:00:00:00:01 mtu 1500 type bridge stp_state 0 forward_delay 0
        ip link set cni0 addrgenmode none up
        sysctl -w net/ipv4/conf/cni0/arp_ignore=1
        sysctl -w net/ipv6/conf/cni0/accept_ra=0
        sysctl -w net/ipv6/conf/eth1/addr_gen_mode=1
        ip link set eth1 master cni0
        ip address add 192.168.0.5/24 dev cni0 broadcast 192.168.0.255 valid_lft 3600 preferred_lft 1800
        ip address add 192.168.0.6/24 dev cni0 label cni0:web
        ip address add fe80::1/64 dev cni0 scope link nodad
        ip address add fd00::5/64 dev cni0 nodad
        ip route replace default via 192.168.0.1 dev cni0 proto dhcp src 192.168.0.5 metric 100 mtu 1400 advmss 1300
        ip route replace 10.9.0.0/16 table 1000 proto boot nexthop via 192.168.0.1 dev cni0 weight 1 nexthop via 10.0.0.1 dev eth0 onlink weight 3
        ip route replace ::/0 via fe80::ff dev cni0 proto boot
        ip neighbour replace 192.168.0.1 dev cni0 lladdr 02:00:00:00:00:fe nud permanent
        ip neighbour del 192.168.0.1 dev eth1
        ip address del fd00::5/64 dev eth1
        ip address del fe80::1/64 dev eth1
        ip address del 192.168.0.6/24 dev eth1
        ip address del 192.168.0.5/24 dev eth1
        ip address change fe80::1/64 dev cni0 scope link
        ip address change fd00::5/64 dev cni0
    "#]].assert_eq(&commands(&plan.steps));
    assert_eq!(plan.gateways.len(), 2);
}

#[test]
fn detaching_as_commands() {
    let mut observed = node();
    let plan = attach::plan(&observed, WANTED).unwrap();
    plan.steps.iter().for_each(|step| apply(&mut observed, step));
    expect![[r#"
        ip link set eth1 nomaster
        ip address add 192.168.0.5/24 dev eth1 broadcast 192.168.0.255 valid_lft 3600 preferred_lft 1800
        ip address add 192.168.0.6/24 dev eth1 label eth1:web
        ip address add fe80::1/64 dev eth1 scope link nodad
        ip address add fd00::5/64 dev eth1 nodad
        ip route replace default via 192.168.0.1 dev eth1 proto dhcp src 192.168.0.5 metric 100 mtu 1400 advmss 1300
        ip route replace 10.9.0.0/16 table 1000 proto boot nexthop via 192.168.0.1 dev eth1 weight 1 nexthop via 10.0.0.1 dev eth0 onlink weight 3
        ip route replace ::/0 via fe80::ff dev eth1 proto boot
        ip neighbour replace 192.168.0.1 dev eth1 lladdr 02:00:00:00:00:fe nud permanent
        ip neighbour del 192.168.0.1 dev cni0
        ip address del fd00::5/64 dev cni0
        ip address del fe80::1/64 dev cni0
        ip address del 192.168.0.6/24 dev cni0
        ip address del 192.168.0.5/24 dev cni0
        ip address change fe80::1/64 dev eth1 scope link
        ip address change fd00::5/64 dev eth1
        sysctl -w net/ipv6/conf/eth1/addr_gen_mode=0
        ip link delete cni0
    "#]].assert_eq(&commands(&detach::plan(&observed, &plan.record)));
}

#[test]
fn an_advertised_default_route_gets_a_stand_in_and_not_a_copy() {
    let mut observed = node();
    observed.sysctls.get_mut(&UPLINK).unwrap().insert(Sysctl::ACCEPT_RA, "2".to_owned());
    let advertised = Route { protocol: 9, metric: 1024, expires: Some(1800), ..route("::/0", "fe80::ff") };
    observed.routes = vec![advertised.clone()];
    let plan = attach::plan(&observed, WANTED).unwrap();
    assert_eq!(plan.record.held.routes, vec![]);
    let routes: Vec<_> =
        plan.steps.iter().map(ToString::to_string).filter(|line| line.starts_with("ip route")).collect();
    assert_eq!(
        routes,
        [
            "ip route replace ::/0 via fe80::ff dev cni0 proto ra metric 1025 expires 1800",
            "ip route del ::/0 via fe80::ff dev eth1 proto ra metric 1024 expires 1800",
        ]
    );
    plan.steps.iter().for_each(|step| apply(&mut observed, step));
    assert_eq!(heal::plan(&observed, &plan.record, 0).steps, vec![]);
    // The router has answered.
    observed.routes.push(advertised.on_link(UPLINK, BRIDGE));
    let done = heal::plan(&observed, &plan.record, 0);
    assert_eq!(done.findings, vec![]);
    assert_eq!(
        commands(&done.steps),
        "ip route del ::/0 via fe80::ff dev cni0 proto ra metric 1025 expires 1800\n"
    );
}

#[test]
fn every_refusal_says_why_and_what_to_do() {
    let with = |change: &dyn Fn(&mut Observed)| {
        let mut observed = node();
        change(&mut observed);
        attach::plan(&observed, WANTED).unwrap_err().to_string()
    };
    let uplink = |change: fn(&mut Link)| with(&|o| change(o.links.get_mut(&UPLINK).unwrap()));
    let bridge = |change: fn(&mut Link)| {
        with(&|o| {
            let mut there = link("bridge", 7);
            change(&mut there);
            o.links.insert(BRIDGE, there);
        })
    };
    let all = [
        with(&|o| drop(o.links.remove(&UPLINK))),
        uplink(|link| link.loopback = true),
        uplink(|link| link.kind = "bridge".to_owned()),
        uplink(|link| link.ethernet = false),
        uplink(|link| link.wireless = true),
        uplink(|link| link.master = Some(BRIDGE)),
        uplink(|link| link.master = Some(OTHER)),
        uplink(|link| link.up = false),
        with(&|o| {
            let on = Link { on: Some(UPLINK), ..link("vlan", 1) };
            o.links.insert("eth1.5".parse().unwrap(), on);
        }),
        bridge(|link| link.kind = "veth".to_owned()),
        bridge(|link| link.bridge.as_mut().unwrap().stp = true),
        bridge(|link| link.master = Some(OTHER)),
        with(&|o| {
            o.links.insert(BRIDGE, link("bridge", 7));
            o.addresses.insert(BRIDGE, vec![address("192.168.0.9/24")]);
        }),
        with(&|o| o.addresses.get_mut(&UPLINK).unwrap()[2].state |= address_flags::DADFAILED),
        with(&|o| o.routes[0].special = Some(Special::NextHopObject(7))),
        attach::plan(&node(), hopwise_core::l2::value::Wanted { uplink: UPLINK, bridge: UPLINK })
            .unwrap_err()
            .to_string(),
    ];
    expect![[r#"
        there is no link eth1; see `ip link` for those there are
        eth1 is the loopback link; name the link to the LAN, see `ip route show default`
        eth1 is of kind bridge, which can't be a bridge's uplink; name the link below it: hardware, a bond, a VLAN device or a veth
        eth1 carries no Ethernet frames; a bridge needs an Ethernet link; use `ptp` and routes over this one
        eth1 is a wireless station, and its access point drops frames from other MAC addresses; use a wired link, or `ptp` with routes
        eth1 is a port of cni0 already, and hopwise did not do it; leave it as it is, or `ip link set eth1 nomaster` and try again
        eth1 is a port of eth0; attach eth0 if that is a bond, or `ip link set eth1 nomaster`
        eth1 is down; ip link set eth1 up
        eth1.5 (vlan) is made on eth1, and would lose its traffic to the bridge; attach eth1.5 itself if that leads to the LAN, or delete it
        cni0 is no bridge but of kind veth; name another with --bridge
        cni0 runs the spanning tree protocol: traffic would wait until it has learned the LAN; ip link set cni0 type bridge stp_state 0, if it has no loop; or name another with --bridge
        cni0 belongs to eth0; ip link set cni0 nomaster, or name another with --bridge
        cni0 has 192.168.0.9/24, and eth1 has 192.168.0.5/24 in the same network; ip address del 192.168.0.9/24 dev cni0
        another host has fd00::5 of eth1 (duplicate address detection failed); ip address del fd00::5/64 dev eth1
        the route to 0.0.0.0/0 on eth1 leads to nexthop object 7, which can't be moved to cni0; ip route del 0.0.0.0/0 table 254, and add it again on cni0 afterwards
        eth1 can't be the uplink and the bridge at once; give the bridge another name, as cni0
    "#]].assert_eq(&(all.join("\n") + "\n"));
}

#[test]
fn bonds_and_vlan_devices_are_uplinks_too() {
    for kind in ["bond", "vlan", "veth", "team", "tun"] {
        let mut observed = node();
        observed.links.get_mut(&UPLINK).unwrap().kind = kind.to_owned();
        observed.links.get_mut(&UPLINK).unwrap().on = (kind == "vlan").then_some(OTHER);
        attach::plan(&observed, WANTED).unwrap();
    }
}

#[test]
fn a_bridge_with_pods_is_kept() {
    let mut observed = node();
    let plan = attach::plan(&observed, WANTED).unwrap();
    plan.steps.iter().for_each(|step| apply(&mut observed, step));
    assert_eq!(detach::check(&observed, WANTED), Ok(()));
    observed.links.insert("veth1".parse().unwrap(), Link { master: Some(BRIDGE), ..link("veth", 5) });
    assert_eq!(
        detach::check(&observed, WANTED).unwrap_err().to_string(),
        "cni0 has 1 ports besides eth1 (veth1), which would be cut off from the LAN; move the pods away first, or use \
         --force"
    );
    assert!(!commands(&detach::plan(&observed, &plan.record)).contains("ip link delete cni0"));
}

#[test]
fn what_ends_meanwhile_is_not_restored() {
    let mut observed = node();
    let plan = attach::plan(&observed, WANTED).unwrap();
    plan.steps.iter().for_each(|step| apply(&mut observed, step));
    observed.addresses.get_mut(&BRIDGE).unwrap().remove(0);
    let soon = heal::plan(&observed, &plan.record, 1000);
    let [Finding::AddressGone(gone)] = soon.findings.as_slice() else { panic!("{:?}", soon.findings) };
    assert_eq!((gone.valid, gone.preferred), (Some(2600), Some(800)));
    let late = heal::plan(&observed, &plan.record, 3600);
    assert_eq!((late.findings, late.steps), (vec![], vec![]));
}

#[test]
fn the_bridge_keeps_the_mac_address_that_the_uplink_had() {
    let mut observed = node();
    let plan = attach::plan(&observed, WANTED).unwrap();
    plan.steps.iter().for_each(|step| apply(&mut observed, step));
    // A bond with `fail_over_mac active` that uses another of its links.
    let mac = observed.links[&UPLINK].mac;
    observed.links.get_mut(&UPLINK).unwrap().mac = Some("02:00:00:00:00:06".parse().unwrap());
    let healing = heal::plan(&observed, &plan.record, 0);
    assert_eq!((healing.findings, healing.steps), (vec![], vec![]));
    // Whoever changes the bridge's own is healed to that.
    observed.links.get_mut(&BRIDGE).unwrap().mac = Some("02:00:00:00:00:06".parse().unwrap());
    let healing = heal::plan(&observed, &plan.record, 0);
    assert_eq!(healing.findings, [Finding::BridgeChanged(BRIDGE)]);
    assert_eq!(healing.steps, [Step::SetMac(BRIDGE, mac.unwrap())]);
    // A version that kept none followed the uplink.
    let former = Record { mac: None, ..plan.record };
    let healing = heal::plan(&observed, &former, 0);
    assert_eq!((healing.findings, healing.steps), (vec![], vec![]));
}

#[test]
fn a_route_that_somebody_replaced_stays_replaced() {
    let mut observed = node();
    let plan = attach::plan(&observed, WANTED).unwrap();
    plan.steps.iter().for_each(|step| apply(&mut observed, step));
    observed.routes[0].hops[0].gateway = Some("192.168.0.254".parse().unwrap());
    let healing = heal::plan(&observed, &plan.record, 0);
    assert_eq!((healing.findings, healing.steps), (vec![], vec![]));
    assert_eq!(healing.record.held.routes[0].hops[0].gateway, observed.routes[0].hops[0].gateway);
}

#[test]
fn who_did_it_is_told_by_protocol_lease_and_processes() {
    let back = |protocol| Finding::RouteBack(Route { protocol, ..route("0.0.0.0/0", "192.168.0.1") });
    let dhclient = Suspect { name: "dhclient".to_owned(), pid: 41, names_uplink: true };
    let manager = Suspect { name: "NetworkManager".to_owned(), pid: 7, names_uplink: false };
    assert_eq!(culprit(&[back(3)], &[]), None);
    assert_eq!(culprit(&[back(16)], &[]).unwrap(), "a DHCP client (routes with proto dhcp)");
    assert_eq!(
        culprit(&[back(3)], &[dhclient.clone(), manager.clone()]).unwrap(),
        "running here: dhclient (process 41, which names the uplink)"
    );
    assert_eq!(
        culprit(&[back(9)], &[manager]).unwrap(),
        "a program that takes router advertisements (routes with proto ra); running here: NetworkManager (process 7)"
    );
    let leased = Address { valid: Some(60), ..address("192.168.0.5/24") };
    assert_eq!(
        culprit(&[Finding::AddressBack(leased)], &[dhclient]).unwrap(),
        "a DHCP client (the address has a lease's lifetime); running here: dhclient (process 41, which names the uplink)"
    );
}
