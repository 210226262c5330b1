use std::net::IpAddr;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::family::PerFamily;
use crate::name::NodeName;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn span(text: &str) -> Span {
    text.parse().unwrap()
}

fn names(list: &str) -> Vec<NodeName> {
    list.split_whitespace().map(|name| name.parse().unwrap()).collect()
}

fn lan(subnets: &[&str], exclude: &[&str], per_node: u32) -> Lan {
    Lan {
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        gateways: Vec::new(),
        exclude: exclude.iter().map(|text| span(text)).collect(),
        per_node,
    }
}

fn text(set: &SpanSet) -> String {
    set.spans().map(|span| span.to_string()).collect::<Vec<_>>().join(" ")
}

fn table(outcome: &Outcome) -> String {
    let line = |name: &NodeName, slice: &PerFamily<SpanSet>| {
        format!("{name}: {} {}\n", text(&slice.v4), text(&slice.v6))
    };
    let mut all: String = outcome.assignment.nodes.iter().map(|(name, slice)| line(name, slice)).collect();
    for gone in &outcome.assignment.departed {
        all += &format!("(gone) {}", line(&gone.node, &gone.slice));
    }
    for shortage in &outcome.shortages {
        all += &format!("{shortage}\n");
    }
    all
}

#[test]
fn spans_are_read_as_people_write_them() {
    let cases = [
        ("192.168.1.7", "192.168.1.7"),
        (" 192.168.1.7 ", "192.168.1.7"),
        ("192.168.1.7-192.168.1.9", "192.168.1.7-192.168.1.9"),
        ("192.168.1.7..192.168.1.9", "192.168.1.7-192.168.1.9"),
        ("192.168.1.7 - 192.168.1.9", "192.168.1.7-192.168.1.9"),
        ("192.168.1.7-9", "192.168.1.7-192.168.1.9"),
        ("192.168.1.7..9", "192.168.1.7-192.168.1.9"),
        ("192.168.1.64/26", "192.168.1.64-192.168.1.127"),
        ("fd00::1..fd00::ff", "fd00::1-fd00::ff"),
        ("fd00::1-fd00::ff", "fd00::1-fd00::ff"),
        ("fd00::/126", "fd00::-fd00::3"),
        ("192.168.1.7-192.168.1.7", "192.168.1.7"),
    ];
    for (given, expected) in cases {
        assert_eq!(span(given).to_string(), expected, "{given}");
    }
}

#[test]
fn what_is_no_span_is_named_with_the_fix() {
    let cases = [
        ("", "is no run of addresses"),
        ("router", "\"router\" is no run of addresses; write one address"),
        ("192.168.1.7-300", "is no run of addresses"),
        ("fd00::1-9999x", "is no run of addresses"),
        ("192.168.1.0/33", "is no run of addresses"),
        ("192.168.1.9-7", "ends before it begins; write 192.168.1.7-192.168.1.9"),
        ("192.168.1.9-fd00::1", "begins in one address family and ends in the other"),
        ("192.168.1.9/24", "write 192.168.1.9 for the one address, 192.168.1.0/24 for the network"),
    ];
    for (given, expected) in cases {
        let error = given.parse::<Span>().unwrap_err().to_string();
        assert!(error.contains(expected), "{given}: {error}");
    }
}

#[test]
fn a_lan_that_can_not_be_meant_is_refused() {
    let error = |lan: &Lan| lan.check().unwrap_err().to_string();
    assert!(error(&lan(&[], &[], 1)).contains("no subnet"));
    assert!(error(&lan(&["10.0.0.0/24"], &[], 0)).contains("at least 1"));
    assert!(error(&lan(&["10.0.0.0/31"], &[], 1)).contains("10.0.0.0/31 is too small"));
    assert!(error(&lan(&["10.0.0.0/8", "10.1.0.0/24"], &[], 1)).contains("10.0.0.0/8 and 10.1.0.0/24"));
    let mut far = lan(&["10.0.0.0/24", "fd00::/64"], &[], 1);
    far.gateways = vec![ip("10.0.0.1"), ip("fe80::1")];
    assert_eq!(far.check(), Ok(()));
    assert_eq!(far.gateway_of("fd00::/64".parse().unwrap()), ip("fe80::1"));
    far.gateways.push(ip("10.0.1.1"));
    assert_eq!(far.check(), Err(LanError::Gateway(ip("10.0.1.1"))));
}

#[test]
fn what_has_an_owner_is_in_no_slice() {
    let mut one = lan(&["192.168.1.0/24"], &["192.168.1.100-200"], 1);
    assert_eq!(text(&one.usable(Family::V4)), "192.168.1.2-192.168.1.99 192.168.1.201-192.168.1.254");
    one.gateways = vec![ip("192.168.1.254")];
    assert_eq!(text(&one.usable(Family::V4)), "192.168.1.1-192.168.1.99 192.168.1.201-192.168.1.253");
    let six = lan(&["fd00::/64"], &["fd00::/112"], 1);
    assert_eq!(text(&six.usable(Family::V6)), "fd00::1:0-fd00::ffff:ffff:ffff:ff7f");
    let small = lan(&["fd00::/126"], &[], 1);
    assert_eq!(text(&small.usable(Family::V6)), "fd00::2-fd00::3");
}

#[test]
fn three_nodes_share_a_lan() {
    let home = lan(&["192.168.1.0/24", "fd00:1::/64"], &["192.168.1.2..20", "192.168.1.200-254"], 50);
    let first = assign(&home, &names("b a c"), &Assignment::default());
    expect![[r#"
        a: 192.168.1.71-192.168.1.120 fd00:1::34-fd00:1::65
        b: 192.168.1.21-192.168.1.70 fd00:1::2-fd00:1::33
        c: 192.168.1.121-192.168.1.170 fd00:1::66-fd00:1::97
    "#]]
    .assert_eq(&table(&first));
    // One goes, another comes: what the first had stays free as long as there is anything else.
    let second = assign(&home, &names("b c d"), &first.assignment);
    expect![[r#"
        b: 192.168.1.21-192.168.1.70 fd00:1::2-fd00:1::33
        c: 192.168.1.121-192.168.1.170 fd00:1::66-fd00:1::97
        d: 192.168.1.71-192.168.1.91 192.168.1.171-192.168.1.199 fd00:1::98-fd00:1::c9
        (gone) a: 192.168.1.92-192.168.1.120 fd00:1::34-fd00:1::65
    "#]]
    .assert_eq(&table(&second));
    // It comes back to what is left of it, and to a LAN that is full.
    let third = assign(&home, &names("a b c d"), &second.assignment);
    expect![[r#"
        a: 192.168.1.92-192.168.1.120 fd00:1::34-fd00:1::65
        b: 192.168.1.21-192.168.1.70 fd00:1::2-fd00:1::33
        c: 192.168.1.121-192.168.1.170 fd00:1::66-fd00:1::97
        d: 192.168.1.71-192.168.1.91 192.168.1.171-192.168.1.199 fd00:1::98-fd00:1::c9
        too few IPv4 addresses for 50 on each of 4 nodes: a 29; 179 can be had, 200 are needed: exclude 21 fewer, use a larger subnet, or give each node 44
    "#]]
    .assert_eq(&table(&third));
}

#[test]
fn a_full_lan_names_who_got_nothing() {
    let tiny = lan(&["10.0.0.0/29"], &[], 3);
    let outcome = assign(&tiny, &names("a b c d"), &Assignment::default());
    expect![[r#"
        a: 10.0.0.2-10.0.0.4 
        b: 10.0.0.5-10.0.0.6 
        c:  
        d:  
        too few IPv4 addresses for 3 on each of 4 nodes: c, d got none, b 2; 5 can be had, 12 are needed: exclude 7 fewer, use a larger subnet, or give each node 1
    "#]]
    .assert_eq(&table(&outcome));
}

#[test]
fn smaller_slices_are_cut_at_the_end_and_what_is_newly_excluded_is_given_up() {
    let before = assign(&lan(&["10.0.0.0/24"], &[], 10), &names("a b"), &Assignment::default());
    let after = assign(&lan(&["10.0.0.0/24"], &["10.0.0.3"], 5), &names("a b"), &before.assignment);
    expect![[r#"
        a: 10.0.0.2 10.0.0.4-10.0.0.7 
        b: 10.0.0.12-10.0.0.16 
        (gone) a: 10.0.0.8-10.0.0.11 
        (gone) b: 10.0.0.17-10.0.0.21 
    "#]]
    .assert_eq(&table(&after));
    let grown = assign(&lan(&["10.0.0.0/24"], &["10.0.0.3"], 9), &names("a b"), &after.assignment);
    expect![[r#"
        a: 10.0.0.2 10.0.0.4-10.0.0.11 
        b: 10.0.0.12-10.0.0.20 
        (gone) b: 10.0.0.21 
    "#]]
    .assert_eq(&table(&grown));
}

#[test]
fn a_slice_in_pieces_is_several_ranges_of_one_set() {
    let home = lan(&["192.168.1.0/24"], &["192.168.1.4"], 4);
    let outcome = assign(&home, &names("a"), &Assignment::default());
    let slice = &outcome.assignment.nodes.values().next().unwrap().v4;
    let set = home.range_set(slice).unwrap();
    assert_eq!(set.to_string(), "192.168.1.5-192.168.1.8", "one piece where there is one");
    let scattered: SpanSet = ["192.168.1.2-3", "192.168.1.9"].into_iter().map(span).collect();
    let set = home.range_set(&scattered).unwrap();
    assert_eq!(set.to_string(), "192.168.1.2-192.168.1.3,192.168.1.9-192.168.1.9");
    assert_eq!(set.ranges()[1].gateway(), ip("192.168.1.1"));
    assert_eq!(set.ranges()[1].subnet().prefix_len(), 24);
    assert_eq!(home.range_set(&SpanSet::default()), None);
    assert_eq!(home.range_set(&[span("10.0.0.1")].into_iter().collect()), None);
}

prop_compose! {
    fn any_lan()(
        net in 0_u8..4, bits in 2_u8..=8, six in 2_u8..=9, which in 1_u8..=3,
        exclude in prop::collection::vec((any::<u8>(), any::<u8>(), any::<bool>()), 0..4),
        gateway in any::<Option<u8>>(), per_node in 1_u32..60,
    ) -> Lan {
        let v4: IpAddr = IpAddr::from([10, 0, net, 0]);
        let v6: IpAddr = ip(&format!("fd00:{net}::"));
        let mut subnets = Vec::new();
        if which & 1 != 0 { subnets.push(Cidr::containing(v4, 32 - bits).unwrap()); }
        if which & 2 != 0 { subnets.push(Cidr::containing(v6, 128 - six).unwrap()); }
        let exclude = exclude.into_iter().map(|(one, two, is_six)| {
            let base = if is_six { v6 } else { v4 };
            let at = |offset: u8| address(Family::of(base), number(base) + u128::from(offset));
            Span::new(at(one.min(two)), at(one.max(two))).unwrap()
        }).collect();
        let gateway = gateway.map(|last| IpAddr::from([10, 0, net, last]));
        let gateways = gateway.into_iter().filter(|gateway| subnets.iter().any(|subnet| subnet.contains(*gateway)));
        Lan { gateways: gateways.collect(), subnets, exclude, per_node }
    }
}

fn any_nodes() -> impl Strategy<Value = Vec<NodeName>> {
    prop::collection::vec(prop::sample::select(names("a b c d e f g")), 0..7)
}

fn addresses(slice: &SpanSet) -> impl Iterator<Item = IpAddr> + '_ {
    slice.spans().flat_map(|span| {
        (0..span.len()).map(move |offset| address(span.family(), number(span.first()) + offset))
    })
}

/// What must hold whatever came before.
fn sound(lan: &Lan, nodes: &[NodeName], outcome: &Outcome) -> Result<(), TestCaseError> {
    let Assignment { nodes: slices, departed } = &outcome.assignment;
    prop_assert!(nodes.iter().all(|node| slices.contains_key(node)));
    prop_assert!(slices.keys().all(|node| nodes.contains(node)));
    for family in Family::BOTH {
        let usable = lan.usable(family);
        let mut left = usable.clone();
        let all = slices.values().chain(departed.iter().map(|gone| &gone.slice));
        for address in all.flat_map(|slice| addresses(slice.get(family))) {
            prop_assert!(
                !left.intersection(&[Span::one(address)].into_iter().collect()).is_empty(),
                "{address}"
            );
            left.remove(Span::one(address));
            let subnet = lan.subnet_of(address).unwrap();
            prop_assert!(address != lan.gateway_of(subnet) && address != subnet.address());
            prop_assert!(family == Family::V6 || address != subnet.last_address());
            prop_assert!(lan.exclude.iter().all(|span| !span.contains(address)));
        }
        for slice in slices.values().map(|slice| slice.get(family)).filter(|slice| !slice.is_empty()) {
            prop_assert_eq!(
                lan.range_set(slice).unwrap().capacity(),
                slice.len(),
                "no range holds a gateway"
            );
        }
        let wanted = if lan.families().any(|has| has == family) { u128::from(lan.per_node) } else { 0 };
        let short = slices.values().filter(|slice| slice.get(family).len() < wanted).count();
        prop_assert!(slices.values().all(|slice| slice.get(family).len() <= wanted));
        let named = outcome.shortages.iter().find(|shortage| shortage.family == family);
        prop_assert_eq!(named.map_or(0, |shortage| shortage.nodes.len()), short);
        prop_assert_eq!(short > 0, usable.len() < wanted * slices.len() as u128);
    }
    Ok(())
}

proptest! {
    #[test]
    fn slices_are_disjoint_inside_and_full_and_shortages_are_named(
        steps in prop::collection::vec((any_lan(), any_nodes()), 1..5),
    ) {
        let mut previous = Assignment::default();
        for (lan, nodes) in steps {
            let outcome = assign(&lan, &nodes, &previous);
            sound(&lan, &nodes, &outcome)?;
            prop_assert_eq!(&assign(&lan, &nodes, &outcome.assignment), &outcome, "what stands is kept");
            previous = outcome.assignment;
        }
    }

    #[test]
    fn who_stays_keeps_its_slice_and_who_comes_back_finds_it_while_there_is_room(
        lan in any_lan(), first in any_nodes(), second in any_nodes(),
    ) {
        let before = assign(&lan, &first, &Assignment::default());
        let between = assign(&lan, &second, &before.assignment);
        for (node, slice) in &between.assignment.nodes {
            let Some(had) = before.assignment.nodes.get(node) else { continue };
            for family in Family::BOTH {
                // A slice that was too small may have grown.
                let kept = had.get(family).intersection(slice.get(family));
                prop_assert_eq!(&kept, had.get(family), "{}", node);
            }
        }
        // As many addresses as all of both lists need: nobody takes what another had.
        let both: std::collections::BTreeSet<&NodeName> = first.iter().chain(&second).collect();
        let needed = u128::from(lan.per_node) * both.len() as u128;
        if lan.families().all(|family| lan.usable(family).len() >= needed) {
            let again = assign(&lan, &first, &between.assignment);
            prop_assert_eq!(&again.assignment.nodes, &before.assignment.nodes);
        }
    }

    #[test]
    fn sets_agree_with_plain_lists_of_addresses(
        steps in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u8>()), 0..12), wanted in 0_u8..40,
    ) {
        let mut set = SpanSet::default();
        let mut plain = std::collections::BTreeSet::new();
        for (insert, one, two) in steps {
            let at = |last: u8| IpAddr::from([10, 0, 0, last]);
            let span = Span::new(at(one.min(two)), at(one.max(two))).unwrap();
            let members = addresses_of(span);
            if insert { set.insert(span); plain.extend(members); }
            else { set.remove(span); plain.retain(|address| !span.contains(*address)); }
        }
        prop_assert_eq!(addresses(&set).collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
        let runs: Vec<Span> = set.spans().collect();
        prop_assert!(runs.windows(2).all(|pair| number(pair[0].last()) + 1 < number(pair[1].first())));
        let before = set.len();
        let taken = set.take(u128::from(wanted));
        prop_assert_eq!(taken.len(), u128::from(wanted).min(before));
        prop_assert_eq!(set.len() + taken.len(), before);
        prop_assert!(set.intersection(&taken).is_empty());
    }

    #[test]
    fn spans_read_back_and_nothing_panics(first in any::<IpAddr>(), last in any::<IpAddr>(), noise in ".*") {
        if let Some(span) = Span::new(first, last) {
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        let _ = noise.parse::<Span>();
    }
}

fn addresses_of(span: Span) -> Vec<IpAddr> {
    addresses(&[span].into_iter().collect()).collect()
}

#[test]
fn the_whole_of_ipv6_is_no_trouble() {
    let all = lan(&["::/0"], &["::/1"], 3);
    let outcome = assign(&all, &names("a"), &Assignment::default());
    assert_eq!(text(&outcome.assignment.nodes.values().next().unwrap().v6), "8000::-8000::2");
    let everything: SpanSet = [span("::/0")].into_iter().collect();
    assert_eq!(everything.len(), u128::MAX);
}
