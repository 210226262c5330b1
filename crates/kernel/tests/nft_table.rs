//! Our nftables table, written by netlink and compared with what `nft` itself lists.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod nft_support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::TableChange;
use hopwise_core::family::Family;
use hopwise_core::netfilter::{Masquerade, ObservedTable, SetName, SetRole, Table};
use hopwise_core::observed::Event;
use hopwise_kernel::netlink::Socket;
use hopwise_kernel::netns::in_new_namespace;
use hopwise_kernel::nft;

use nft_support::run;

fn socket() -> Socket {
    Socket::open(libc::NETLINK_NETFILTER).unwrap()
}

fn listing() -> String {
    run("nft", &["list", "table", "inet", "hopwise"], "")
}

fn load(text: &str) {
    run("nft", &["-f", "-"], text);
}

fn set(role: SetRole, family: Family) -> SetName {
    SetName { role, family }
}

fn cidrs(list: &[&str]) -> BTreeSet<Cidr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

const BOTH: [Masquerade; 2] = [
    Masquerade { family: Family::V4, fully_random: true },
    Masquerade { family: Family::V6, fully_random: true },
];

fn structures() -> Vec<Vec<Masquerade>> {
    let choices = |family| {
        [None, Some(true), Some(false)]
            .map(|random| random.map(|fully_random| Masquerade { family, fully_random }))
    };
    let pairs = choices(Family::V4).into_iter().flat_map(|v4| choices(Family::V6).map(|v6| [v4, v6]));
    pairs.map(|pair| pair.into_iter().flatten().collect()).collect()
}

/// A table with elements at every edge of the address space, in those sets that the structure has.
fn sample(masquerade: &[Masquerade]) -> Table {
    let mut table = Table { masquerade: masquerade.to_vec(), sets: BTreeMap::new() };
    let all = [
        (set(SetRole::LocalPods, Family::V4), cidrs(&["10.244.1.0/24"])),
        (
            set(SetRole::Exempt, Family::V4),
            cidrs(&[
                "0.0.0.0/8",
                "10.0.0.0/24",
                "10.0.1.0/24",
                "10.96.0.0/12",
                "192.0.2.1/32",
                "240.0.0.0/5",
                "255.255.255.255/32",
            ]),
        ),
        (
            set(SetRole::Nodes, Family::V4),
            cidrs(&["192.168.0.1/32", "192.168.0.2/32", "10.1.2.3/32", "255.255.255.255/32"]),
        ),
        (set(SetRole::LocalPods, Family::V6), cidrs(&["fd00:10:244:1::/64", "fd00:10:244:2::/64"])),
        (set(SetRole::Exempt, Family::V6), cidrs(&["::/16", "fd00::/16", "2001:db8::1/128", "fe80::/10"])),
        (set(SetRole::Nodes, Family::V6), cidrs(&["fd00:1::1/128", "fd00:1::2/128", "2001:db8::/128"])),
    ];
    let names: BTreeSet<SetName> = table.set_names().collect();
    table.sets = all.into_iter().filter(|(name, _)| names.contains(name)).collect();
    table
}

fn replace(socket: &mut Socket, table: &Table) {
    nft::apply(socket, &TableChange::Replace(table.clone())).unwrap();
}

fn expected(table: &Table) -> Option<ObservedTable> {
    Some(ObservedTable { structure: Some(table.masquerade.clone()), sets: table.sets.clone() })
}

#[test]
fn nft_lists_what_render_says_for_every_structure() {
    in_new_namespace(|| {
        let mut socket = socket();
        for structure in structures() {
            let table = sample(&structure);
            replace(&mut socket, &table);
            assert_eq!(listing(), table.render());
            assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));
        }
    });
}

#[test]
fn whole_address_spaces_and_empty_sets() {
    in_new_namespace(|| {
        let mut socket = socket();
        let mut table = Table { masquerade: BOTH.to_vec(), sets: BTreeMap::new() };
        for family in Family::BOTH {
            for name in SetName::of_family(family) {
                table.sets.insert(name, BTreeSet::new());
            }
        }
        replace(&mut socket, &table);
        assert_eq!(listing(), table.render());
        assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));
        table.sets.insert(set(SetRole::Exempt, Family::V4), cidrs(&["0.0.0.0/0"]));
        table.sets.insert(set(SetRole::Exempt, Family::V6), cidrs(&["::/0"]));
        table.sets.insert(set(SetRole::LocalPods, Family::V4), cidrs(&["128.0.0.0/1"]));
        replace(&mut socket, &table);
        assert_eq!(listing(), table.render());
        assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));
    });
}

#[test]
fn a_table_that_nft_loaded_from_our_text_is_ours() {
    in_new_namespace(|| {
        let mut socket = socket();
        for structure in structures() {
            let table = sample(&structure);
            load(&format!("table inet hopwise\ndelete table inet hopwise\n{}", table.render()));
            assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));
        }
    });
}

#[test]
fn deleting_is_content_with_no_table() {
    in_new_namespace(|| {
        let mut socket = socket();
        assert_eq!(nft::observe(&mut socket).unwrap(), None);
        nft::apply(&mut socket, &TableChange::Delete).unwrap();
        replace(&mut socket, &sample(&BOTH));
        load("table inet other { chain c { }; }");
        nft::apply(&mut socket, &TableChange::Delete).unwrap();
        assert_eq!(nft::observe(&mut socket).unwrap(), None);
        assert_eq!(run("nft", &["list", "tables"], ""), "table inet other\n");
    });
}

#[test]
fn every_alteration_of_the_structure_is_noticed() {
    let alterations = [
        "add rule inet hopwise postrouting counter",
        "insert rule inet hopwise postrouting accept",
        "flush chain inet hopwise postrouting",
        "flush chain inet hopwise postrouting; delete chain inet hopwise postrouting",
        "add chain inet hopwise postrouting { policy drop; }",
        "add chain inet hopwise other",
        "add set inet hopwise other { type ipv4_addr; }",
        "add counter inet hopwise other",
        "add table inet hopwise { flags dormant; }",
        "add element inet hopwise exempt_v4 { 172.16.0.1-172.16.0.5 }",
        "flush chain inet hopwise postrouting; \
         add rule inet hopwise postrouting ip saddr @local_pods_v4 ip daddr != 224.0.0.0/4 \
         ip daddr != @exempt_v4 ip daddr != @nodes_v4 masquerade persistent",
        "flush chain inet hopwise postrouting; \
         add rule inet hopwise postrouting ip saddr @local_pods_v4 ip daddr != @exempt_v4 masquerade fully-random",
        "flush chain inet hopwise postrouting; \
         add rule inet hopwise postrouting ip saddr @exempt_v4 ip daddr != 224.0.0.0/4 \
         ip daddr != @exempt_v4 ip daddr != @nodes_v4 masquerade fully-random",
    ];
    in_new_namespace(|| {
        let mut socket = socket();
        let table = sample(&BOTH);
        for alteration in alterations {
            replace(&mut socket, &table);
            load(alteration);
            let observed = nft::observe(&mut socket).unwrap().unwrap();
            assert_eq!(observed.structure, None, "{alteration}");
        }
        replace(&mut socket, &table);
        assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));
        // One rule of two gone: its sets are left, and no structure has those.
        let handle = run("nft", &["-a", "list", "chain", "inet", "hopwise", "postrouting"], "");
        let handle = handle.lines().find(|line| line.contains("ip6")).unwrap().rsplit(' ').next().unwrap();
        load(&format!("delete rule inet hopwise postrouting handle {handle}"));
        assert_eq!(nft::observe(&mut socket).unwrap().unwrap().structure, None);
    });
}

fn edit(table: &mut Table, name: SetName, add: &[&str], remove: &[&str]) {
    let elements = table.sets.get_mut(&name).unwrap();
    elements.extend(cidrs(add));
    cidrs(remove).iter().for_each(|gone| assert!(elements.remove(gone)));
}

#[test]
fn elements_are_added_removed_and_noticed() {
    in_new_namespace(|| {
        let mut socket = socket();
        let mut table = sample(&BOTH);
        replace(&mut socket, &table);
        let nodes = set(SetRole::Nodes, Family::V4);
        let exempt = set(SetRole::Exempt, Family::V4);
        let exempt6 = set(SetRole::Exempt, Family::V6);
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        // A wider network in the place of two, a node more, a node less, and both sides of the open end of the space.
        let change = TableChange::Elements {
            add: vec![
                (exempt, cidr("10.0.0.0/16")),
                (nodes, cidr("192.168.0.9/32")),
                (exempt6, cidr("ff00::/8")),
            ],
            remove: vec![
                (exempt, cidr("10.0.0.0/24")),
                (exempt, cidr("10.0.1.0/24")),
                (exempt, cidr("255.255.255.255/32")),
                (nodes, cidr("192.168.0.2/32")),
            ],
        };
        nft::apply(&mut socket, &change).unwrap();
        edit(&mut table, exempt, &["10.0.0.0/16"], &["10.0.0.0/24", "10.0.1.0/24", "255.255.255.255/32"]);
        edit(&mut table, nodes, &["192.168.0.9/32"], &["192.168.0.2/32"]);
        edit(&mut table, exempt6, &["ff00::/8"], &[]);
        assert_eq!(listing(), table.render());
        assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));

        load("delete element inet hopwise exempt_v4 { 10.96.0.0/12 }");
        load("add element inet hopwise nodes_v4 { 1.1.1.1 }");
        edit(&mut table, exempt, &[], &["10.96.0.0/12"]);
        edit(&mut table, nodes, &["1.1.1.1/32"], &[]);
        assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));

        let gone = TableChange::Elements { add: vec![], remove: vec![(nodes, cidr("9.9.9.9/32"))] };
        assert_eq!(nft::apply(&mut socket, &gone).unwrap_err().errno(), libc::ENOENT);
        let again = TableChange::Elements { add: vec![(nodes, cidr("1.1.1.1/32"))], remove: vec![] };
        nft::apply(&mut socket, &again).unwrap();
        let nothing = TableChange::Elements { add: vec![], remove: vec![] };
        nft::apply(&mut socket, &nothing).unwrap();
        assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    in_new_namespace(|| {
        let mut socket = socket();
        let table = sample(&BOTH);
        replace(&mut socket, &table);
        let mut overlapping = table.clone();
        overlapping
            .sets
            .insert(set(SetRole::Exempt, Family::V4), cidrs(&["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]));
        let refusal = nft::apply(&mut socket, &TableChange::Replace(overlapping)).unwrap_err();
        assert!([libc::EEXIST, libc::ENOTEMPTY].contains(&refusal.errno()), "{refusal}");
        assert_eq!(nft::observe(&mut socket).unwrap(), expected(&table));
    });
}

fn with_nodes(count: u32) -> Table {
    let mut table = sample(&BOTH);
    // Steps that are no power of two, so that the order of the listing is put to the test.
    let v4 = (0..count).map(|n| Cidr::host(Ipv4Addr::from(0x0a00_0001 + n * 7).into()));
    let v6 = (0..u128::from(count))
        .map(|n| Cidr::host(Ipv6Addr::from((0xfd00_u128 << 112) + n * 0xffff_fff1).into()));
    table.sets.insert(set(SetRole::Nodes, Family::V4), v4.collect());
    table.sets.insert(set(SetRole::Nodes, Family::V6), v6.collect());
    table
}

fn timed<T>(what: &str, count: u32, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = run();
    println!("{count} nodes, both families: {what} {:?}", start.elapsed());
    value
}

#[test]
fn many_nodes() {
    in_new_namespace(|| {
        let mut socket = socket();
        for count in [5_000, 60_000] {
            let table = with_nodes(count);
            let change = TableChange::Replace(table.clone());
            timed("replace from nothing", count, || nft::apply(&mut socket, &change).unwrap());
            timed("replace again", count, || nft::apply(&mut socket, &change).unwrap());
            let observed = timed("observe", count, || nft::observe(&mut socket).unwrap());
            assert_eq!(observed, expected(&table));
            if count == 5_000 {
                assert_eq!(listing(), table.render());
            }
            let added = Cidr::host(Ipv4Addr::new(192, 0, 2, 1).into());
            let one =
                TableChange::Elements { add: vec![(set(SetRole::Nodes, Family::V4), added)], remove: vec![] };
            timed("add one", count, || nft::apply(&mut socket, &one).unwrap());
            timed("delete", count, || nft::apply(&mut socket, &TableChange::Delete).unwrap());
        }
    });
}

#[test]
fn a_small_table_is_repaired_quickly() {
    in_new_namespace(|| {
        let mut socket = socket();
        let table = sample(&BOTH);
        let mut took: Vec<Duration> = (0..50)
            .map(|_| {
                nft::apply(&mut socket, &TableChange::Delete).unwrap();
                let start = Instant::now();
                assert_eq!(nft::observe(&mut socket).unwrap(), None);
                replace(&mut socket, &table);
                start.elapsed()
            })
            .collect();
        took.sort_unstable();
        println!("observe and replace: median {:?}, worst {:?}", took[25], took[49]);
        // What one exec of nft takes on an idle machine.
        assert!(took[25] < Duration::from_millis(18), "{took:?}");
    });
}

fn events(watch: &mut Socket) -> Vec<Event> {
    let mut events = Vec::new();
    while watch.read_notifications(|message| events.extend(nft::event(&message))).unwrap() {}
    events
}

#[test]
fn events_tell_ours_from_foreign() {
    in_new_namespace(|| {
        let mut socket = socket();
        let mut watch = self::socket();
        watch.join(nft::GROUP).unwrap();
        replace(&mut socket, &sample(&BOTH));
        let ours = events(&mut watch);
        assert!(!ours.is_empty() && !ours.contains(&Event::ForeignNetfilter), "{ours:?}");

        let nodes = set(SetRole::Nodes, Family::V6);
        let element: Cidr = "fd00:1::9/128".parse().unwrap();
        let one = TableChange::Elements { add: vec![(nodes, element)], remove: vec![] };
        nft::apply(&mut socket, &one).unwrap();
        assert_eq!(events(&mut watch), [Event::Element { set: nodes, element, present: true }]);
        load("delete element inet hopwise nodes_v6 { fd00:1::9 }");
        assert_eq!(events(&mut watch), [Event::Element { set: nodes, element, present: false }]);
        load("delete element inet hopwise exempt_v6 { fd00::/16 }");
        assert!(events(&mut watch).iter().all(|event| *event == Event::Table));

        load(
            "table ip other { set s { type ipv4_addr; }; chain c { type filter hook forward priority 0; drop; }; }",
        );
        let foreign = events(&mut watch);
        assert!(foreign.len() >= 2 && foreign.iter().all(|event| *event == Event::ForeignNetfilter));
        for quiet in [
            "add element ip other s { 1.1.1.1 }",
            "add chain ip other d",
            "table bridge other { chain c { drop; }; }",
        ] {
            load(quiet);
            assert_eq!(events(&mut watch), [], "{quiet}");
        }
        run("iptables-nft", &["-t", "nat", "-A", "POSTROUTING", "-j", "RETURN"], "");
        events(&mut watch);
        run("iptables-nft", &["-t", "nat", "-A", "POSTROUTING", "-j", "RETURN"], "");
        assert_eq!(events(&mut watch), []);
        run("iptables-nft", &["-A", "FORWARD", "-j", "DROP"], "");
        assert!(events(&mut watch).contains(&Event::ForeignNetfilter));
        load("delete table inet hopwise");
        assert!(events(&mut watch).contains(&Event::Table));
    });
}
