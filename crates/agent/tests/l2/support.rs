//! A LAN: a switch, a router with a network behind it, another host, and the node.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hopwise_agent::l2::{AttachOptions, By, Points, Uplink, no_points};
use hopwise_core::l2::value::Wanted;
use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;

pub const WANTED: Wanted =
    Wanted { uplink: LinkName::new_static("eth1"), bridge: LinkName::new_static("cni0") };

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the node's link to the LAN is. Whatever it is, it is called `eth1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One cable.
    Veth,
    /// Two, one of them used at a time; their MAC addresses by the bond's option `fail_over_mac`.
    ActiveBackup(&'static str),
    /// Two at once, by LACP with the switch.
    Lacp,
    /// A VLAN device on one.
    Vlan,
    /// A VLAN device on a bond of two.
    VlanOnBond,
}

/// The links below a bond, and the ports of the switch that they lead to.
pub const CABLES: [(&str, &str); 2] = [("p3", "slave1"), ("p4", "slave2")];

/// All of it; ends when it is dropped.
pub struct Lan {
    pub switch: Namespace,
    pub router: Namespace,
    pub host: Namespace,
    pub node: Namespace,
    pub dir: tempfile::TempDir,
}

/// Runs `ip` in a namespace; it must work.
pub fn ip(namespace: &Namespace, args: &str) -> String {
    run(namespace, "ip", args)
}

pub fn run(namespace: &Namespace, program: &str, args: &str) -> String {
    let output = namespace.run(|| Command::new(program).args(args.split(' ')).output().unwrap()).unwrap();
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs many commands of `ip` in a namespace as one process; each must work. What they print comes together.
#[track_caller]
fn batch(namespace: &Namespace, options: &[&str], lines: &[String]) -> String {
    let start = || {
        let mut command = Command::new("ip");
        command.args(options).args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = namespace.run(start).unwrap();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{lines:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn sysctl(namespace: &Namespace, path: &str, value: &str) {
    namespace.run(|| std::fs::write(format!("/proc/sys/net/{path}"), value).unwrap()).unwrap();
}

/// Waits for something that happens in its own time.
#[track_caller]
pub fn until(what: &str, so: impl FnMut() -> bool) {
    assert!(comes(so), "still not: {what}");
}

/// Looks again and again whether it is so, ever more rarely: where looking takes an emulated processor long and waiting takes
/// no time, what never comes is told soon.
fn comes(mut so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(10);
    while !so() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_secs(2));
    }
    true
}

impl Lan {
    /// The router is 192.168.7.1, fd07::1 and fe80::1, and knows 203.0.113.1 and 2001:db8:ffff::1; the host is .20, the
    /// node .5 of the same networks, with default routes to the router.
    pub fn new() -> Lan {
        Lan::of(Kind::Veth)
    }

    /// [`Lan::new`] with another kind of link to the node.
    pub fn of(kind: Kind) -> Lan {
        let lan = Lan {
            switch: Namespace::new().unwrap(),
            router: Namespace::new().unwrap(),
            host: Namespace::new().unwrap(),
            node: Namespace::new().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        let bridge = "link add lan type bridge stp_state 0 forward_delay 0 mcast_snooping 0".to_owned();
        batch(&lan.switch, &[], &[bridge, "link set lan up".to_owned()]);
        lan.cable("p1", &lan.router, "eth0", 1, true);
        lan.cable("p2", &lan.host, "eth0", 20, true);
        lan.plug_node(kind);
        for (namespace, link, n, more) in [
            (
                &lan.router,
                "eth0",
                1,
                &["address add 203.0.113.1/32 dev lo", "address add 2001:db8:ffff::1/128 dev lo nodad"][..],
            ),
            (&lan.host, "eth0", 20, &["route add default via 192.168.7.1", "route add default via fd07::1"]),
            (
                &lan.node,
                "eth1",
                5,
                &[
                    "route add default via 192.168.7.1 dev eth1 proto static metric 100 src 192.168.7.5",
                    "route add default via fe80::1 dev eth1 proto static metric 512",
                ],
            ),
        ] {
            let addresses = [format!("192.168.7.{n}/24"), format!("fd07::{n}/64 nodad")];
            settle(namespace, link, n, &addresses);
            batch(namespace, &[], &more.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        }
        sysctl(&lan.router, "ipv4/ip_forward", "1");
        sysctl(&lan.router, "ipv6/conf/all/forwarding", "1");
        if kind == Kind::Lacp {
            until("both in one aggregate", || lan.aggregated() == 2);
        }
        lan
    }

    /// Puts a link of a namespace on the switch, with a MAC and a link-local address that end in `n`.
    pub fn plug(&self, port: &str, namespace: &Namespace, link: &str, n: u8) {
        self.cable(port, namespace, link, n, true);
        settle(namespace, link, n, &[]);
    }

    /// A cable between the switch, where it is down and no port yet unless it is said to be one, and a namespace, where it is
    /// down and has a MAC that ends in `n`.
    fn cable(&self, port: &str, namespace: &Namespace, link: &str, n: u8, is_port: bool) {
        let there = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
        let mut lines = vec![
            format!("link add {port} type veth peer name {link} netns {there}"),
            format!("link set {port} addrgenmode none"),
        ];
        if is_port {
            lines.push(format!("link set {port} master lan up"));
        }
        batch(&self.switch, &[], &lines);
        ip(namespace, &format!("link set {link} address 02:00:00:00:00:{n:02x} addrgenmode none"));
    }

    /// Makes the node's `eth1`, down, and puts it on the switch.
    fn plug_node(&self, kind: Kind) {
        match kind {
            Kind::Veth => self.cable("p3", &self.node, "eth1", 5, true),
            Kind::ActiveBackup(macs) => {
                self.bond("eth1", &format!("active-backup fail_over_mac {macs}"), true);
            }
            Kind::Lacp => {
                let lacp = "802.3ad lacp_rate fast";
                self.bond("eth1", lacp, false);
                aggregate(&self.switch, "lag", lacp, CABLES.map(|(port, _)| port));
                ip(&self.switch, "link set lag master lan up");
            }
            Kind::Vlan => {
                self.cable("p3", &self.node, "trunk", 5, false);
                self.tag(&["p3"], "trunk");
            }
            Kind::VlanOnBond => {
                self.bond("trunk", "active-backup", false);
                self.tag(&CABLES.map(|(port, _)| port), "trunk");
            }
        }
    }

    /// How many of the cables carry traffic by LACP, both ends agreeing.
    pub fn aggregated(&self) -> usize {
        let shown = batch(&self.node, &["-d"], &CABLES.map(|(_, link)| format!("link show {link}")));
        shown.lines().filter(|line| line.matches(",distributing>").count() == 2).count()
    }

    /// Two cables, and in the node a bond of them.
    fn bond(&self, name: &str, mode: &str, are_ports: bool) {
        for ((port, link), n) in CABLES.iter().zip([5, 6]) {
            self.cable(port, &self.node, link, n, are_ports);
        }
        aggregate(&self.node, name, mode, CABLES.map(|(_, link)| link));
    }

    /// Makes ports of the switch carry the LAN as VLAN 100, and the node's `eth1` of it.
    fn tag(&self, ports: &[&str], trunk: &str) {
        let carry = |port: &&str| {
            [
                format!("link set {port} up"),
                format!("link add link {port} name {port}.100 type vlan id 100"),
                format!("link set {port}.100 addrgenmode none master lan up"),
            ]
        };
        batch(&self.switch, &[], &ports.iter().flat_map(carry).collect::<Vec<_>>());
        let lines = [
            format!("link set {trunk} up"),
            format!("link add link {trunk} name eth1 type vlan id 100"),
            "link set eth1 addrgenmode none".to_owned(),
        ];
        batch(&self.node, &[], &lines);
    }

    pub fn state(&self) -> &Path {
        self.dir.path()
    }

    /// Does something with the uplink in the node's namespace.
    pub fn in_node<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.node.run(work).unwrap()
    }

    pub fn attach(&self) -> hopwise_agent::l2::Attached {
        self.in_node(|| Uplink::open(self.state()).unwrap().attach(&options(), &mut no_points).unwrap())
    }

    pub fn detach(&self) {
        self.in_node(|| Uplink::open(self.state()).unwrap().detach(false, &mut no_points).unwrap());
    }

    /// Attaches step by step.
    pub fn attach_stepwise(&self, points: Points<'_>) -> Result<(), hopwise_agent::l2::L2Error> {
        Uplink::open_stepwise(self.state()).unwrap().attach(&options(), points).map(drop)
    }

    /// All that `ip` tells of the node, as it differs between two moments only if something was changed.
    pub fn shown(&self) -> String {
        let commands = ["link show", "address show", "neighbour show nud permanent", "rule show"];
        let mut shown = batch(&self.node, &["-d"], &commands.map(str::to_owned));
        for family in ["-4", "-6"] {
            // The kernel lists routes to the same place in the order of making.
            let routes = ip(&self.node, &format!("{family} route show table all"));
            let mut lines: Vec<&str> = routes.lines().collect();
            lines.sort_unstable();
            shown += &format!("# {family}\n{}\n", lines.join("\n"));
        }
        shown
    }

    /// Whether all is as it was. The kernel makes an IPv6 address usable from a work queue, in its own time.
    #[track_caller]
    pub fn assert_shown(&self, before: &str, when: &str) {
        let mut now = String::new();
        comes(|| {
            now = self.shown();
            now == before
        });
        assert_eq!(now, before, "{when}");
    }

    /// Whether the node and the host, and the node and the world, reach each other.
    pub fn assert_reachable(&self) {
        for address in ["203.0.113.1", "2001:db8:ffff::1", "192.168.7.20", "fd07::20"] {
            ping(&self.node, address);
        }
        for address in ["192.168.7.5", "fd07::5"] {
            ping(&self.host, address);
        }
    }
}

/// A bond of links that are down. It has the first one's MAC address.
fn aggregate(namespace: &Namespace, name: &str, mode: &str, links: [&str; 2]) {
    let mut lines = vec![
        format!("link add {name} type bond miimon 100 mode {mode}"),
        format!("link set {name} addrgenmode none"),
    ];
    lines.extend(links.map(|link| format!("link set {link} master {name}")));
    batch(namespace, &[], &lines);
}

/// Sets a link up and gives it a link-local address that ends in `n`, and others; comes back when nothing about it changes
/// any more.
fn settle(namespace: &Namespace, link: &str, n: u8, others: &[String]) {
    sysctl(namespace, &format!("ipv6/conf/{link}/accept_ra"), "0");
    let mut lines = vec![format!("link set {link} up"), format!("address add fe80::{n}/64 dev {link} nodad")];
    lines.extend(others.iter().map(|address| format!("address add {address} dev {link}")));
    batch(namespace, &[], &lines);
    let v6 = others.iter().filter_map(|address| address.split_once("/64")).map(|(address, _)| address);
    // A link that has its carrier is told to be up up to a second later, and has the route for multicast then; addresses are
    // made usable from a work queue.
    let mut marks = vec![" state UP ".to_owned(), format!("multicast ff00::/8 dev {link} ")];
    let addresses = v6.map(str::to_owned).chain([format!("fe80::{n}")]);
    marks.extend(addresses.map(|address| format!("local {address} dev {link} ")));
    let looks = [format!("link show {link}"), "route show table local".to_owned()];
    until(&format!("{marks:?}"), || {
        let shown = batch(namespace, &["-6"], &looks);
        marks.iter().all(|mark| shown.contains(mark))
    });
}

pub fn options() -> AttachOptions {
    AttachOptions { wanted: WANTED, verify: Vec::new(), timeout: Duration::from_secs(60), by: By::Command }
}

/// One answer is enough, whenever it comes.
#[track_caller]
pub fn ping(from: &Namespace, to: &str) {
    let output = from
        .run(|| Command::new("ping").args(["-n", "-c", "1", "-i", "0.2", "-w", "60", to]).output().unwrap())
        .unwrap();
    assert!(output.status.success(), "{to}: {}", String::from_utf8_lossy(&output.stdout));
}
