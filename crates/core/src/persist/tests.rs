use expect_test::expect;

use super::*;
use crate::l2::value::{Hop, Link, address_flags};

const UPLINK: LinkName = LinkName::new_static("bond0");
const BRIDGE: LinkName = LinkName::new_static("br0");

fn observed(kind: &str, mtu: u32) -> Observed {
    let link = Link {
        kind: kind.to_owned(),
        ethernet: true,
        loopback: false,
        wireless: false,
        mac: Some(MacAddr([2, 0, 0x5e, 0, 0x53, 1])),
        mtu,
        up: true,
        master: None,
        on: None,
        bridge: None,
    };
    let mut observed = Observed::default();
    observed.links.insert(UPLINK, link);
    observed
}

fn address(text: &str) -> value::Address {
    let (address, len) = text.split_once('/').unwrap();
    value::Address {
        address: address.parse().unwrap(),
        prefix_len: len.parse().unwrap(),
        peer: None,
        broadcast: None,
        label: None,
        scope: 0,
        flags: 0,
        state: 0,
        preferred: None,
        valid: None,
        metric: 0,
        protocol: 0,
    }
}

fn route(dst: &str, gateway: &str) -> value::Route {
    value::Route {
        dst: dst.parse().unwrap(),
        from: None,
        tos: 0,
        table: MAIN_TABLE,
        metric: 0,
        protocol: 4,
        scope: 0,
        kind: value::RTN_UNICAST,
        source: None,
        hops: vec![Hop { link: UPLINK, gateway: gateway.parse().ok(), onlink: false, weight: 1 }],
        metrics: Vec::new(),
        congestion: None,
        preference: None,
        expires: None,
        special: None,
    }
}

fn persistent(observed: &Observed) -> Persistent {
    let dns = Dns { servers: vec!["192.0.2.53".parse().unwrap()], search: Vec::new() };
    Persistent::of(observed, Wanted { uplink: UPLINK, bridge: BRIDGE }, dns).unwrap()
}

#[test]
fn what_has_an_end_is_asked_for_again() {
    let mut observed = observed("", 1500);
    let dynamic = |text: &str| value::Address { valid: Some(3600), ..address(text) };
    let all = vec![
        dynamic("192.0.2.5/24"),
        address("192.0.2.6/24"),
        dynamic("fd00::7/128"),
        dynamic("fd00::5/64"),
        address("fe80::1/64"),
    ];
    observed.addresses.insert(UPLINK, all);
    observed.routes = vec![
        value::Route { protocol: RTPROT_DHCP, metric: 100, ..route("0.0.0.0/0", "192.0.2.1") },
        value::Route { protocol: RTPROT_BOOT, metric: 7, ..route("0.0.0.0/0", "192.0.2.1") },
        value::Route { protocol: RTPROT_BOOT, ..route("10.0.0.0/8", "192.0.2.1") },
        value::Route { expires: Some(1800), ..route("::/0", "fe80::9") },
    ];
    let p = persistent(&observed);
    assert_eq!((p.dhcp, p.accept_ra), (PerFamily { v4: true, v6: true }, true));
    assert_eq!(p.addresses.iter().map(Address::text).collect::<Vec<_>>(), ["192.0.2.6/24"]);
    assert_eq!(p.routes.iter().map(Route::to).collect::<Vec<_>>(), ["10.0.0.0/8"]);
    assert_eq!((p.dns, p.mtu), (Dns::default(), None), "name servers come with the lease");
}

#[test]
fn what_is_off_stays_off() {
    let mut observed = observed("", 1500);
    observed.sysctls.insert(UPLINK, [(Sysctl::DISABLE_IPV6, "1".to_owned())].into());
    let p = persistent(&observed);
    assert!(p.no_ipv6 && !p.accept_ra);
    for (format, line) in [
        (Format::Netplan, "link-local: []\n  bridges"),
        (Format::Networkd, "LinkLocalAddressing=no"),
        (Format::NmConnection, "[ipv6]\nmethod=disabled"),
    ] {
        let text: String = p.render(format).into_iter().map(|file| file.content).collect();
        assert!(text.contains(line), "{format}: {text}");
    }
    let stanzas = &p.render(Format::Ifupdown)[0].content;
    assert!(stanzas.contains("iface br0 inet manual\n") && !stanzas.contains("inet6"), "{stanzas}");
}

#[test]
fn a_bond_stays_described_where_it_is() {
    let mut observed = observed("bond", 9000);
    observed.addresses.insert(UPLINK, vec![address("192.0.2.5/24")]);
    observed.routes = vec![route("0.0.0.0/0", "192.0.2.1")];
    let p = persistent(&observed);
    let text =
        |format| p.render(format).into_iter().map(|file| file.content).collect::<Vec<_>>().join("----\n");
    expect![[r##"
        # bond0 on br0, in place of what configures bond0 today.
        network:
          version: 2
          # bond0 stays defined where it is, without addresses, routes and DHCP.
          bridges:
            br0:
              interfaces: [bond0]
              macaddress: "02:00:5e:00:53:01"
              mtu: 9000
              parameters:
                stp: false
                forward-delay: 0
              dhcp4: false
              dhcp6: false
              accept-ra: false
              addresses:
                - "192.0.2.5/24"
              routes:
                - to: "default"
                  via: "192.0.2.1"
              nameservers:
                addresses: ["192.0.2.53"]
                search: []
    "##]]
    .assert_eq(&text(Format::Netplan));
    expect![[r#"
        # bond0 on br0, in place of what configures bond0 today.
        # bond0 stays as it is, but for: nmcli connection modify CONNECTION connection.master br0 connection.slave-type bridge
        [connection]
        id=br0
        type=bridge
        interface-name=br0
        autoconnect-priority=100
        autoconnect-slaves=1

        [ethernet]
        cloned-mac-address=02:00:5e:00:53:01
        mtu=9000

        [bridge]
        stp=false
        forward-delay=0

        [ipv4]
        method=manual
        address1=192.0.2.5/24
        route1=0.0.0.0/0,192.0.2.1,0
        dns=192.0.2.53;

        [ipv6]
        method=link-local
        addr-gen-mode=eui64
    "#]].assert_eq(&text(Format::NmConnection));
    expect![[r#"
        # bond0 on br0, in place of what configures bond0 today.
        # Needs the package bridge-utils.
        auto br0
        # bond0 stays defined where it is, as `inet manual`, without addresses.

        iface br0 inet static
            address 192.0.2.5/24
            bridge_ports bond0
            bridge_hw 02:00:5e:00:53:01
            bridge_stp off
            bridge_fd 0
            bridge_maxwait 0
            mtu 9000
            dns-nameservers 192.0.2.53
            up ip route replace default via 192.0.2.1 dev br0
    "#]]
    .assert_eq(&text(Format::Ifupdown));
    assert!(text(Format::Networkd).contains("# VLAN= lines of today's file for bond0 belong here too.\n"));
    assert_eq!(text(Format::Networkd).matches("MTUBytes=9000").count(), 3);
}

#[test]
fn nothing_is_left_out_in_silence() {
    let mut observed = observed("", 1500);
    let special = value::Address {
        label: Some("bond0:x".to_owned()),
        peer: Some("192.0.2.9".parse().unwrap()),
        flags: address_flags::NOPREFIXROUTE,
        metric: 7,
        preferred: Some(0),
        ..address("192.0.2.5/32")
    };
    observed.addresses.insert(UPLINK, vec![special]);
    let mut multipath = route("10.1.0.0/16", "192.0.2.1");
    multipath.hops.push(multipath.hops[0].clone());
    observed.routes = vec![
        multipath,
        value::Route { metrics: vec![(8, 1400)], ..route("10.2.0.0/16", "192.0.2.1") },
        value::Route { tos: 4, congestion: Some("bbr".to_owned()), ..route("10.3.0.0/16", "192.0.2.1") },
        route("10.4.0.0/16", "fe80::1"),
    ];
    let neighbour = |address: &str, proxy: bool| Neighbour {
        address: address.parse().unwrap(),
        mac: (!proxy).then_some(MacAddr([2; 6])),
        proxy,
        router: false,
    };
    observed.neighbours.insert(UPLINK, vec![neighbour("192.0.2.77", false), neighbour("192.0.2.78", true)]);
    let p = persistent(&observed);
    let mut unsaid = String::new();
    for format in [Format::Netplan, Format::Networkd, Format::Ifupdown, Format::NmConnection] {
        unsaid += &format!("{format}\n");
        let files = p.render(format);
        let lines = files.iter().flat_map(|file| file.content.lines());
        let told: BTreeSet<&str> = lines.filter_map(|line| line.strip_prefix("# Not said here: ")).collect();
        unsaid.extend(told.into_iter().map(|line| format!("  {line}\n")));
    }
    expect![[r#"
        netplan
          address 192.0.2.5/32: its peer's address.
          address 192.0.2.5/32: that there is no route for its prefix.
          address 192.0.2.5/32: the metric of its prefix's route.
          neighbour 192.0.2.77.
          neighbour 192.0.2.78.
          route to 10.1.0.0/16 (table 254): it has several next hops, a nexthop object, an encapsulation or another type.
          route to 10.2.0.0/16 (table 254): its metrics beside the MTU.
          route to 10.3.0.0/16 (table 254): its congestion control.
          route to 10.3.0.0/16 (table 254): the packets that it is for.
          route to 10.4.0.0/16: its next hop is of the other address family.
        networkd
          proxy neighbour 192.0.2.78.
          route to 10.1.0.0/16 (table 254): it has several next hops, a nexthop object, an encapsulation or another type.
          route to 10.2.0.0/16 (table 254): its metrics beside the MTU.
          route to 10.3.0.0/16 (table 254): its congestion control.
          route to 10.3.0.0/16 (table 254): the packets that it is for.
        ifupdown
          route to 10.1.0.0/16 (table 254): it has several next hops, a nexthop object, an encapsulation or another type.
          route to 10.2.0.0/16 (table 254): its metrics beside the MTU.
          route to 10.3.0.0/16 (table 254): its congestion control.
          route to 10.3.0.0/16 (table 254): the packets that it is for.
        nmconnection
          address 192.0.2.5/32: its label.
          address 192.0.2.5/32: its peer's address.
          address 192.0.2.5/32: that it is deprecated.
          address 192.0.2.5/32: that there is no route for its prefix.
          address 192.0.2.5/32: the metric of its prefix's route.
          neighbour 192.0.2.77.
          neighbour 192.0.2.78.
          route to 10.1.0.0/16 (table 254): it has several next hops, a nexthop object, an encapsulation or another type.
          route to 10.2.0.0/16 (table 254): its metrics beside the MTU.
          route to 10.3.0.0/16 (table 254): its congestion control.
          route to 10.3.0.0/16 (table 254): the packets that it is for.
          route to 10.4.0.0/16: its next hop is of the other address family.
    "#]].assert_eq(&unsaid);
}

#[test]
fn what_is_no_uplink_is_refused() {
    let of = |observed: &Observed, uplink: &str| {
        let wanted = Wanted { uplink: uplink.parse().unwrap(), bridge: BRIDGE };
        Persistent::of(observed, wanted, Dns::default()).unwrap_err()
    };
    let mut there = observed("", 1500);
    assert_eq!(of(&there, "eth7"), PersistError::NoUplink("eth7".parse().unwrap()));
    assert_eq!(of(&there, "a\"b"), PersistError::Name("a\"b".to_owned()));
    there.links.get_mut(&UPLINK).unwrap().mac = None;
    assert_eq!(of(&there, "bond0"), PersistError::NoMac(UPLINK));
}
