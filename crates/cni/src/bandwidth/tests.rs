use proptest::prelude::*;

use super::*;
use crate::config::NetworkConfig;

fn load(keys: &str) -> Result<BandwidthConfig, CniError> {
    let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "bandwidth"{keys}}}"#);
    BandwidthConfig::load(&NetworkConfig::from_json(text.into_bytes()).unwrap())
}

#[test]
fn keys_are_read_as_the_reference_reads_them() {
    let both = r#", "ingressRate": 8000, "ingressBurst": 800, "egressRate": 16000, "egressBurst": 1600"#;
    let (ingress, egress) = (Shape { rate: 8000, burst: 800 }, Shape { rate: 16_000, burst: 1600 });
    assert_eq!(load(both).unwrap(), BandwidthConfig { ingress: Some(ingress), egress: Some(egress) });
    assert!(load("").unwrap().is_empty());
    assert!(load(r#", "ingressRate": 0, "ingressBurst": 0"#).unwrap().is_empty());

    let runtime = r#", "runtimeConfig": {"bandwidth": {"egressRate": 16000, "egressBurst": 1600}}"#;
    assert_eq!(load(runtime).unwrap(), BandwidthConfig { ingress: None, egress: Some(egress) });
    // One key in the configuration, be it zero, hides all of the runtime's.
    let hidden = format!(r#", "INGRESSRATE": 8000, "ingressBurst": 800{runtime}"#);
    assert_eq!(load(&hidden).unwrap(), BandwidthConfig { ingress: Some(ingress), egress: None });
    assert!(load(&format!(r#", "ingressRate": 0{runtime}"#)).unwrap().is_empty());
}

#[test]
fn contradictions_are_refused_with_their_place() {
    let cases = [
        (r#", "deferDeletion": 1"#, "deferDeletion: 1 is not true or false"),
        (r#", "ingressRate": 1000"#, "ingressBurst: if rate is set, burst must also be set"),
        (r#", "egressBurst": 1000"#, "egressRate: if burst is set, rate must also be set"),
        (r#", "egressRate": 7, "egressBurst": 1000"#, "egressRate: 7 bits per second is less than a byte"),
        (
            r#", "ingressRate": 1000, "ingressBurst": 34359738360"#,
            "ingressBurst: 34359738360: burst cannot be more than 4GB",
        ),
        (
            r#", "runtimeConfig": {"bandwidth": {"egressRate": 9}}"#,
            "runtimeConfig.bandwidth.egressBurst: if rate is set",
        ),
        (r#", "ingressRate": -1"#, "ingressRate: -1 is not a whole number"),
        (r#", "ingressRate": "1M""#, "ingressRate: \"1M\" is not a whole number"),
    ];
    for (keys, expected) in cases {
        let error = load(keys).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(load(r#", "ingressRate": 1000, "ingressBurst": 34359738352"#).is_ok());
}

#[test]
fn filters_have_the_numbers_of_the_reference() {
    // Read back from what the reference (v1.9.1, amd64) made of the same rates and bursts.
    let cases = [
        ((8000, 800), (1000, 125, 1_562_500)),
        ((10_000_000, 1_000_000), (1_250_000, 156_250, 1_562_500)),
        ((10_000_000, u64::from(u32::MAX)), (1_250_000, 536_902_161, 2_415_919_079)),
        ((100_000_000_000, 8_000_000), (12_500_000_000, 313_500_000, 1250)),
    ];
    for ((rate, burst), (bytes, limit, buffer)) in cases {
        assert_eq!(Shape { rate, burst }.tbf(), Tbf { rate: bytes, limit, buffer }, "{rate} {burst}");
    }
}

#[test]
fn devices_have_the_names_of_the_reference() {
    assert_eq!(ifb_name("a", "bc").as_str(), "bwpddaf35a19361");
    assert_eq!(ifb_name("ab", "c"), ifb_name("a", "bc"), "as in the reference");
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let missing = |errno| NetlinkError::Refused { errno, message: None };
    let link = LinkName::new_static("veth0");
    let told = |what, errno| refused(what, link, &missing(errno)).to_string();
    assert!(told("create qdisc", libc::ENOENT).contains("CONFIG_NET_SCH_TBF"));
    assert!(told("adding link", libc::EOPNOTSUPP).contains("CONFIG_IFB"));
    assert!(!told("adding link", libc::EEXIST).contains("CONFIG"));
}

proptest! {
    #[test]
    fn every_rate_and_burst_makes_a_filter(rate in 8_u64.., burst in 1_u64..(u64::from(u32::MAX) * 8)) {
        let tbf = Shape { rate, burst }.tbf();
        prop_assert_eq!(tbf.rate, rate / 8);
        // Where nothing overflows, the bucket lasts as long as the burst takes at the rate, to a tick and a microsecond.
        let lasts = (burst / 8) as f64 * 1e6 / (rate / 8) as f64;
        if lasts < 2e8 && rate < 1 << 36 {
            prop_assert!((f64::from(tbf.buffer) / 15.625 - lasts).abs() <= 1.1, "{tbf:?} {lasts}");
            let limit = (rate / 8) as f64 / 40.0 + (burst / 8) as f64;
            prop_assert!((f64::from(tbf.limit) - limit).abs() <= 1.0 || limit > f64::from(u32::MAX));
        }
    }
}
