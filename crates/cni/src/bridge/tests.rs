use super::*;
use crate::config::NetworkConfig;
use crate::spec::{Code, Command, Request};

fn load(keys: &str, args: &str) -> Result<BridgeConfig, CniError> {
    let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "bridge"{keys}}}"#);
    let config = NetworkConfig::from_json(text.into_bytes()).unwrap();
    let request = Request {
        command: Command::Add,
        container_id: "a".to_owned(),
        netns: "/n".to_owned(),
        ifname: "eth0".to_owned(),
        args: args.to_owned(),
        path: "/".to_owned(),
        netns_override: false,
    };
    BridgeConfig::load(&config, &request)
}

#[test]
fn keys_have_the_defaults_of_the_reference() {
    let bridge = load("", "").unwrap();
    assert_eq!(bridge.bridge.as_str(), "cni0");
    assert!(!bridge.is_gateway && !bridge.hairpin && !bridge.enable_dad && bridge.mtu.is_none());
    let bridge = load(r#", "isDefaultGateway": true, "mtu": 1400, "BRIDGE": "br7""#, "").unwrap();
    assert!(bridge.is_gateway && bridge.is_default_gateway);
    assert_eq!((bridge.bridge.as_str(), bridge.mtu), ("br7", Some(1400)));
    assert_eq!(load(r#", "mtu": -5"#, "").unwrap().mtu, None);
}

#[test]
fn a_link_has_one_queue_unless_told_otherwise() {
    let queues = |keys: &str| load(keys, "").map(|bridge| bridge.queues);
    assert_eq!(queues("").unwrap(), Some(1));
    assert_eq!(queues(r#", "queues": 4096"#).unwrap(), Some(4096));
    assert_eq!(queues(r#", "queues": 0"#).unwrap(), None);
    let error = queues(r#", "queues": 4097"#).unwrap_err().to_string();
    assert!(error.contains("queues: more than a veth link can have; give 1 to 4096"), "{error}");
    for wrong in ["-1", "1.5", "\"4\""] {
        let error = queues(&format!(", \"queues\": {wrong}")).unwrap_err().to_string();
        assert!(error.contains("queues"), "{error}");
    }
}

#[test]
fn dns_takes_the_place_of_what_ipam_says_where_it_says_anything() {
    let dns = |text: &str| load(&format!(r#", "dns": {text}"#), "").unwrap().dns;
    assert_eq!(load("", "").unwrap().dns, None);
    assert_eq!((dns("{}"), dns(r#"{"domain": ""}"#), dns(r#"{"search": null}"#)), (None, None, None));
    assert_eq!(dns(r#"{"domain": "a"}"#).unwrap().domain, "a");
    // As in the reference an empty list is something else than none.
    assert!(dns(r#"{"nameservers": []}"#).unwrap().is_empty());
}

#[test]
fn the_mac_address_comes_from_the_most_special_place() {
    let all =
        r#", "args": {"cni": {"mac": "02:00:00:00:00:02"}}, "RuntimeConfig": {"mac": "02-00-00-00-00-03"}"#;
    let mac = |keys: &str, args: &str| load(keys, args).unwrap().mac.unwrap().to_string();
    assert_eq!(mac(all, "MAC=02:00:00:00:00:01"), "02:00:00:00:00:03");
    assert_eq!(mac(r#", "args": {"cni": {"mac": "0200.0000.0002"}}"#, ""), "02:00:00:00:00:02");
    assert_eq!(mac("", "MAC=02:00:00:00:00:01"), "02:00:00:00:00:01");
    assert_eq!(mac("", "MAC=020000000001"), "02:00:00:00:00:01");
    for wrong in ["02-00:00-00-00-01", "0200.00-00.0001", "02-0000-00-0001", "2-0-0-0-0-1"] {
        assert!(load("", &format!("MAC={wrong}")).is_err(), "{wrong}");
    }
    let error = load(r#", "runtimeConfig": {"mac": "x"}"#, "").unwrap_err();
    assert!(error.to_string().contains("runtimeConfig.mac: \"x\" is not a MAC address"), "{error}");
}

#[test]
fn contradictions_and_what_can_not_be_done_are_refused() {
    let cases = [
        (
            r#", "hairpinMode": true, "promiscMode": true"#,
            Code::Internal,
            "hairpin mode and promiscuous mode",
        ),
        (r#", "disableContainerInterface": true, "ipam": {"type": "x"}"#, Code::Internal, "cannot use IPAM"),
        (r#", "vlan": 4095"#, Code::Internal, "invalid VLAN ID 4095"),
        (
            r#", "vlan": 1000, "bridge": "bridge-name", "isGateway": true, "ipam": {"type": "x"}"#,
            Code::Internal,
            "\"bridge-name.1000\", which is longer than 15 characters",
        ),
        (r#", "mtu": "big""#, Code::Internal, "mtu: \"big\" is not a whole number"),
        (
            r#", "mtu": 5000000000"#,
            Code::Internal,
            "mtu: no pod's link can have 5000000000; give 68 to 65535",
        ),
        (r#", "deferDeletion": "yes""#, Code::Internal, "deferDeletion: \"yes\" is not true or false"),
        (r#", "mtu": 67"#, Code::Internal, "mtu: no pod's link can have 67"),
        (
            r#", "runtimeConfig": {"mac": "ff:ff:ff:ff:ff:ff"}"#,
            Code::Internal,
            "runtimeConfig.mac: no link can have ff:ff:ff:ff:ff:ff",
        ),
        (r#", "bridge": """#, Code::Internal, "bridge: \"\" is not a link name"),
        (r#", "bridge": "cni%d""#, Code::Internal, "bridge: \"cni%d\" is not a link name"),
        (r#", "bridge": "a/b""#, Code::Internal, "bridge: \"a/b\" is not a link name"),
    ];
    for (keys, code, expected) in cases {
        let error = load(keys, "").unwrap_err();
        assert!(error.code == code && error.to_string().contains(expected), "{error}");
    }
}

fn completed(keys: &str, result: &str) -> (AddResult, Vec<String>) {
    let value = crate::json::parse(result.as_bytes()).unwrap();
    let mut result = AddResult::from_json(&crate::json::Object::root(&value).unwrap()).unwrap();
    let gateways = gateway::complete(&mut result, &load(keys, "").unwrap());
    (result, gateways.iter().map(ToString::to_string).collect())
}

#[test]
fn gateways_and_default_routes_are_completed() {
    let ips = r#"{"ips": [{"address": "10.1.2.3/24"}, {"address": "fd00::5/64", "gateway": "fd00::9"}]}"#;
    let (result, gateways) = completed(r#", "isDefaultGateway": true"#, ips);
    assert_eq!(gateways, ["10.1.2.1/24", "fd00::9/64"]);
    let routes: Vec<String> =
        result.routes.iter().map(|route| format!("{} {}", route.dst, route.gw.unwrap())).collect();
    assert_eq!(routes, ["0.0.0.0/0 10.1.2.1", "::/0 fd00::9"]);
    assert!(result.ips.iter().all(|ip| ip.interface == Some(2)));

    let (result, gateways) = completed("", ips);
    assert_eq!((gateways.len(), result.routes.len(), result.ips[0].gateway), (0, 0, None));

    let two = r#"{"ips": [{"address": "10.1.2.3/24"}, {"address": "10.1.3.3/24"}],
        "routes": [{"dst": "0.0.0.0/0"}]}"#;
    let (result, gateways) = completed(r#", "isDefaultGateway": true"#, two);
    assert_eq!(gateways, ["10.1.2.1/24", "10.1.3.1/24"]);
    assert_eq!(result.routes.len(), 2, "a default route without a gateway does not count");
}

#[test]
fn conflict_detection_is_asked_for_by_true_or_by_how() {
    let detection = |value: &str| load(&format!(r#", "addressConflictDetection": {value}"#), "");
    assert_eq!(load("", "").unwrap().conflicts, None);
    assert_eq!(detection("false").unwrap().conflicts, None);
    assert_eq!(detection("null").unwrap().conflicts, None);
    let default = detection("true").unwrap().conflicts.unwrap();
    assert_eq!((default.pace.probes, default.pace.interval.as_millis()), (3, 50));
    assert_eq!(default.retry_after.as_secs(), 600);
    assert_eq!(detection("{}").unwrap().conflicts, Some(default));
    let slow = r#"{"Probes": 1, "intervalMilliseconds": 2000, "retryAfterSeconds": 1}"#;
    let slow = detection(slow).unwrap().conflicts.unwrap();
    assert_eq!((slow.pace.probes, slow.pace.interval.as_millis()), (1, 2000));
    assert_eq!(slow.retry_after.as_secs(), 1);
    let error = load(r#", "addressConflictDetection": true, "vlan": 5"#, "").unwrap_err();
    assert_eq!(error.code, Code::UnsupportedField);
    for (value, expected) in [
        (r#""yes""#, "addressConflictDetection: \"yes\" is not an object"),
        (r#"{"probes": 0}"#, "addressConflictDetection.probes: 0 is not between 1 and 10"),
        (r#"{"intervalMilliseconds": 3000}"#, "intervalMilliseconds: 3000 is not between 1 and 2000"),
        (r#"{"retryAfterSeconds": -1}"#, "retryAfterSeconds: -1 is not a whole number"),
    ] {
        let error = detection(value).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
