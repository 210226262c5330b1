//! What differs on purpose, each under the name of its row in the table of docs/cni.md.

use super::compare::Differing;

/// A row of the table, and where it shows.
pub struct Difference {
    /// The first column of the row.
    pub name: &'static str,
    pub when: When,
    /// Place, the reference's value, our value; `*` is anything.
    pub shows: &'static [(&'static str, &'static str, &'static str)],
}

/// Where a row may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In any case.
    Always,
    /// In cases that name it, and it has to show there.
    Named,
    /// After an ADD that failed on both sides.
    AddFailed,
}

/// What follows when one side went on where the other failed.
const ANYTHING: (&str, &str, &str) = ("*", "*", "*");

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    everywhere("errors", &[("said.stdout.cniVersion", "nothing", "*")]),
    everywhere(
        "`forward_delay` of a new bridge",
        &[("host.link.*.linkinfo.info_data.forward_delay", "1500", "0")],
    ),
    everywhere(
        "anycast address of a gateway's IPv6 network, on a bridge that had been down",
        &[("host.route.*\"dst\":\"fd00:77::\"*\"type\":\"anycast\"*", "present", "nothing")],
    ),
    everywhere(
        "queues of a pod's link",
        &[
            ("host.link.veth#*.num_tx_queues", "*", "1"),
            ("host.link.veth#*.num_rx_queues", "*", "1"),
            ("pod*.link.eth0.num_tx_queues", "*", "1"),
            ("pod*.link.eth0.num_rx_queues", "*", "1"),
        ],
    ),
    everywhere("`txqueuelen` of the host's end", &[("host.link.veth#*.txqlen", "nothing", "1000")]),
    everywhere(
        "MAC addresses",
        &[
            // A bridge without a gateway has the lowest of its ports'.
            ("host.link.*.address", "mac:host:*", "mac:host:*"),
            ("said.stdout.interfaces.*.mac", "mac:host:*", "mac:host:*"),
            ("host.link.*.address", "00:00:00:00:00:00", "mac:host:*"),
        ],
    ),
    Difference {
        name: "failed ADD",
        when: When::AddFailed,
        shows: &[
            ("host.link.veth#*.ifname", "veth#*", "nothing"),
            ("pod*.link.eth0.ifname", "eth0", "nothing"),
            ("files.net/*.*", "600 \"pod*", "nothing"),
            ("host.link.cni0.mtu", "*", "*"),
            ("host.link.cni0.inet6_addr_gen_mode", "*", "*"),
            ("host.sysctl.ipv6/conf/cni0/*", "nothing", "*"),
            // Addresses come before links here, and both sides leave what costs nothing.
            ("files", "*", "*"),
            ("files.net/", "*", "*"),
            ("files.net/lock", "*", "*"),
            ("files.net/last_reserved_ip.*", "*", "*"),
            ("host.sysctl.ipv*forw*", "*", "*"),
            ("host.address.cni0*", "*", "*"),
            ("host.route.*\"dev\":\"cni0\"*", "nothing", "present"),
        ],
    },
    Difference {
        name: "bad configuration or namespace",
        when: When::AddFailed,
        shows: &[("host.link.*.ifname", "*", "nothing")],
    },
    Difference {
        name: "DEL under a bad configuration",
        when: When::AddFailed,
        shows: &[("said.exit of DEL", "1", "0"), ("files*", "*", "*")],
    },
    on_demand(
        "DEL without `CNI_NETNS` while the pod is still there",
        &[("host.link.veth#1.ifname", "veth#1", "nothing"), ("pod0.link.eth0.ifname", "eth0", "nothing")],
    ),
    on_demand("CHECK of a network without `ipam`", &[("said.exit of CHECK", "1", "0")]),
    on_demand("CHECK of a route in another table", &[("said.exit of CHECK", "1", "0")]),
    on_demand("CHECK with a malformed `cniVersion`", &[("said.stdout.code", "6", "1")]),
    on_demand(
        "`isDefaultGateway` beside `routes: [{dst: 0.0.0.0/0}]`",
        &[("said.exit of ADD", "1", "0"), ANYTHING],
    ),
    on_demand("`null` in `routes`", &[("said.exit of ADD", "2", "0"), ANYTHING]),
    on_demand("`mtu` and `advmss` of a route", &[("pod*.route.*", "*", "*")]),
    everywhere(
        "`accept_ra` of a bridge that was there",
        &[("host.sysctl.ipv6/conf/cni0/accept_ra", "0", "1")],
    ),
    everywhere("host's end of a ptp link", &[("host.sysctl.ipv6/conf/veth#*/accept_dad", "1", "0")]),
    everywhere(
        "addresses of ptp",
        &[
            ("pod*.address.eth0.*\"family\":\"inet\"*\"noprefixroute\":true*", "nothing", "present"),
            ("pod*.address.eth0.*\"family\":\"inet6\"*\"noprefixroute\":true*", "nothing", "present"),
            ("pod*.address.eth0.*\"label\":\"eth0\"*", "present", "nothing"),
        ],
    ),
    on_demand("loopback before 1.0.0", &[("said.stdout.*", "*", "*")]),
    on_demand("files that are no addresses", &[("files.net/notes", "nothing", "644 *")]),
    on_demand("`gateway` of the other family", &[("said.exit of ADD", "0", "1"), ANYTHING]),
    on_demand("numbers that no route has", &[("said.exit of ADD", "0", "1"), ANYTHING]),
    on_demand("half a Unicode character in JSON", &[("said.stdout.code", "7", "6")]),
    everywhere("announcements of a bridge's pods", &[("pod*.sysctl.ipv6/conf/eth0/ndisc_notify", "0", "1")]),
    everywhere("IPv6 gateway on the bridge", &[("host.sysctl.ipv6/conf/cni0/accept_dad", "1", "0")]),
    everywhere(
        "IPv6 addresses",
        &[
            ("*.address.*\"local\":\"fd*\"nodad\":true,*", "nothing", "present"),
            ("*.address.*\"local\":\"fd*\"*", "present", "nothing"),
        ],
    ),
];

pub const fn everywhere(
    name: &'static str,
    shows: &'static [(&'static str, &'static str, &'static str)],
) -> Difference {
    Difference { name, when: When::Always, shows }
}

const fn on_demand(
    name: &'static str,
    shows: &'static [(&'static str, &'static str, &'static str)],
) -> Difference {
    Difference { name, when: When::Named, shows }
}

/// Whether a row explains a difference.
pub fn explains(row: &Difference, one: &Differing) -> bool {
    row.shows.iter().any(|(place, reference, ours)| {
        matches(place, &one.place) && matches(reference, &one.reference) && matches(ours, &one.ours)
    })
}

/// Whether a text has the shape of a pattern in which `*` is anything.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
fn every_difference_has_its_row_in_the_documentation() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cni.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, table) = docs.split_once("## Differences from the reference").unwrap();
    let rows: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
    for row in DIFFERENCES {
        assert!(rows.contains(&row.name), "{:?} is not among {rows:?}", row.name);
    }
}

#[test]
fn patterns_match() {
    assert!(matches("a.*.c", "a.b.c") && matches("*", "") && matches("*x", "axx") && matches("a", "a"));
    assert!(!matches("a.*.c", "a.b.d") && !matches("a", "ab"));
}
