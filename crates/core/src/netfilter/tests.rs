use expect_test::expect;
use proptest::collection::btree_set;
use proptest::prelude::*;

use super::*;

fn cidrs(list: &[&str]) -> BTreeSet<Cidr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn set(role: SetRole, family: Family) -> SetName {
    SetName { role, family }
}

#[test]
fn dual_stack_table() {
    let table = Table {
        masquerade: vec![
            Masquerade { family: Family::V4, fully_random: true },
            Masquerade { family: Family::V6, fully_random: false },
        ],
        sets: BTreeMap::from([
            (set(SetRole::LocalPods, Family::V4), cidrs(&["10.244.1.0/24"])),
            (set(SetRole::Exempt, Family::V4), cidrs(&["10.244.0.0/16", "10.96.0.0/12", "192.0.2.1/32"])),
            (set(SetRole::Nodes, Family::V4), cidrs(&["192.168.0.1/32", "192.168.0.2/32"])),
            (set(SetRole::LocalPods, Family::V6), cidrs(&["fd00:10:244:1::/64"])),
            (set(SetRole::Exempt, Family::V6), cidrs(&["fd00:10:244::/48", "fd00:10:96::/112"])),
        ]),
    };
    expect![[r#"
        table inet hopwise {
        	set local_pods_v4 {
        		type ipv4_addr
        		flags interval
        		elements = { 10.244.1.0/24 }
        	}

        	set exempt_v4 {
        		type ipv4_addr
        		flags interval
        		elements = { 10.96.0.0/12, 10.244.0.0/16,
        			     192.0.2.1 }
        	}

        	set nodes_v4 {
        		type ipv4_addr
        		elements = { 192.168.0.1, 192.168.0.2 }
        	}

        	set local_pods_v6 {
        		type ipv6_addr
        		flags interval
        		elements = { fd00:10:244:1::/64 }
        	}

        	set exempt_v6 {
        		type ipv6_addr
        		flags interval
        		elements = { fd00:10:96::/112,
        			     fd00:10:244::/48 }
        	}

        	set nodes_v6 {
        		type ipv6_addr
        	}

        	chain postrouting {
        		type nat hook postrouting priority srcnat; policy accept;
        		ip saddr @local_pods_v4 ip daddr != 224.0.0.0/4 ip daddr != @exempt_v4 ip daddr != @nodes_v4 masquerade fully-random
        		ip6 saddr @local_pods_v6 ip6 daddr != ff00::/8 ip6 daddr != @exempt_v6 ip6 daddr != @nodes_v6 masquerade
        	}
        }
    "#]]
    .assert_eq(&table.render());
}

#[test]
fn a_family_that_does_not_masquerade_has_no_sets() {
    let table = Table {
        masquerade: vec![Masquerade { family: Family::V6, fully_random: true }],
        sets: BTreeMap::from([
            (set(SetRole::LocalPods, Family::V4), cidrs(&["10.244.1.0/24"])),
            (set(SetRole::Nodes, Family::V6), cidrs(&["fd00::1/128", "10.0.0.1/32"])),
        ]),
    };
    let text = table.render();
    assert!(!text.contains("v4") && !text.contains("10."), "{text}");
    assert!(text.contains("elements = { fd00::1 }\n"), "{text}");
}

#[test]
fn an_empty_structure_is_an_empty_table() {
    assert_eq!(Table::default().render(), "table inet hopwise {\n}\n");
}

#[test]
fn names_find_their_sets() {
    for name in Family::BOTH.into_iter().flat_map(SetName::of_family) {
        assert_eq!(SetName::find(name.as_str()), Some(name));
    }
    assert_eq!(SetName::find("nodes"), None);
}

fn network() -> impl Strategy<Value = Cidr> {
    // Few bits, so that containment is frequent.
    prop_oneof![
        (0_u32..16, 24_u8..=32).prop_map(|(n, len)| (std::net::Ipv4Addr::from(n << 4).into(), len)),
        (0_u128..16, 120_u8..=128).prop_map(|(n, len)| (std::net::Ipv6Addr::from(n << 4).into(), len)),
        Just((std::net::Ipv4Addr::UNSPECIFIED.into(), 0)),
    ]
    .prop_map(|(address, len)| Cidr::containing(address, len).unwrap())
}

proptest! {
    #[test]
    fn merged_networks_cover_the_same_and_do_not_overlap(networks in btree_set(network(), 0..12)) {
        let merged = merge(networks.clone());
        prop_assert!(merged.is_subset(&networks));
        for network in &networks {
            prop_assert!(merged.iter().any(|outer| outer.contains_cidr(*network)));
        }
        for (index, one) in merged.iter().enumerate() {
            prop_assert!(merged.iter().skip(index + 1).all(|other| !one.overlaps(*other)));
        }
        prop_assert_eq!(merge(merged.clone()), merged);
    }
}
