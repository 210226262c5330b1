//! The bridge plugin.

use serde_json::{Value, json};

use super::case::{ALL, Case, Step, ipam, ranges, with};
use super::compare::check;

const V4: &str = "10.77.0.0/24";
const V6: &str = "fd00:77::/64";
const BOTH: &[&str] = &[V4, V6];

/// A bridge with a range set for each subnet; none of them, no `ipam`.
fn bridge(name: &str, subnets: &[&str], keys: Value) -> Case {
    let mut config = with(json!({"type": "bridge"}), keys);
    if !subnets.is_empty() && config.get("ipam").is_none() {
        config["ipam"] = ranges(subnets);
    }
    Case::new(&format!("bridge {name}"), "bridge", config)
}

/// A gateway bridge with other `ipam` keys.
fn addressed(name: &str, keys: Value) -> Case {
    bridge(name, &[], json!({"isGateway": true, "ipam": ipam(keys)}))
}

/// An IPv4 bridge with routes for the pod.
fn routed(name: &str, routes: Value) -> Case {
    let mut keys = json!({"subnet": V4});
    keys["routes"] = routes;
    addressed(name, keys)
}

/// By the reference with our IPAM plugin as well.
fn mixed(cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(Case::mixed).collect()
}

#[test]
fn results_of_every_version() {
    check(&mixed(vec![
        bridge("IPv4", &[V4], json!({"isDefaultGateway": true})).versions(ALL),
        bridge("IPv6", &[V6], json!({"isDefaultGateway": true})).versions(ALL),
        bridge("dual stack", BOTH, json!({"isGateway": true})).versions(ALL),
        bridge("layer 2", &[], json!({})).rows(&["CHECK of a network without `ipam`"]).versions(ALL),
        bridge("no version", &[V4], json!({})).versions(&[""]),
        bridge("unknown version", &[V4], json!({})).rows(&["CHECK with a malformed `cniVersion`"]).versions(&["0.3", "1.2.0", "v1.0.0", "1.0.0 ", "2.0.0"]),
        bridge("dns", &[V4], json!({"dns": {
            "nameservers": ["10.1.1.1"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:2"],
        }}))
        .versions(ALL),
    ]));
}

#[test]
fn every_boolean() {
    check(&[
        bridge("as it is", BOTH, json!({})),
        bridge("gateway", BOTH, json!({"isGateway": true})),
        bridge("default gateway", BOTH, json!({"isDefaultGateway": true})),
        bridge("default gateway, layer 2", &[], json!({"isDefaultGateway": true}))
            .rows(&["CHECK of a network without `ipam`"]),
        bridge("hairpin", &[V4], json!({"hairpinMode": true})),
        bridge("promiscuous", &[V4], json!({"promiscMode": true, "isGateway": true})),
        bridge("hairpin and promiscuous", &[V4], json!({"promiscMode": true, "hairpinMode": true})),
        bridge("isolated", &[V4], json!({"portIsolation": true})),
        bridge("isolated hairpin", &[], json!({"portIsolation": true, "hairpinMode": true}))
            .rows(&["CHECK of a network without `ipam`"]),
        bridge("no container interface", &[], json!({"disableContainerInterface": true}))
            .rows(&["CHECK of a network without `ipam`"]),
        bridge("no container interface and IPAM", &[V4], json!({"disableContainerInterface": true})),
        bridge("empty ipam", &[], json!({"ipam": {}})).rows(&["CHECK of a network without `ipam`"]),
        bridge("empty ipam type", &[], json!({"ipam": {"type": ""}}))
            .rows(&["CHECK of a network without `ipam`"]),
        bridge("preserve default vlan", &[V4], json!({"preserveDefaultVlan": true})),
        bridge("vlan 0", &[V4], json!({"vlan": 0, "vlanTrunk": null, "macspoofchk": false})),
    ]);
}

#[test]
fn duplicate_address_detection() {
    check(&[
        bridge("dad off in the pod", BOTH, json!({"isGateway": true})).with_dad(),
        bridge("dad on in the pod", &[V6], json!({"isGateway": true, "enabledad": true})).with_dad(),
        bridge("dad on, IPv4", &[V4], json!({"enabledad": true})),
        bridge("dad on, layer 2", &[], json!({"enabledad": true}))
            .rows(&["CHECK of a network without `ipam`"]),
    ]);
}

#[test]
fn numbers_and_names() {
    check(&[
        bridge("mtu", BOTH, json!({"mtu": 1400, "isGateway": true})),
        bridge("mtu 0", &[V4], json!({"mtu": 0})),
        bridge("mtu -1", &[V4], json!({"mtu": -1})),
        bridge("mtu beyond", &[V4], json!({"mtu": 65536})),
        bridge("mtu far beyond", &[V4], json!({"mtu": 5_000_000_000_u64})),
        bridge("mtu 60", &[V4], json!({"mtu": 60})),
        bridge("mtu 1200 with IPv6", &[V6], json!({"mtu": 1200})),
        bridge("mtu text", &[V4], json!({"mtu": "1400"})),
        bridge("mtu fraction", &[V4], json!({"mtu": 1400.5})),
        bridge("mtu float", &[V4], json!({"mtu": 1400.0})),
        bridge("other name", &[V4], json!({"bridge": "br-pods"})),
        bridge("empty name", &[V4], json!({"bridge": ""})),
        bridge("long name", &[V4], json!({"bridge": "a-very-long-name-of-a-bridge"})),
        bridge("name with a slash", &[V4], json!({"bridge": "a/b"})),
        bridge("number as name", &[V4], json!({"bridge": 5})),
        bridge("unknown keys", &[V4], json!({"colour": "red", "cni.dev/x": 1, "args": {"other": {"a": 1}}})),
        bridge(
            "keys in any case",
            &[],
            json!({"ISGATEWAY": true, "Mtu": 1400, "IPAM": {
                "TYPE": "host-local", "DATADIR": "{dir}/data", "Ranges": [[{"SUBNET": V4, "RANGESTART": "10.77.0.9"}]],
            }}),
        ),
        bridge(
            "null everywhere",
            &[V4],
            json!({
                "bridge": null, "isGateway": null, "mtu": null, "dns": null, "args": null, "runtimeConfig": null,
            }),
        ),
        bridge("boolean as text", &[V4], json!({"isGateway": "true"})),
        bridge("boolean as number", &[V4], json!({"hairpinMode": 1})),
        bridge("ipam as text", &[], json!({"ipam": "host-local"})),
        bridge("dns as list", &[V4], json!({"dns": []})),
        bridge("vlan beyond", &[V4], json!({"vlan": 4095})),
        bridge("vlan -1", &[V4], json!({"vlan": -1})),
    ]);
}

#[test]
fn mac_addresses() {
    let asked = |name: &str, keys| bridge(name, &[V4], keys);
    let mac = "02:42:0a:4d:00:07";
    check(&[
        asked("mac by capability", json!({"runtimeConfig": {"mac": mac}})),
        asked("mac by args", json!({"args": {"cni": {"mac": mac}}})),
        asked("mac by CNI_ARGS", json!({})).args("MAC=02:42:0a:4d:00:08;IgnoreUnknown=1"),
        asked(
            "mac by all",
            json!({"runtimeConfig": {"mac": mac}, "args": {"cni": {"mac": "02:42:0a:4d:00:09"}}}),
        )
        .args("MAC=02:42:0a:4d:00:08;IgnoreUnknown=1"),
        asked("mac by args and CNI_ARGS", json!({"args": {"cni": {"mac": mac}}}))
            .args("MAC=02:42:0a:4d:00:08;IgnoreUnknown=1"),
        asked("mac of a layer 2 pod", json!({"runtimeConfig": {"mac": mac}, "ipam": {}}))
            .rows(&["CHECK of a network without `ipam`"]),
        asked("mac in capitals", json!({"runtimeConfig": {"mac": "02:42:0A:4D:00:07"}})),
        asked("mac with dashes", json!({"runtimeConfig": {"mac": "02-42-0a-4d-00-07"}})),
        asked("mac with dots", json!({"runtimeConfig": {"mac": "0242.0a4d.0007"}})),
        asked("mac empty", json!({"runtimeConfig": {"mac": ""}})),
        asked("mac short", json!({"runtimeConfig": {"mac": "02:42"}})),
        asked("mac bare", json!({"runtimeConfig": {"mac": "02420a4d0007"}})),
        asked("mac multicast", json!({"runtimeConfig": {"mac": "03:42:0a:4d:00:07"}})),
        asked("mac zero", json!({"runtimeConfig": {"mac": "00:00:00:00:00:00"}})),
        asked("mac of 8 bytes", json!({"runtimeConfig": {"mac": "02:42:0a:4d:00:07:00:01"}})),
        asked("mac rubbish", json!({})).args("MAC=rubbish;IgnoreUnknown=1"),
        asked("mac in lower case", json!({})).args("mac=02:42:0a:4d:00:08"),
        asked("runtimeConfig in any case", json!({"RuntimeConfig": {"MAC": mac}})),
    ]);
}

#[test]
fn addresses() {
    check(&mixed(vec![
        bridge("two IPv4 sets", &[V4, "10.78.0.0/24"], json!({})),
        bridge("two IPv4 sets with a gateway", &[V4, "10.78.0.0/24"], json!({"isGateway": true})),
        bridge("two IPv4 sets with a gateway, forced", &[V4, "10.78.0.0/24"],
            json!({"isGateway": true, "forceAddress": true})),
        bridge("one IPv4, two IPv6", &[V4, V6, "fd00:78::/64"], json!({"isDefaultGateway": true})),
        bridge("two IPv4 sets in 0.2.0", &[V4, "10.78.0.0/24"], json!({})).versions(&["0.1.0", "0.2.0"]),
        addressed("ranges of one set", json!({"ranges": [[
            {"subnet": V4, "rangeStart": "10.77.0.250", "rangeEnd": "10.77.0.250", "gateway": "10.77.0.254"},
            {"subnet": "10.79.0.0/30"},
        ]]}))
        .steps(&[Step::Add(0), Step::Del(0), Step::Add(0), Step::Del(0)])
        .before("ip link add cni0 type bridge"),
        addressed("gateway elsewhere", json!({"subnet": V4, "gateway": "10.77.0.254"})),
        addressed("gateway outside", json!({"subnet": V4, "gateway": "10.99.0.1"})),
        addressed("flat and ranges", json!({"subnet": V4, "ranges": [[{"subnet": V6}]]})),
        addressed("first and last", json!({"subnet": V4, "rangeStart": "10.77.0.10", "rangeEnd": "10.77.0.20"})),
        addressed("resolv.conf", json!({"subnet": V4, "resolvConf": "{dir}/resolv.conf"}))
            .file("resolv.conf", "nameserver 192.0.2.1\nnameserver 192.0.2.2\ndomain x.example\nsearch a b\n\
                options ndots:5 timeout:1\n# nameserver 192.0.2.9\n; x\nsortlist 1.1.1.1\n"),
        addressed("resolv.conf missing", json!({"subnet": V4, "resolvConf": "{dir}/none"})),
        addressed("resolv.conf and dns", json!({"subnet": V4, "resolvConf": "{dir}/resolv.conf"}))
            .file("resolv.conf", "nameserver 192.0.2.1\n"),
        addressed("no such IPAM", json!({"type": "no-such"})),
        addressed("IPAM in another folder", json!({"type": "../host-local"})),
    ]));
}

#[test]
fn requested_addresses() {
    let asked = |name: &str, more: Value| bridge(name, &[V4], more);
    check(&mixed(vec![
        asked("by CNI_ARGS", json!({})).args("IP=10.77.0.50;IgnoreUnknown=1"),
        asked("by args", json!({"args": {"cni": {"ips": ["10.77.0.51"]}}})),
        asked("by args with a prefix", json!({"args": {"cni": {"ips": ["10.77.0.51/24"]}}})),
        asked("by capability", json!({"runtimeConfig": {"ips": ["10.77.0.52/16"]}})),
        bridge("one of each family", BOTH, json!({"runtimeConfig": {"ips": ["fd00:77::52", "10.77.0.52"]}})),
        bridge("one each way", BOTH, json!({"runtimeConfig": {"ips": ["fd00:77::52"]}}))
            .args("IP=10.77.0.50;IgnoreUnknown=1"),
        asked("more than there are", json!({"runtimeConfig": {"ips": ["10.77.0.52", "10.77.0.53"]}})),
        asked("the same twice", json!({"runtimeConfig": {"ips": ["10.77.0.52", "10.77.0.52/24"]}})),
        asked("outside", json!({"runtimeConfig": {"ips": ["10.99.0.52"]}})),
        asked("the gateway", json!({"runtimeConfig": {"ips": ["10.77.0.1"]}})),
        asked("broadcast", json!({"runtimeConfig": {"ips": ["10.77.0.255"]}})),
        asked("taken", json!({"runtimeConfig": {"ips": ["10.77.0.52"]}})).steps(&[
            Step::Add(0),
            Step::Add(1),
            Step::Del(1),
            Step::Del(0),
        ]),
        asked("no address", json!({"runtimeConfig": {"ips": ["rubbish"]}})),
        asked("empty", json!({"runtimeConfig": {"ips": [""]}})),
        asked("ranges by capability", json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.80.0.0/24"}]]}})),
        asked(
            "ranges by capability only",
            json!({
                "runtimeConfig": {"ipRanges": [[{"subnet": "10.80.0.0/24"}], [{"subnet": "fd00:80::/64"}]]},
                "ipam": {"type": "host-local", "dataDir": "{dir}/data"},
            }),
        ),
        asked("an IPv4 address written as IPv6", json!({"runtimeConfig": {"ips": ["::ffff:10.77.0.52"]}})),
    ]));
}

#[test]
fn routes() {
    check(&[
        routed("route", json!([{"dst": "10.90.0.0/16"}])).versions(ALL),
        routed("default route", json!([{"dst": "0.0.0.0/0"}])),
        routed("route with gw", json!([{"dst": "10.90.0.0/16", "gw": "10.77.0.9"}])),
        routed("route with the wrong gw", json!([{"dst": "10.90.0.0/16", "gw": "10.99.0.9"}])),
        routed("route with everything", json!([
            {"dst": "10.90.0.0/16", "gw": "10.77.0.9", "priority": 50, "table": 100, "scope": 0},
        ])).rows(&["CHECK of a route in another table"]),
        routed("route on the link", json!([{"dst": "10.90.0.0/16", "scope": 253}])),
        routed("route with mtu", json!([{"dst": "10.90.0.0/16", "mtu": 1300, "advmss": 1200}])).rows(&["`mtu` and `advmss` of a route"]),
        routed("route with host bits", json!([{"dst": "10.90.0.1/16"}])),
        routed("route twice", json!([{"dst": "10.90.0.0/16"}, {"dst": "10.90.0.0/16"}])).rows(&["`isDefaultGateway` beside `routes: [{dst: 0.0.0.0/0}]`"]),
        routed("route without dst", json!([{"gw": "10.77.0.9"}])),
        routed("route of another family", json!([{"dst": "fd01::/64"}])),
        routed("route with a text of a gw", json!([{"dst": "10.90.0.0/16", "gw": "x"}])),
        routed("no routes", json!([])),
        routed("null route", json!([null])).rows(&["`null` in `routes`"]),
        bridge("default route and default gateway", &[], json!({
            "isDefaultGateway": true, "ipam": ipam(json!({"subnet": V4, "routes": [{"dst": "0.0.0.0/0"}]})),
        })).rows(&["`isDefaultGateway` beside `routes: [{dst: 0.0.0.0/0}]`"]),
        bridge("default route with gw and default gateway", &[], json!({
            "isDefaultGateway": true,
            "ipam": ipam(json!({"subnet": V4, "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.0.1"}]})),
        })),
        bridge("IPv6 routes", &[], json!({"isDefaultGateway": true, "ipam": ipam(json!({
            "ranges": [[{"subnet": V4}], [{"subnet": V6}]],
            "routes": [{"dst": "fd01::/64", "gw": "fd00:77::9"}, {"dst": "fd02::/48"}, {"dst": "10.90.0.0/16"}],
        }))})),
    ]);
}

#[test]
fn a_bridge_that_is_there() {
    let gateway = |name: &str, keys: Value| bridge(name, BOTH, with(json!({"isGateway": true}), keys));
    check(&[
        gateway("of somebody", json!({})).before("ip link add cni0 type bridge"),
        gateway("with another MAC", json!({}))
            .before("ip link add cni0 address 02:00:00:00:00:77 type bridge"),
        gateway("up, with the address", json!({}))
            .before("ip link add cni0 up type bridge")
            .before("ip addr add 10.77.0.1/24 dev cni0"),
        gateway("with another prefix", json!({}))
            .before("ip link add cni0 type bridge")
            .before("ip addr add 10.77.0.1/16 dev cni0"),
        gateway("with another address", json!({}))
            .before("ip link add cni0 type bridge")
            .before("ip addr add 10.99.0.1/24 dev cni0"),
        gateway("with another address, forced", json!({"forceAddress": true}))
            .before("ip link add cni0 type bridge")
            .before("ip addr add 10.99.0.1/24 dev cni0"),
        gateway("with two addresses, forced", json!({"forceAddress": true}))
            .before("ip link add cni0 type bridge")
            .before("ip addr add 10.77.0.1/24 dev cni0")
            .before("ip addr add 10.99.0.1/24 dev cni0"),
        gateway("with IPv6 elsewhere", json!({}))
            .before("ip link add cni0 type bridge")
            .before("ip addr add fd00:99::1/64 dev cni0"),
        gateway("with IPv6 that overlaps", json!({}))
            .before("ip link add cni0 type bridge")
            .before("ip addr add fd00:77::5/64 dev cni0"),
        gateway("with IPv6 that overlaps, forced", json!({"forceAddress": true}))
            .before("ip link add cni0 type bridge")
            .before("ip addr add fd00:77::5/64 dev cni0"),
        gateway("with another MTU", json!({"mtu": 1400})).before("ip link add cni0 mtu 1300 type bridge"),
        gateway("that is a veth", json!({})).before("ip link add cni0 type veth peer name other"),
        bridge("layer 2 on a bridge of somebody", &[], json!({}))
            .rows(&["CHECK of a network without `ipam`"])
            .before("ip link add cni0 type bridge"),
        bridge("promiscuous bridge of somebody", &[], json!({"promiscMode": true}))
            .rows(&["CHECK of a network without `ipam`"])
            .before("ip link add cni0 type bridge"),
    ]);
}

#[test]
fn pods() {
    use Step::{Add, Check, Del, DelWithout, Host, Pod, Vanish};
    let gateway = |name: &str| bridge(name, BOTH, json!({"isDefaultGateway": true}));
    check(&[
        gateway("three pods").steps(&[Add(0), Add(1), Del(0), Add(2), Check(1), Check(2), Del(2), Del(1)]),
        gateway("added twice").steps(&[Add(0), Add(0), Check(0), Del(0)]),
        gateway("name taken").steps(&[Pod(0, "ip link add eth0 type veth peer name x"), Add(0), Del(0)]),
        gateway("never added").steps(&[Del(0), Check(0)]),
        gateway("link gone").steps(&[Add(0), Pod(0, "ip link del eth0"), Check(0), Del(0)]),
        gateway("namespace gone").steps(&[Add(0), Vanish(0), Check(0), Del(0), Del(0)]),
        gateway("namespace not told")
            .steps(&[Add(0), DelWithout(0), DelWithout(0)])
            .rows(&["DEL without `CNI_NETNS` while the pod is still there"]),
        gateway("address gone").steps(&[
            Add(0),
            Pod(0, "ip addr del 10.77.0.2/24 dev eth0"),
            Check(0),
            Del(0),
        ]),
        gateway("route gone").steps(&[Add(0), Pod(0, "ip route del default"), Check(0), Del(0)]),
        gateway("bridge gone").steps(&[Add(0), Host("ip link del cni0"), Check(0), Del(0)]),
        gateway("bridge down").steps(&[
            Add(0),
            Host("ip link set cni0 down"),
            Check(0),
            Add(1),
            Del(0),
            Del(1),
        ]),
        gateway("bridge promiscuous").steps(&[Add(0), Host("ip link set cni0 promisc on"), Check(0), Del(0)]),
    ]);
}

#[test]
fn masquerade() {
    let masked =
        |name: &str, keys: Value| bridge(name, BOTH, with(json!({"isGateway": true, "ipMasq": true}), keys));
    check(&[
        masked("masquerade by nftables", json!({"ipMasqBackend": "nftables"})),
        masked("masquerade by iptables", json!({"ipMasqBackend": "iptables"})),
        masked("masquerade by something", json!({"ipMasqBackend": "magic"})),
        bridge("something and no masquerade", &[V4], json!({"ipMasqBackend": "magic"})),
        bridge("masquerade on layer 2", &[], json!({"ipMasq": true, "ipMasqBackend": "nftables"}))
            .rows(&["CHECK of a network without `ipam`"]),
    ]);
}
