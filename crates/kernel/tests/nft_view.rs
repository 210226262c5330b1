//! What is found of foreign rules that drop forwarded packets.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod nft_support;

use std::fmt::Write;
use std::time::Instant;

use hopwise_core::diff::TableChange;
use hopwise_core::family::Family;
use hopwise_core::host::{DropCause, DroppingChain, IptablesBackend, IptablesChain, NetfilterView};
use hopwise_core::netfilter::Masquerade;
use hopwise_core::observed::AcceptRule;
use hopwise_kernel::netlink::Socket;
use hopwise_kernel::netns::in_new_namespace;
use hopwise_kernel::{iptables, nft};
use nft_support::{Net, run, sh, table};

fn view() -> NetfilterView {
    nft::view(&mut Socket::open(libc::NETLINK_NETFILTER).unwrap()).unwrap()
}

fn load(text: &str) {
    run("nft", &["-f", "-"], text);
}

/// `family table chain: cause`, one on a line, handles looked up in nft's own listing by the rule's text.
fn found(view: &NetfilterView) -> Vec<String> {
    view.dropping_chains.iter().map(line).collect()
}

fn line(chain: &DroppingChain) -> String {
    let DroppingChain { family, table, chain, cause } = chain;
    let cause = match cause {
        DropCause::Policy => "policy".to_owned(),
        DropCause::Rule { handle, unconditional } => {
            let listing = run("nft", &["-a", "list", "chain", family, table, chain], "");
            let rule = listing.lines().find_map(|line| line.strip_suffix(&format!(" # handle {handle}")));
            let rule = rule.unwrap_or_else(|| panic!("no rule {handle} in {listing}")).trim();
            format!("{} {}", if *unconditional { "always" } else { "sometimes" }, rule)
        }
    };
    format!("{family} {table} {chain}: {cause}")
}

#[test]
fn dropping_chains_are_named() {
    let cases: &[(&str, &[&str])] = &[
        (
            "table inet f { chain c { type filter hook forward priority 0; policy drop; }; }",
            &["inet f c: policy"],
        ),
        ("table ip f { chain c { type filter hook forward priority 0; policy accept; }; }", &[]),
        ("table ip f { chain c { type filter hook input priority 0; policy drop; }; }", &[]),
        // Not on IP's hooks.
        ("table bridge f { chain c { type filter hook forward priority 0; policy drop; }; }", &[]),
        (
            "table ip6 f { chain c { type filter hook forward priority 0; counter drop; }; }",
            &["ip6 f c: always counter packets 0 bytes 0 drop"],
        ),
        (
            "table inet f { chain c { type filter hook forward priority 0; \
             ip saddr 10.0.0.0/8 drop; ct state invalid drop; reject; drop; }; }",
            // The first of a kind, and nothing behind one that decides.
            &["inet f c: sometimes ip saddr 10.0.0.0/8 drop", "inet f c: always reject"],
        ),
        (
            "table inet f { chain a { reject; }; chain b { jump a; }; chain c { type filter hook forward priority 0; \
             tcp dport 80 jump a; iifname \"x\" goto b; }; }",
            &["inet f a: sometimes reject"],
        ),
        (
            "table inet f { chain a { tcp dport 80 return; drop; }; \
             chain c { type filter hook forward priority 0; policy drop; jump a; }; }",
            &["inet f a: always drop"],
        ),
        // All is accepted before it could be dropped.
        (
            "table inet f { chain a { drop; }; \
             chain c { type filter hook forward priority 0; policy drop; counter accept; jump a; }; }",
            &[],
        ),
        // Chains that nothing leads to.
        ("table inet f { chain a { drop; }; chain c { type filter hook forward priority 0; }; }", &[]),
        (
            "table inet f { chain a { return; drop; }; chain c { type filter hook forward priority 0; jump a; drop; }; }",
            &["inet f c: always drop"],
        ),
    ];
    for (ruleset, expected) in cases {
        in_new_namespace(|| {
            load(ruleset);
            let view = view();
            assert_eq!(found(&view), *expected, "{ruleset}");
            assert_eq!(view.forward_policy_drop, []);
        });
    }
}

#[test]
fn our_own_table_is_not_foreign() {
    in_new_namespace(|| {
        let table = table(&Family::BOTH.map(|family| Masquerade { family, fully_random: true }));
        let mut socket = Socket::open(libc::NETLINK_NETFILTER).unwrap();
        nft::apply(&mut socket, &TableChange::Replace(table)).unwrap();
        assert_eq!(view(), NetfilterView::default());
    });
}

#[test]
fn what_stands_behind_our_accepts_does_not_count() {
    in_new_namespace(|| {
        // What Docker does.
        sh("iptables-nft -N DOCKER");
        sh("iptables-nft -A DOCKER ! -i docker0 -o docker0 -j DROP");
        sh("iptables-nft -A FORWARD -j DOCKER");
        sh("iptables-nft -A FORWARD -m conntrack --ctstate INVALID -j REJECT");
        sh("iptables-nft -P FORWARD DROP");
        let chain = IptablesChain { backend: IptablesBackend::Nft, family: Family::V4 };
        let before = view();
        assert_eq!(before.forward_policy_drop, [chain]);
        let chains: Vec<_> = before.dropping_chains.iter().map(|found| found.chain.as_str()).collect();
        assert_eq!(chains, ["DOCKER", "FORWARD"]);
        let rule = AcceptRule { cidr: "10.244.0.0/16".parse().unwrap(), destination: false };
        iptables::apply(chain, &[rule]).unwrap();
        assert_eq!(view(), NetfilterView { forward_policy_drop: vec![chain], dropping_chains: vec![] });
    });
}

#[test]
fn a_chain_that_is_named_does_drop() {
    let net = Net::new();
    let receiver = net.receiver(&net.outside, Family::V4);
    assert!(net.passes(&receiver, Family::V4));
    net.on_node(|| {
        load("table inet firewall { chain guard { type filter hook forward priority 10; ip saddr 10.244.0.0/16 drop; }; }");
        assert_eq!(found(&view()), ["inet firewall guard: sometimes ip saddr 10.244.0.0/16 drop"]);
    });
    assert!(!net.passes(&receiver, Family::V4));
    // Accepts in iptables' chain don't help against it, which is why it is named.
    net.on_node(|| {
        let rule = AcceptRule { cidr: "10.244.0.0/16".parse().unwrap(), destination: false };
        for backend in [IptablesBackend::Nft, IptablesBackend::Legacy] {
            iptables::apply(IptablesChain { backend, family: Family::V4 }, &[rule]).unwrap();
        }
    });
    assert!(!net.passes(&receiver, Family::V4));
}

#[test]
fn the_cost_beside_many_foreign_rules() {
    in_new_namespace(|| {
        // kube-proxy's iptables mode with 10,000 services of one endpoint each.
        let mut text = String::from("*nat\n:KUBE-SERVICES - [0:0]\n");
        for n in 0..10_000 {
            let _ = writeln!(text, ":KUBE-SVC-{n:016} - [0:0]\n:KUBE-SEP-{n:016} - [0:0]");
        }
        for n in 0..10_000 {
            let address = format!("10.{}.{}.{}", 96 + n / 65_536, n / 256 % 256, n % 256);
            let _ = writeln!(
                text,
                "-A KUBE-SERVICES -d {address}/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-{n:016}\n\
                 -A KUBE-SVC-{n:016} -j KUBE-SEP-{n:016}\n\
                 -A KUBE-SEP-{n:016} -p tcp -m tcp -j DNAT --to-destination 10.244.1.2:80"
            );
        }
        text.push_str("COMMIT\n");
        run("iptables-nft-restore", &[], &text);
        load(
            "table inet firewall { chain guard { type filter hook forward priority 10; ip saddr 10.244.0.0/16 drop; }; }",
        );
        let mut socket = Socket::open(libc::NETLINK_NETFILTER).unwrap();
        for _ in 0..3 {
            let start = Instant::now();
            let view = nft::view(&mut socket).unwrap();
            println!("view beside 20,000 chains, 30,000 rules: {:?}", start.elapsed());
            assert_eq!(view.dropping_chains.len(), 1);
        }
        let start = Instant::now();
        nft::observe(&mut socket).unwrap();
        println!("observe beside them: {:?}", start.elapsed());
        let start = Instant::now();
        iptables::observe(&mut socket).unwrap();
        println!("accepts beside them: {:?}", start.elapsed());
    });
}
