//! Attaching and detaching.

use hopwise_core::l2::value::Observed;
use hopwise_core::l2::{attach, detach, heal};
use hopwise_kernel::l2::L2;

use crate::support::{BRIDGE, UPLINK, WANTED, assert_becomes, ip, on_a_lan, shown, until, until_usable};

pub fn do_all(l2: &mut L2, steps: &[hopwise_core::l2::step::Step]) {
    let errors = l2.apply(steps, false, &mut |_| {}).unwrap();
    let errors: Vec<String> = errors.iter().map(|error| format!("{error}: {}", error.source)).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{steps:#?}");
}

/// Everything that an address, a route and a neighbour can have.
fn furnish() {
    for address in [
        "192.168.7.5/24 brd 192.168.7.255 dev eth1 valid_lft 3600 preferred_lft 1800",
        "192.168.7.6/24 dev eth1 label eth1:web",
        "192.168.7.7/24 dev eth1",
        "10.77.0.1 peer 10.77.0.2/32 dev eth1",
        "172.31.0.9/24 dev eth1 noprefixroute",
        "172.31.1.9/24 dev eth1 metric 77",
        "169.254.9.9/16 dev eth1 scope link",
        "fd07::5/64 dev eth1 nodad",
        "fd07::6/64 dev eth1 valid_lft 7200 preferred_lft 0",
        "fd08::7/64 dev eth1 noprefixroute",
        "fd09::7/64 dev eth1 metric 300",
        "fd0a::1/64 dev eth1 mngtmpaddr valid_lft 7200 preferred_lft 3600",
    ] {
        ip(&format!("address add {address}"));
    }
    for route in [
        "-4 route add 172.31.0.0/24 dev eth1 proto kernel scope link src 172.31.0.9 metric 100",
        "-4 route add default via 192.168.7.1 dev eth1 proto dhcp src 192.168.7.5 metric 100 mtu 1400 advmss 1300",
        "-4 route add default via 192.168.7.1 dev eth1 metric 200",
        "-4 route append default via 192.168.7.254 dev eth1 metric 200",
        "-4 route add 10.1.0.0/16 via 203.0.113.9 dev eth1 onlink table 1000 proto 99",
        "-4 route add 10.2.0.0/16 nexthop via 192.168.7.1 dev eth1 weight 3 nexthop via 192.168.7.254 dev eth1",
        "-4 route add 10.3.0.0/16 tos 0x10 via 192.168.7.1",
        "-4 route add 10.4.0.0/16 via inet6 fe80::fe dev eth1",
        "-4 route add 10.5.0.0/16 dev eth1 scope link congctl reno initcwnd 20 table 70000",
        "-6 route add default via fe80::fe dev eth1 proto static metric 512 pref high",
        "-6 route add fd99::/48 via fd07::1 dev eth1 src fd07::5 mtu 1300 table 1000",
        "-6 route add fd98::/48 via fd07::1 expires 500",
        "-6 route add fd97::/48 nexthop via fd07::1 dev eth1 nexthop via fd07::2 dev eth1 weight 2",
        "neighbour add 192.168.7.1 lladdr 02:00:00:00:00:fe dev eth1 nud permanent",
        "neighbour add fe80::fe lladdr 02:00:00:00:00:fe router dev eth1 nud permanent",
        "neighbour add proxy 192.168.7.99 dev eth1",
        "neighbour add 192.168.7.2 lladdr 02:00:00:00:00:02 dev eth1 nud stale",
        "rule add from 172.31.0.9 lookup 1000 priority 1000",
    ] {
        ip(route);
    }
    std::fs::write("/proc/sys/net/ipv4/conf/eth1/arp_announce", "2").unwrap();
    std::fs::write("/proc/sys/net/ipv4/neigh/eth1/gc_stale_time", "77").unwrap();
}

pub fn observe(l2: &mut L2) -> Observed {
    l2.observe(WANTED).unwrap()
}

#[test]
fn everything_goes_to_a_new_bridge_and_comes_back() {
    on_a_lan(|| {
        furnish();
        until_usable();
        let before = shown();
        let mut l2 = L2::open().unwrap();
        let observed = observe(&mut l2);
        let plan = attach::plan(&observed, WANTED).unwrap();
        do_all(&mut l2, &plan.steps);

        let attached = observe(&mut l2);
        assert_eq!(attached.addresses_of(UPLINK), []);
        assert_eq!(attached.neighbours_of(UPLINK), []);
        assert_eq!(attached.routes_of(UPLINK).collect::<Vec<_>>(), Vec::<&_>::new());
        let on_bridge = ip("address show dev cni0");
        for text in ["192.168.7.6/24 scope global secondary cni0:web", "fd07::5/64", "fe80::", "metric 77"] {
            assert!(on_bridge.contains(text), "{text} in\n{on_bridge}");
        }
        let read = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
        assert_eq!(read("ipv4/conf/cni0/arp_announce"), "2\n");
        assert_eq!(read("ipv4/neigh/cni0/gc_stale_time"), "77\n");
        let healing = heal::plan(&attached, &plan.record, 0);
        assert_eq!((healing.findings, healing.steps), (vec![], vec![]));

        do_all(&mut l2, &detach::plan(&attached, &plan.record));
        assert_becomes(&before, shown);
        let again = observe(&mut l2);
        assert_eq!(detach::plan(&again, &plan.record), vec![]);
    });
}

#[test]
fn a_bridge_that_was_there_is_what_it_was_afterwards() {
    on_a_lan(|| {
        ip("address add 192.168.7.5/24 dev eth1");
        ip("route add default via 192.168.7.1");
        ip("link add cni0 address 02:00:00:00:00:77 mtu 1450 type bridge");
        ip("link add pod0 type veth peer name pod1");
        ip("link set pod0 master cni0 addrgenmode none up");
        ip("link set cni0 addrgenmode none");
        ip("link set cni0 up");
        ip("link set pod1 addrgenmode none up");
        // IPv6 gets ready when the carrier has come, in the kernel's own time.
        for link in ["cni0", "pod0", "pod1"] {
            until(|| ip("-6 route show table local").contains(&format!("ff00::/8 dev {link}")));
        }
        ip("address add 10.244.1.1/24 dev cni0");
        std::fs::write("/proc/sys/net/ipv4/conf/cni0/rp_filter", "2").unwrap();
        // Carriers come by themselves, in their own time.
        let before = settled();
        let mut l2 = L2::open().unwrap();
        let plan = attach::plan(&observe(&mut l2), WANTED).unwrap();
        do_all(&mut l2, &plan.steps);
        let attached = observe(&mut l2);
        assert_eq!(attached.links[&BRIDGE].mac, attached.links[&UPLINK].mac);
        assert_eq!(attached.links[&BRIDGE].mtu, 1500);
        assert!(detach::check(&attached, WANTED).is_err(), "a pod is on it");
        do_all(&mut l2, &detach::plan(&attached, &plan.record));
        assert_becomes(&before, settled);
        let rp_filter = std::fs::read_to_string("/proc/sys/net/ipv4/conf/cni0/rp_filter").unwrap();
        assert_eq!(rp_filter, "2\n");
    });
}

/// What is shown, without the states of links that follow their carriers and the bridge's own timers.
fn settled() -> String {
    let volatile = ["state ", "_timer ", "root_id"];
    let line = |line: &str| -> Option<String> {
        let words: Vec<&str> = line.split(' ').filter(|word| *word != "linkdown").collect();
        (!volatile.iter().any(|word| line.contains(word))).then(|| words.join(" "))
    };
    shown().lines().filter_map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_cannot_be_moved_is_seen() {
    on_a_lan(|| {
        ip("address add 192.168.7.5/24 dev eth1");
        ip("nexthop add id 7 via 192.168.7.1 dev eth1");
        ip("route add 10.1.0.0/16 nhid 7");
        let mut l2 = L2::open().unwrap();
        let refusal = attach::plan(&observe(&mut l2), WANTED).unwrap_err().to_string();
        assert!(refusal.contains("the route to 10.1.0.0/16 on eth1 leads to nexthop object 7"), "{refusal}");
        ip("route del 10.1.0.0/16");
        ip("link add mv0 link eth1 type macvlan");
        let refusal = attach::plan(&observe(&mut l2), WANTED).unwrap_err().to_string();
        assert!(refusal.starts_with("mv0 (macvlan) is made on eth1"), "{refusal}");
    });
}
