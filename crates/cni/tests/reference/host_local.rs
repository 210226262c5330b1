//! The host-local plugin by itself, and loopback.

use serde_json::{Value, json};

use super::case::{ALL, Case, Step, ipam, with};
use super::compare::check;
use Step::{Add, Check, Del};

const V4: &str = "10.77.0.0/24";

/// host-local with these keys in `ipam`.
fn local(name: &str, keys: Value) -> Case {
    Case::new(&format!("host-local {name}"), "host-local", json!({"type": "x", "ipam": ipam(keys)}))
}

/// host-local with an IPv4 range and these keys beside `ipam`.
fn beside(name: &str, keys: Value) -> Case {
    let config = with(json!({"type": "x", "ipam": ipam(json!({"subnet": V4}))}), keys);
    Case::new(&format!("host-local {name}"), "host-local", config)
}

#[test]
fn results_of_every_version() {
    check(&[
        local("IPv4", json!({"subnet": V4})).versions(ALL),
        local("dual stack", json!({"ranges": [[{"subnet": V4}], [{"subnet": "fd00:77::/64"}]]})).versions(ALL),
        local("routes", json!({"subnet": V4, "routes": [
            {"dst": "0.0.0.0/0"}, {"dst": "10.90.0.0/16", "gw": "10.77.0.9"},
            {"dst": "10.91.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 5, "table": 100, "scope": 253},
        ]}))
        .versions(ALL),
        local("resolv.conf", json!({"subnet": V4, "resolvConf": "{dir}/r"})).versions(ALL).file("r", "domain a.b\n"),
        local("a gateway that is told", json!({"subnet": V4, "gateway": "10.77.0.254"})).versions(ALL),
        local("a number too many", json!({"subnet": V4, "routes": [{"dst": "0.0.0.0/0", "mtu": 0, "table": 0}]})),
    ]);
}

#[test]
fn ranges_that_are_wrong() {
    let one = |name: &str, range: Value| local(name, json!({"ranges": [[range]]}));
    check(&[
        local("no ranges", json!({})),
        local("empty ranges", json!({"ranges": []})),
        local("empty set", json!({"ranges": [[]]})),
        one("no subnet", json!({})),
        one("empty subnet", json!({"subnet": ""})),
        one("no prefix", json!({"subnet": "10.77.0.0"})),
        one("host bits", json!({"subnet": "10.77.0.1/24"})),
        one("/31", json!({"subnet": "10.77.0.0/31"})),
        one("/32", json!({"subnet": "10.77.0.0/32"})),
        one("/30", json!({"subnet": "10.77.0.0/30"})),
        one("/127", json!({"subnet": "fd00::/127"})),
        one("/126", json!({"subnet": "fd00::/126"})),
        one("/0", json!({"subnet": "0.0.0.0/0"})),
        one("v6 /0", json!({"subnet": "::/0"})),
        one("start outside", json!({"subnet": V4, "rangeStart": "10.78.0.1"})),
        one("end outside", json!({"subnet": V4, "rangeEnd": "10.78.0.1"})),
        one("end before start", json!({"subnet": V4, "rangeStart": "10.77.0.9", "rangeEnd": "10.77.0.8"})),
        one("start is no address", json!({"subnet": V4, "rangeStart": "x"})),
        one("start is empty", json!({"subnet": V4, "rangeStart": ""})),
        one("start at the network's address", json!({"subnet": V4, "rangeStart": "10.77.0.0"})),
        one(
            "end at broadcast",
            json!({"subnet": V4, "rangeStart": "10.77.0.254", "rangeEnd": "10.77.0.255"}),
        )
        .steps(&[Add(0), Add(1), Add(2), Del(0), Del(1)]),
        one("start of the other family", json!({"subnet": V4, "rangeStart": "fd00::1"})),
        one("gateway of the other family", json!({"subnet": V4, "gateway": "fd00::1"}))
            .rows(&["`gateway` of the other family"]),
        one("gateway is no address", json!({"subnet": V4, "gateway": "x"})),
        one("subnet is a number", json!({"subnet": 10})),
        one("IPv4 written as IPv6", json!({"subnet": "::ffff:10.77.0.0/120"})),
        one("leading zeros", json!({"subnet": "010.077.000.000/24"})),
        one("capitals", json!({"subnet": "FD00:77::/64", "rangeStart": "FD00:77:0:0::A"})),
        local("mixed families", json!({"ranges": [[{"subnet": V4}, {"subnet": "fd00::/64"}]]})),
        local("overlap in a set", json!({"ranges": [[{"subnet": V4}, {"subnet": "10.77.0.0/16"}]]})),
        local("overlap of sets", json!({"ranges": [[{"subnet": V4}], [{"subnet": "10.77.0.0/16"}]]})),
        local(
            "same subnet, other halves",
            json!({"ranges": [
                [{"subnet": V4, "rangeEnd": "10.77.0.99"}], [{"subnet": V4, "rangeStart": "10.77.0.100"}],
            ]}),
        ),
        local("ranges flat", json!({"ranges": [{"subnet": V4}]})),
        local("ranges as text", json!({"ranges": V4})),
        local("routes as text", json!({"subnet": V4, "routes": "0.0.0.0/0"})),
        local(
            "route priority as text",
            json!({"subnet": V4, "routes": [{"dst": "0.0.0.0/0", "priority": "1"}]}),
        ),
        local("route priority -1", json!({"subnet": V4, "routes": [{"dst": "0.0.0.0/0", "priority": -1}]}))
            .rows(&["numbers that no route has"]),
        local("route table -1", json!({"subnet": V4, "routes": [{"dst": "0.0.0.0/0", "table": -1}]}))
            .rows(&["numbers that no route has"]),
        local("route scope 256", json!({"subnet": V4, "routes": [{"dst": "0.0.0.0/0", "scope": 256}]}))
            .rows(&["numbers that no route has"]),
        local("dataDir as number", json!({"subnet": V4, "dataDir": 5})),
        local("dataDir below a file", json!({"subnet": V4, "dataDir": "{dir}/data/file/x"}))
            .file("data/file", ""),
    ]);
}

#[test]
fn allocation() {
    let small = || json!({"subnet": "10.77.0.0/29", "rangeStart": "10.77.0.2", "rangeEnd": "10.77.0.4"});
    check(&[
        local("until it is full", small())
            .steps(&[Add(0), Add(1), Add(2), Add(3), Check(3), Del(1), Add(3), Check(3), Del(3), Del(0), Del(2)]),
        local("round robin", small())
            .steps(&[Add(0), Del(0), Add(0), Del(0), Add(0), Del(0), Add(0), Del(0)]),
        local("twice", small()).steps(&[Add(0), Add(0), Check(0), Del(0), Check(0), Add(0)]),
        local("dual, the second full", json!({"ranges": [
            [{"subnet": V4}], [{"subnet": "fd00:77::/126", "rangeStart": "fd00:77::2", "rangeEnd": "fd00:77::2"}],
        ]}))
        .steps(&[Add(0), Add(1), Del(1), Del(0), Add(1)]),
        local("over two ranges", json!({"ranges": [[
            {"subnet": "10.77.0.0/30"}, {"subnet": "10.78.0.0/30"}, {"subnet": "10.79.0.0/30"},
        ]]}))
        .steps(&[Add(0), Add(1), Add(2), Add(3), Del(0), Del(1), Del(2)]),
        local("only a gateway", json!({"subnet": V4, "rangeStart": "10.77.0.1", "rangeEnd": "10.77.0.1"})),
        beside("requested and full", json!({"runtimeConfig": {"ips": ["10.77.0.9"]}}))
            .steps(&[Add(0), Add(1), Del(0), Add(1), Del(1)]),
        beside("requested by all", json!({
            "runtimeConfig": {"ips": ["10.77.0.9"], "ipRanges": [[{"subnet": "10.80.0.0/24"}], [{"subnet": "fd00::/64"}]]},
            "args": {"cni": {"ips": ["10.80.0.9/24"]}},
        }))
        .args("IP=fd00::9"),
        beside("requested, a range's start", json!({"args": {"cni": {"ips": ["10.77.0.0"]}}})),
    ]);
}

#[test]
fn files_of_others() {
    let with_file = |name: &str, path, content| local(name, json!({"subnet": V4})).file(path, content);
    check(&[
        with_file("a file of the container only", "data/net/10.77.0.9", "pod0").steps(&[
            Check(0),
            Del(0),
            Check(0),
        ]),
        with_file("white space", "data/net/10.77.0.9", " pod0\r\neth0 \n").steps(&[
            Check(0),
            Del(0),
            Check(0),
        ]),
        with_file("line feed only", "data/net/10.77.0.9", "pod0\neth0").steps(&[Check(0), Del(0), Check(0)]),
        with_file("another link", "data/net/10.77.0.9", "pod0\r\neth1").steps(&[Check(0), Add(0), Del(0)]),
        with_file("another container", "data/net/10.77.0.9", "pod00\r\neth0").steps(&[
            Check(0),
            Add(0),
            Del(0),
        ]),
        with_file("a container's file, then an ADD", "data/net/10.77.0.9", "pod0").steps(&[Add(0), Del(0)]),
        with_file("the next address is taken", "data/net/10.77.0.2", "other\r\neth0")
            .steps(&[Add(0), Del(0)]),
        with_file("last reserved", "data/net/last_reserved_ip.0", "10.77.0.200").steps(&[Add(0), Del(0)]),
        with_file("last reserved, line feed", "data/net/last_reserved_ip.0", "10.77.0.200\n")
            .steps(&[Add(0), Del(0)]),
        with_file("last reserved of elsewhere", "data/net/last_reserved_ip.0", "10.99.0.200")
            .steps(&[Add(0), Del(0)]),
        with_file("last reserved is rubbish", "data/net/last_reserved_ip.0", "rubbish")
            .steps(&[Add(0), Del(0)]),
        with_file("last reserved is empty", "data/net/last_reserved_ip.0", "").steps(&[Add(0), Del(0)]),
        with_file("last of all", "data/net/last_reserved_ip.0", "10.77.0.254").steps(&[Add(0), Del(0)]),
        with_file("a file that is no address", "data/net/notes", "pod0\r\neth0")
            .rows(&["files that are no addresses"])
            .steps(&[Add(0), Check(0), Del(0)]),
        with_file("a lock of another mode", "data/net/lock", "").steps(&[Add(0), Del(0)]),
        with_file("an address outside", "data/net/10.99.0.9", "pod0\r\neth0").steps(&[
            Check(0),
            Del(0),
            Check(0),
        ]),
    ]);
}

#[test]
fn calls() {
    check(&[
        local("CNI_ARGS unknown", json!({"subnet": V4})).args("COLOUR=red"),
        local("CNI_ARGS unknown, ignored", json!({"subnet": V4}))
            .args("COLOUR=red;IgnoreUnknown=1;K8S_POD_NAME=x"),
        local("CNI_ARGS unknown, ignored late", json!({"subnet": V4})).args("COLOUR=red;IgnoreUnknown=true"),
        local("CNI_ARGS ignore in capitals", json!({"subnet": V4})).args("COLOUR=red;IgnoreUnknown=TRUE"),
        local("CNI_ARGS not ignored", json!({"subnet": V4})).args("COLOUR=red;IgnoreUnknown=0"),
        local("CNI_ARGS ignore what", json!({"subnet": V4})).args("IgnoreUnknown=maybe"),
        local("CNI_ARGS ignoreunknown", json!({"subnet": V4})).args("COLOUR=red;ignoreunknown=1"),
        local("CNI_ARGS no pair", json!({"subnet": V4})).args("rubbish"),
        local("CNI_ARGS two signs", json!({"subnet": V4})).args("IP=10.77.0.9=x"),
        local("CNI_ARGS trailing semicolon", json!({"subnet": V4})).args("IP=10.77.0.9;"),
        local("CNI_ARGS only a semicolon", json!({"subnet": V4})).args(";"),
        local("CNI_ARGS empty value", json!({"subnet": V4})).args("IP="),
        local("CNI_ARGS IP rubbish", json!({"subnet": V4})).args("IP=rubbish"),
        local("CNI_ARGS IP with prefix", json!({"subnet": V4})).args("IP=10.77.0.9/24"),
        local("CNI_ARGS ip in lower case", json!({"subnet": V4})).args("ip=10.77.0.9"),
        local("CNI_ARGS IP twice", json!({"subnet": V4})).args("IP=10.77.0.9;IP=10.77.0.10"),
        local("CNI_ARGS MAC", json!({"subnet": V4})).args("MAC=02:00:00:00:00:01"),
        local("CNI_ARGS spaces", json!({"subnet": V4})).args("IP = 10.77.0.9"),
        beside("args that are null", json!({"args": {"cni": null}})),
        beside("args that are a list", json!({"args": []})),
        beside("ips that are text", json!({"args": {"cni": {"ips": "10.77.0.9"}}})),
        beside("no ipam", json!({"ipam": null})),
        // No DEL: without a dataDir that is the machine's own.
        beside("empty ipam", json!({"ipam": {}})).steps(&[Add(0), Check(0)]),
    ]);
}

#[test]
fn loopback() {
    let lo = |name: &str, keys: Value| {
        Case::new(&format!("loopback {name}"), "loopback", with(json!({"type": "loopback"}), keys))
    };
    let down = Step::Pod(0, "ip link set lo down");
    check(&[
        lo("as runtimes call it", json!({})).rows(&["loopback before 1.0.0"]).versions(ALL).steps(&[
            down.clone(),
            Check(0),
            Add(0),
            Check(0),
            Del(0),
            Check(0),
            Del(0),
        ]),
        lo("up already", json!({})),
        lo("another name", json!({})).env("CNI_IFNAME", "lo"),
        lo(
            "after a plugin",
            json!({"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth9"}],
            "ips": [{"address": "10.1.1.1/24", "interface": 0}]}}),
        ),
        lo("namespace gone", json!({})).steps(&[Step::Vanish(0), Add(0), Check(0), Del(0)]),
        lo("with an address", json!({})).steps(&[
            Step::Pod(0, "ip addr add 10.9.9.9/32 dev lo"),
            Add(0),
            Check(0),
            Del(0),
        ]),
    ]);
}
