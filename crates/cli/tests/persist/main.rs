//! `hopwise l2 persist`: its output, read by the programs that it is for. Needs root, and Debian's packages.
#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

mod harness;

use std::fs;
use std::process::{Command, Stdio};

use expect_test::expect_file;
use hopwise_kernel::netns::Namespace;

use harness::{MAC, Networkd, Node, debian, ip, quietly, state};

/// A server as somebody set it up by hand.
const BY_HAND: &str = "
    address add 192.0.2.5/24 dev eth1
    address add 192.0.2.6/24 dev eth1
    address add 198.51.100.5/24 dev eth1
    address add fd00:1::5/64 dev eth1 nodad
    address add fd00:2::5/64 dev eth1 nodad
    route add default via 192.0.2.1 dev eth1 metric 100 mtu 1400
    route add 10.50.0.0/16 via 192.0.2.2 dev eth1 src 192.0.2.6 table 100
    route add 10.60.0.0/16 via 172.16.0.1 dev eth1 onlink
    route add 10.70.0.0/16 dev eth1
    -6 route add default via fe80::1 dev eth1 metric 1024
    -6 route add fd00:50::/32 via fd00:1::2 dev eth1 metric 50 table 100
";

/// What not every format has words for.
const SPECIAL: &str = "
    address add 192.0.2.7/24 dev eth1 label eth1:web
    address add 203.0.113.5/24 dev eth1 metric 50
    address add fd00:1::9/64 dev eth1 nodad preferred_lft 0
    neighbour add 192.0.2.9 lladdr 02:00:5e:00:53:99 dev eth1
";

/// What DHCP and routers give.
const DYNAMIC: &str = "
    address add 192.0.2.5/24 dev eth1 valid_lft 3600 preferred_lft 3600
    address add fd00:1::5/64 dev eth1 nodad valid_lft 3600 preferred_lft 3600
    route add default via 192.0.2.1 dev eth1 proto dhcp metric 200
    -6 route add default via fe80::1 dev eth1 proto ra metric 1024 expires 1800
    route add 10.50.0.0/16 via 192.0.2.2 dev eth1
";

#[test]
fn every_format_is_as_it_was() {
    for (name, commands) in [("special", [BY_HAND, SPECIAL].concat()), ("dynamic", DYNAMIC.to_owned())] {
        let node = Node::new(&commands);
        for format in ["netplan", "networkd", "ifupdown", "nmconnection"] {
            let golden = format!("{}/tests/persist/golden/{name}-{format}.txt", env!("CARGO_MANIFEST_DIR"));
            expect_file![golden].assert_eq(&node.printed(format));
        }
    }
}

#[test]
fn networkd_makes_the_same_of_its_units() {
    let node = Node::new(&[BY_HAND, SPECIAL].concat());
    let units = node.written("networkd").join("etc/systemd/network");
    let networkd = Networkd::start(&units, node.dir.path());
    networkd.until(&state(&node.namespace, "eth1"));
    networkd.assert_understood();
    let neighbours = ip(&networkd.namespace, "neighbour show dev cni0");
    assert!(neighbours.contains("192.0.2.9 lladdr 02:00:5e:00:53:99 PERMANENT"), "{neighbours}");
}

#[test]
fn networkd_understands_every_unit_of_a_dynamic_node() {
    let node = Node::new(DYNAMIC);
    let units = node.written("networkd").join("etc/systemd/network");
    let networkd = Networkd::start(&units, node.dir.path());
    harness::eventually(|| match networkd.log() {
        log if log.contains("cni0: Requested configuring of the DHCPv4 client") => Ok(()),
        log => Err(log),
    });
    networkd.assert_understood();
}

#[test]
fn netplan_makes_the_same_of_its_file_by_networkd() {
    let node = Node::new(BY_HAND);
    let root = node.written("netplan");
    quietly(debian("usr/libexec/netplan/generate").arg("--root-dir").arg(&root));
    let networkd = Networkd::start(&root.join("run/systemd/network"), node.dir.path());
    networkd.until(&state(&node.namespace, "eth1"));
    networkd.assert_understood();
}

#[test]
fn netplan_takes_what_is_special_and_dynamic() {
    for commands in [[BY_HAND, SPECIAL].concat(), DYNAMIC.to_owned()] {
        let node = Node::new(&commands);
        let root = node.written("netplan");
        quietly(debian("usr/libexec/netplan/generate").arg("--root-dir").arg(&root));
        let unit = fs::read_to_string(root.join("run/systemd/network/10-netplan-cni0.network")).unwrap();
        let expected = if commands == DYNAMIC { "RouteMetric=200" } else { "Label=cni0:web" };
        assert!(unit.contains(expected), "{unit}");
    }
}

#[test]
fn network_manager_reads_its_keyfiles_whole() {
    for commands in [[BY_HAND, SPECIAL].concat(), DYNAMIC.to_owned()] {
        let node = Node::new(&commands);
        let folder = node.written("nmconnection").join("etc/NetworkManager/system-connections");
        let mut n_files = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let mut nmcli = debian("usr/bin/nmcli");
            // Changes nothing: the connection that it prints is the one that it has read.
            nmcli.args(["--offline", "connection", "modify", "connection.autoconnect", "yes"]);
            let read = quietly(nmcli.stdin(fs::File::open(&path).unwrap()).stderr(Stdio::piped()));
            for line in text.lines().filter(|line| line.contains('=') && !line.starts_with('#')) {
                let (key, value) = line.split_once('=').unwrap();
                // It writes lists and options in an order of its own, MAC addresses in capitals, and leaves out what is its default.
                let sorted = |list: &str| {
                    let list = list.to_lowercase();
                    let mut words: Vec<&str> =
                        list.split([',', ';']).filter(|word| !word.is_empty()).collect();
                    words.sort_unstable();
                    words.join(" ")
                };
                let found = read.lines().filter_map(|line| line.split_once('='));
                let found: Vec<_> =
                    found.filter(|(name, _)| *name == key).map(|(_, value)| sorted(value)).collect();
                let is_default = ["autoconnect-slaves"].contains(&key) && found.is_empty();
                assert!(is_default || found.contains(&sorted(value)), "{line} is not in\n{read}");
            }
            n_files += 1;
        }
        assert_eq!(n_files, 2);
    }
}

#[test]
fn ifquery_reads_its_stanzas_and_ip_its_commands() {
    let node = Node::new(&[BY_HAND, SPECIAL].concat());
    let file = node.written("ifupdown").join("etc/network/interfaces.d/cni0");
    let ifquery = |args: &[&str]| quietly(debian("sbin/ifquery").arg("-i").arg(&file).args(args));
    let listed = ifquery(&["--list"]);
    assert!(listed.lines().any(|line| line == "cni0"), "{listed}");
    let options = ifquery(&["cni0"]);
    let mac = format!("bridge_hw: {MAC}");
    for expected in ["address: 192.0.2.5", "bridge_ports: eth1", "bridge_stp: off", "bridge_fd: 0", &mac] {
        assert!(options.lines().any(|line| line == expected), "{expected} is not in\n{options}");
    }
    // The addresses of its stanzas, and then its commands, make the same of a bridge.
    let there = Namespace::new().unwrap();
    ip(&there, &format!("link add cni0 address {MAC} type bridge"));
    ip(&there, "link add eth1 type veth peer name far");
    for link in ["eth1 up master cni0", "far up", "cni0 up"] {
        ip(&there, &format!("link set {link}"));
    }
    let text = fs::read_to_string(&file).unwrap();
    let after = |word: &'static str| text.lines().filter_map(move |line| line.trim().strip_prefix(word));
    for address in after("address ") {
        ip(&there, &format!("address add {address} dev cni0"));
    }
    for command in after("up ") {
        let run = || Command::new("sh").args(["-e", "-c", command]).output().unwrap();
        let output = there.run(run).unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(state(&there, "cni0"), state(&node.namespace, "eth1"));
    // And of a node whose addresses are dynamic it makes none that is static.
    let node = Node::new(DYNAMIC);
    let file = node.written("ifupdown").join("etc/network/interfaces.d/cni0");
    quietly(debian("sbin/ifquery").arg("-i").arg(&file).arg("cni0"));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("iface cni0 inet dhcp\n") && text.contains("iface cni0 inet6 auto\n"), "{text}");
}

#[test]
fn an_uplink_that_is_on_the_bridge_by_now_gives_the_same() {
    let before = Node::new(&[BY_HAND, SPECIAL].concat());
    let commands = [BY_HAND, SPECIAL].concat().replace("eth1", "cni0");
    let attach =
        format!("link add cni0 address {MAC} type bridge\nlink set eth1 master cni0\nlink set cni0 up\n");
    let after = Node::new(&format!("{attach}{commands}"));
    for format in ["netplan", "networkd", "ifupdown", "nmconnection"] {
        assert_eq!(before.printed(format), after.printed(format), "{format}");
    }
    // The veth pair of a test looks like a pod's, so it has to be named.
    let output = after.hopwise(&["--format", "netplan"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("no port that looks like an uplink") && stderr.contains("--uplink"), "{stderr}");
}

#[test]
fn what_can_not_be_done_is_named_and_changes_nothing() {
    let node = Node::new("");
    let dir = node.written("networkd");
    let file = dir.join("etc/systemd/network/10-cni0.netdev");
    let there = fs::read_to_string(&file).unwrap();
    fs::write(&file, "mine").unwrap();
    let fails = |args: &[&str], part: &str| {
        let output = node.hopwise(&[&["--format", "networkd"], args].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.contains(part), "{stderr}");
    };
    fails(&["--uplink", "eth1", "--dir", dir.to_str().unwrap()], "is there already");
    assert_ne!(there, fs::read_to_string(&file).unwrap());
    fails(&["--uplink", "eth7"], "there is no link eth7");
    fails(&["--uplink", "lo"], "lo has no MAC address");
    node.ip("link set far name f+0");
    fails(&["--uplink", "f+0"], "rename the link");
}
