use std::process::Command as Process;

use hopwise_kernel::netns::in_new_namespace;

use super::*;
use crate::spec::Command;

fn request(id: &str) -> Request {
    Request {
        command: Command::Add,
        container_id: id.to_owned(),
        netns: "/n".to_owned(),
        ifname: "eth0".to_owned(),
        args: String::new(),
        path: "/".to_owned(),
        netns_override: false,
    }
}

fn listed() -> String {
    let output = Process::new("nft").args(["list", "table", "inet", nft::Table::INET.name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn address(text: &str) -> InterfaceAddress {
    text.parse().unwrap()
}

#[test]
fn the_table_is_what_nft_reads_it_as() {
    in_new_namespace(|| {
        let mut masquerade = Masquerade::open("net").unwrap();
        let one = [address("10.9.0.2/24"), address("fd00:9::2/64")];
        masquerade.add(&request("one"), &one).unwrap();
        masquerade.add(&request("two"), &[address("10.10.0.3/16")]).unwrap();
        // A network that is there, and whose chain keeps its rules: nothing twice.
        masquerade.add(&request("two"), &[address("10.9.0.3/24")]).unwrap();
        masquerade.remove(&request("two"), &["10.9.0.3", "10.10.0.3"].map(|ip| ip.parse().unwrap())).unwrap();
        expect_test::expect![[r#"
            table inet hopwise_cni {
            	map pods_v4 {
            		type ipv4_addr : verdict
            		elements = { 10.9.0.2 comment "net one eth0" : goto net_10.9.0.0/24 }
            	}

            	map pods_v6 {
            		type ipv6_addr : verdict
            		elements = { fd00:9::2 comment "net one eth0" : goto net_fd00_9__/64 }
            	}

            	chain postrouting {
            		type nat hook postrouting priority srcnat; policy accept;
            		ip saddr vmap @pods_v4
            		ip6 saddr vmap @pods_v6
            	}

            	chain net_10.9.0.0/24 {
            		ip daddr 10.9.0.0/24 return
            		ip daddr 224.0.0.0/4 return
            		masquerade
            	}

            	chain net_fd00_9__/64 {
            		ip6 daddr fd00:9::/64 return
            		ip6 daddr ff00::/8 return
            		masquerade
            	}

            	chain net_10.10.0.0/16 {
            		ip daddr 10.10.0.0/16 return
            		ip daddr 224.0.0.0/4 return
            		masquerade
            	}
            }
        "#]]
        .assert_eq(&listed());
    });
}

#[test]
fn elements_belong_to_their_attachment() {
    in_new_namespace(|| {
        let mut masquerade = Masquerade::open("net").unwrap();
        let ip = address("10.9.0.2/24");
        masquerade.remove(&request("one"), &[ip.address]).unwrap();
        masquerade.add(&request("one"), &[ip]).unwrap();
        // The address goes to another before the first is deleted.
        masquerade.add(&request("two"), &[ip]).unwrap();
        masquerade.remove(&request("one"), &[ip.address]).unwrap();
        assert!(listed().contains("net two eth0"));
        masquerade.add(&request("two"), &[ip]).unwrap();
        masquerade.remove(&request("two"), &[ip.address]).unwrap();
        assert!(!listed().contains("elements"));
    });
}

#[test]
fn gc_keeps_what_is_valid_and_what_is_of_other_networks() {
    in_new_namespace(|| {
        let mut masquerade = Masquerade::open("net").unwrap();
        masquerade.retain(&BTreeSet::new()).unwrap();
        for (id, ip) in [("one", "10.9.0.2/24"), ("two", "10.9.0.3/24"), ("two", "fd00:9::3/64")] {
            masquerade.add(&request(id), &[address(ip)]).unwrap();
        }
        Masquerade::open("net2").unwrap().add(&request("one"), &[address("10.8.0.2/24")]).unwrap();
        let valid = Attachment { container_id: "two".to_owned(), ifname: "eth0".to_owned() };
        masquerade.retain(&BTreeSet::from([valid])).unwrap();
        let listed = listed();
        assert!(!listed.contains("\"net one") && listed.contains("\"net2 one"), "{listed}");
        assert_eq!(listed.matches("\"net two").count(), 2);
    });
}

#[test]
fn a_flushed_table_comes_back() {
    in_new_namespace(|| {
        let mut masquerade = Masquerade::open("net").unwrap();
        masquerade.add(&request("one"), &[address("10.9.0.2/24")]).unwrap();
        let nft =
            |arguments: &[&str]| assert!(Process::new("nft").args(arguments).status().unwrap().success());
        nft(&["flush", "ruleset"]);
        masquerade.add(&request("two"), &[address("10.9.0.3/24")]).unwrap();
        assert!(listed().contains("net two eth0"));
    });
}

#[test]
fn rules_that_were_flushed_come_back_with_the_next_add() {
    in_new_namespace(|| {
        let mut masquerade = Masquerade::open("net").unwrap();
        let (one, two) = (address("10.9.0.2/24"), address("10.9.0.3/24"));
        masquerade.add(&request("one"), &[one]).unwrap();
        masquerade.add(&request("elsewhere"), &[address("10.8.0.2/24")]).unwrap();
        let whole = listed();
        let table = ["inet", nft::Table::INET.name];
        for flushed in [&["table"][..], &["chain", "postrouting"], &["chain", "net_10.9.0.0/24"]] {
            let [kind, chain @ ..] = flushed else { unreachable!() };
            let arguments = ["flush", kind].into_iter().chain(table).chain(chain.iter().copied());
            assert!(Process::new("nft").args(arguments).status().unwrap().success());
            assert_ne!(listed(), whole, "{flushed:?}");
            masquerade.check(&request("one"), &[one]).unwrap_err();
            masquerade.add(&request("two"), &[two]).unwrap();
            masquerade.check(&request("one"), &[one]).unwrap();
            masquerade.check(&request("two"), &[two]).unwrap();
            masquerade.remove(&request("two"), &[two.address]).unwrap();
            // What was flushed of another network comes back with that one's next ADD.
            masquerade.add(&request("elsewhere"), &[address("10.8.0.2/24")]).unwrap();
            assert_eq!(listed(), whole, "{flushed:?}");
        }
    });
}
