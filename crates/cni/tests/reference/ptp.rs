//! The ptp plugin, in the reference's shape.

use serde_json::{Value, json};

use super::case::{ALL, Case, Step, ipam, ranges, with};
use super::compare::check;

const V4: &str = "10.77.0.0/24";
const V6: &str = "fd00:77::/64";
const BOTH: &[&str] = &[V4, V6];

fn ptp(name: &str, subnets: &[&str], keys: Value) -> Case {
    let mut config = with(json!({"type": "ptp"}), keys);
    if !subnets.is_empty() && config.get("ipam").is_none() {
        config["ipam"] = ranges(subnets);
    }
    Case::new(&format!("ptp {name}"), "ptp", config)
}

#[test]
fn results_of_every_version() {
    check(&[
        ptp("IPv4", &[V4], json!({})).versions(ALL),
        ptp("IPv6", &[V6], json!({})).versions(ALL),
        ptp("dual stack", BOTH, json!({})).versions(ALL),
        ptp("dns", &[V4], json!({"dns": {"nameservers": ["10.1.1.1"], "search": ["b.example"]}}))
            .versions(ALL),
    ]);
}

#[test]
fn keys() {
    check(&[
        ptp("mtu", BOTH, json!({"mtu": 1400})),
        ptp("mtu 0", &[V4], json!({"mtu": 0})),
        ptp("mtu beyond", &[V4], json!({"mtu": 65536})),
        ptp("mtu text", &[V4], json!({"mtu": "1400"})),
        ptp("masquerade by nftables", BOTH, json!({"ipMasq": true, "ipMasqBackend": "nftables"})),
        ptp("masquerade by iptables", BOTH, json!({"ipMasq": true, "ipMasqBackend": "iptables"})),
        ptp("masquerade by something", &[V4], json!({"ipMasq": true, "ipMasqBackend": "magic"})),
        ptp("no ipam", &[], json!({})),
        ptp("dns of the file", &[], json!({"ipam": ipam(json!({"subnet": V4, "resolvConf": "{dir}/resolv.conf"}))}))
            .file("resolv.conf", "nameserver 192.0.2.1\nsearch a b\n"),
        ptp("dns of both", &[], json!({
            "ipam": ipam(json!({"subnet": V4, "resolvConf": "{dir}/resolv.conf"})), "dns": {"domain": "x.example"},
        }))
        .file("resolv.conf", "nameserver 192.0.2.1\nsearch a b\n"),
        ptp("dad left on", BOTH, json!({})).with_dad(),
    ]);
}

#[test]
fn addresses_and_routes() {
    let routed = |name: &str, routes: Value| {
        ptp(
            name,
            &[],
            json!({"ipam": ipam(json!({
                "ranges": [[{"subnet": V4}], [{"subnet": V6}]], "routes": routes,
            }))}),
        )
    };
    check(&[
        routed("default routes", json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}])),
        routed("route", json!([{"dst": "10.90.0.0/16"}])),
        routed("route with gw", json!([{"dst": "10.90.0.0/16", "gw": "10.77.0.1"}])),
        routed("route with the wrong gw", json!([{"dst": "10.90.0.0/16", "gw": "10.99.0.1"}])),
        routed("route with priority", json!([{"dst": "10.90.0.0/16", "priority": 7}])),
        ptp("two IPv4 sets", &[V4, "10.78.0.0/24"], json!({})),
        ptp("gateway elsewhere", &[], json!({"ipam": ipam(json!({"subnet": V4, "gateway": "10.77.0.254"}))})),
        ptp("gateway outside", &[], json!({"ipam": ipam(json!({"subnet": V4, "gateway": "10.99.0.254"}))})),
        ptp("requested", &[V4], json!({"runtimeConfig": {"ips": ["10.77.0.77"]}})),
        ptp("requested by CNI_ARGS", &[V4], json!({})).args("IP=10.77.0.78"),
    ]);
}

#[test]
fn pods() {
    use Step::{Add, Check, Del, DelWithout, Host, Pod, Vanish};
    let both = |name: &str| ptp(name, BOTH, json!({}));
    check(&[
        both("three pods").steps(&[Add(0), Add(1), Del(0), Add(2), Check(1), Check(2), Del(2), Del(1)]),
        both("added twice").steps(&[Add(0), Add(0), Check(0), Del(0)]),
        both("name taken").steps(&[Pod(0, "ip link add eth0 type veth peer name x"), Add(0), Del(0)]),
        both("never added").steps(&[Del(0), Check(0)]),
        both("link gone").steps(&[Add(0), Pod(0, "ip link del eth0"), Check(0), Del(0)]),
        both("namespace gone").steps(&[Add(0), Vanish(0), Check(0), Del(0), Del(0)]),
        both("namespace not told")
            .steps(&[Add(0), DelWithout(0), DelWithout(0)])
            .rows(&["DEL without `CNI_NETNS` while the pod is still there"]),
        both("address gone").steps(&[Add(0), Pod(0, "ip addr del 10.77.0.2/24 dev eth0"), Check(0), Del(0)]),
        both("host route gone").steps(&[Add(0), Host("ip route del 10.77.0.2"), Check(0), Del(0)]),
    ]);
}
