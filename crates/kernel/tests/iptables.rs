//! Accepts in iptables `filter FORWARD` chains with policy `DROP`, of both back ends and families.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod nft_support;

use std::collections::BTreeMap;

use hopwise_core::family::Family;
use hopwise_core::host::{IptablesBackend, IptablesChain};
use hopwise_core::observed::{AcceptRule, ObservedAccepts};
use hopwise_kernel::netlink::Socket;
use hopwise_kernel::netns::in_new_namespace;
use hopwise_kernel::{iptables, nft};
use nft_support::{Net, addresses, run, sh};

const BACKENDS: [IptablesBackend; 2] = [IptablesBackend::Nft, IptablesBackend::Legacy];

fn socket() -> Socket {
    Socket::open(libc::NETLINK_NETFILTER).unwrap()
}

fn chains() -> Vec<IptablesChain> {
    let chain = |backend| Family::BOTH.map(|family| IptablesChain { backend, family });
    BACKENDS.into_iter().flat_map(chain).collect()
}

fn program(chain: IptablesChain) -> String {
    let family = match chain.family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    match chain.backend {
        IptablesBackend::Nft => format!("{family}-nft"),
        IptablesBackend::Legacy => format!("{family}-legacy"),
    }
}

fn accepts(family: Family) -> Vec<AcceptRule> {
    let cidr = addresses(family).pod_network;
    vec![AcceptRule { cidr, destination: false }, AcceptRule { cidr, destination: true }]
}

fn observe_one(chain: IptablesChain) -> Option<ObservedAccepts> {
    iptables::observe(&mut socket()).unwrap().remove(&chain)
}

fn other_address(family: Family) -> &'static str {
    match family {
        Family::V4 => "198.51.100.0/24",
        Family::V6 => "2001:db8:51::/48",
    }
}

#[test]
fn accepts_let_pods_through_a_chain_that_drops_and_stay_first() {
    for chain in chains() {
        let net = Net::new();
        let iptables = program(chain);
        let other = other_address(chain.family);
        let receiver = net.receiver(&net.outside, chain.family);
        net.on_node(|| {
            sh(&format!("{iptables} -A FORWARD -s {other} -j ACCEPT"));
            assert_eq!(iptables::observe(&mut socket()).unwrap(), BTreeMap::new());
            assert_eq!(nft::view(&mut socket()).unwrap().forward_policy_drop, []);
            sh(&format!("{iptables} -P FORWARD DROP"));
            assert_eq!(nft::view(&mut socket()).unwrap().forward_policy_drop, [chain]);
            assert_eq!(observe_one(chain), Some(ObservedAccepts { rules: vec![], first: true }));
        });
        assert!(!net.passes(&receiver, chain.family), "{iptables}: policy DROP must block");

        let rules = accepts(chain.family);
        net.on_node(|| {
            iptables::apply(chain, &rules).unwrap();
            assert_eq!(observe_one(chain), Some(ObservedAccepts { rules: rules.clone(), first: true }));
            let listing = sh(&format!("{iptables} -S FORWARD"));
            let pods = addresses(chain.family).pod_network;
            let comment = "-m comment --comment \"hopwise pod forwarding\" -j ACCEPT";
            let expected = format!(
                "-P FORWARD DROP\n-A FORWARD -s {pods} {comment}\n-A FORWARD -d {pods} {comment}\n\
                 -A FORWARD -s {other} -j ACCEPT\n"
            );
            assert_eq!(listing, expected);
        });
        assert!(net.passes(&receiver, chain.family), "{iptables}: accepts must let pass");

        net.on_node(|| {
            sh(&format!("{iptables} -I FORWARD -j DROP"));
            assert_eq!(observe_one(chain), Some(ObservedAccepts { rules: rules.clone(), first: false }));
        });
        assert!(!net.passes(&receiver, chain.family), "{iptables}: a drop above must block");
        net.on_node(|| {
            iptables::apply(chain, &rules).unwrap();
            assert_eq!(observe_one(chain), Some(ObservedAccepts { rules: rules.clone(), first: true }));
        });
        assert!(net.passes(&receiver, chain.family), "{iptables}: order must be restored");

        net.on_node(|| {
            iptables::apply(chain, &[]).unwrap();
            assert_eq!(
                sh(&format!("{iptables} -S FORWARD")),
                format!("-P FORWARD DROP\n-A FORWARD -j DROP\n-A FORWARD -s {other} -j ACCEPT\n")
            );
        });
    }
}

#[test]
fn altered_rules_of_ours_are_noticed_replaced_and_removed() {
    for chain in chains() {
        let iptables = program(chain);
        in_new_namespace(|| {
            sh(&format!("{iptables} -P FORWARD DROP"));
            let rules = accepts(chain.family);
            let pods = addresses(chain.family).pod_network;
            let comment = ["-m", "comment", "--comment", "hopwise pod forwarding"];
            let altered: [&[&str]; 4] = [
                &["-s", &pods.to_string(), "-p", "tcp", "-j", "ACCEPT"],
                &["-s", &pods.to_string(), "-i", "eth0", "-j", "ACCEPT"],
                &["-d", &pods.to_string(), "-j", "DROP"],
                &["-d", &pods.to_string(), "-m", "mark", "--mark", "0x1", "-j", "ACCEPT"],
            ];
            for altered in altered {
                iptables::apply(chain, &rules).unwrap();
                let arguments =
                    [&["-R", "FORWARD", "2"][..], &altered[..altered.len() - 2], &comment].concat();
                let arguments = [&arguments[..], &altered[altered.len() - 2..]].concat();
                run(&iptables, &arguments, "");
                let observed = observe_one(chain).unwrap();
                assert_eq!(observed.rules.len(), 2, "{altered:?}");
                assert_ne!(observed.rules, rules, "{altered:?}");
                iptables::apply(chain, &rules).unwrap();
                assert_eq!(
                    observe_one(chain).unwrap(),
                    ObservedAccepts { rules: rules.clone(), first: true }
                );
                run(&iptables, &arguments, "");
                iptables::apply(chain, &[]).unwrap();
                assert_eq!(sh(&format!("{iptables} -S FORWARD")), "-P FORWARD DROP\n");
            }
        });
    }
}

#[test]
fn accepts_are_read_for_every_prefix_length() {
    for chain in chains() {
        in_new_namespace(|| {
            sh(&format!("{} -P FORWARD DROP", program(chain)));
            let address = addresses(chain.family).pod;
            let rules: Vec<AcceptRule> = (1..=chain.family.bits())
                .flat_map(|len| {
                    let cidr = hopwise_core::cidr::Cidr::containing(address, len).unwrap();
                    [false, true].map(|destination| AcceptRule { cidr, destination })
                })
                .collect();
            iptables::apply(chain, &rules).unwrap();
            assert_eq!(observe_one(chain), Some(ObservedAccepts { rules, first: true }));
        });
    }
}

#[test]
fn nothing_is_made_by_looking() {
    in_new_namespace(|| {
        assert_eq!(iptables::observe(&mut socket()).unwrap(), BTreeMap::new());
        nft::view(&mut socket()).unwrap();
        assert_eq!(run("nft", &["list", "ruleset"], ""), "");
        for names in ["ip_tables_names", "ip6_tables_names"] {
            assert_eq!(std::fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap(), "");
        }
    });
}

#[test]
fn a_large_legacy_chain_is_read_quickly() {
    in_new_namespace(|| {
        let rules: String =
            (0..5000).map(|n| format!("-A FORWARD -s 10.{}.{}.1 -j DROP\n", n / 256, n % 256)).collect();
        run("iptables-legacy-restore", &[], &format!("*filter\n:FORWARD DROP [0:0]\n{rules}COMMIT\n"));
        let chain = IptablesChain { backend: IptablesBackend::Legacy, family: Family::V4 };
        let start = std::time::Instant::now();
        assert_eq!(observe_one(chain), Some(ObservedAccepts { rules: vec![], first: true }));
        println!("observe behind 5,000 legacy rules: {:?}", start.elapsed());
        let start = std::time::Instant::now();
        iptables::apply(chain, &accepts(Family::V4)).unwrap();
        println!("apply before 5,000 legacy rules: {:?}", start.elapsed());
    });
}
