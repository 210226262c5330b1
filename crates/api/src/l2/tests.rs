//! What is written is read again.

use hopwise_core::l2::value::SYSCTLS;

use super::*;

fn record() -> Record {
    let address = Address {
        address: "192.168.0.5".parse().unwrap(),
        prefix_len: 24,
        peer: Some("10.0.0.1".parse().unwrap()),
        broadcast: Some("192.168.0.255".parse().unwrap()),
        label: Some("eth1:a".to_owned()),
        scope: 253,
        flags: 0x202,
        state: 0x80,
        preferred: Some(7),
        valid: None,
        metric: 3,
        protocol: 2,
    };
    let route = Route {
        dst: "fd00::/48".parse().unwrap(),
        from: Some("fd01::/64".parse().unwrap()),
        tos: 8,
        table: 70_000,
        metric: 5,
        protocol: 16,
        scope: 253,
        kind: 1,
        source: Some("fd00::1".parse().unwrap()),
        hops: vec![Hop {
            link: "eth1".parse().unwrap(),
            gateway: Some("fe80::1".parse().unwrap()),
            onlink: true,
            weight: 256,
        }],
        metrics: vec![(2, 1400)],
        congestion: Some("bbr".to_owned()),
        preference: Some(1),
        expires: Some(9),
        special: None,
    };
    let neighbour = Neighbour {
        address: "fe80::1".parse().unwrap(),
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        proxy: false,
        router: true,
    };
    let sysctls: BTreeMap<Sysctl, String> = SYSCTLS.iter().map(|sysctl| (*sysctl, "1".to_owned())).collect();
    Record {
        wanted: Wanted { uplink: "eth1".parse().unwrap(), bridge: "cni0".parse().unwrap() },
        mac: Some("02:00:00:00:00:05".parse().unwrap()),
        held: Held { addresses: vec![address], routes: vec![route], neighbours: vec![neighbour] },
        uplink_sysctls: sysctls.clone(),
        bridge: Some(BridgeBefore { mac: neighbour.mac, mtu: 1400, up: true, sysctls: sysctls.clone() }),
        bridge_sysctls: sysctls,
    }
}

#[test]
fn a_record_comes_back_as_it_was() {
    let record = record();
    let text = serde_json::to_string(&RecordData::from(&record)).unwrap();
    let data: RecordData = serde_json::from_str(&text).unwrap();
    assert_eq!(Record::try_from(&data).unwrap(), record);
}

#[test]
fn a_record_of_a_version_that_kept_no_mac_address_is_read() {
    let mut record = record();
    let mut value = serde_json::to_value(RecordData::from(&record)).unwrap();
    value.as_object_mut().unwrap().remove("mac").unwrap();
    let data: RecordData = serde_json::from_value(value).unwrap();
    record.mac = None;
    assert_eq!(Record::try_from(&data).unwrap(), record);
}

#[test]
fn what_is_damaged_is_named() {
    let damaged = |change: &dyn Fn(&mut RecordData)| {
        let mut data = RecordData::from(&record());
        change(&mut data);
        Record::try_from(&data).unwrap_err().to_string()
    };
    for (error, name) in [
        (damaged(&|data| data.uplink = "a/b".to_owned()), "uplink"),
        (damaged(&|data| data.routes[0].dst = "x".to_owned()), "dst"),
        (damaged(&|data| data.neighbours[0].mac = Some("x".to_owned())), "mac"),
        (damaged(&|data| drop(data.bridge_sysctls.insert("kernel/x".to_owned(), String::new()))), "kernel/x"),
    ] {
        assert!(error.contains(name), "{name}: {error}");
    }
}
