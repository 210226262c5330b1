//! Feeds texts to everything that reads a CNI call: the configuration, `CNI_ARGS` and the rest of the environment, which
//! come from runtimes and people. It may refuse anything and panic at nothing; a result that it takes is printed and read
//! again as the same. The input is the configuration, then each after a NUL byte: arguments, command, container, link,
//! namespace.
#![no_main]

use hopwise_cni::bridge::BridgeConfig;
use hopwise_cni::config::NetworkConfig;
use hopwise_cni::ipam::host_local::{Config, Gateways};
use hopwise_cni::json::{self, Object};
use hopwise_cni::masquerade;
use hopwise_cni::spec::{AddResult, Request, SpecVersion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0);
    let config = parts.next().unwrap_or_default().to_vec();
    let texts: Vec<String> = parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let names = ["CNI_ARGS", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"];
    let usual = ["", "ADD", "pod", "eth0", "/netns"];
    let environment = |name: &str| match names.iter().position(|known| *known == name) {
        Some(at) => Some(texts.get(at).cloned().unwrap_or_else(|| usual[at].to_owned())),
        None => Some("/bin".to_owned()),
    };
    let Ok(config) = NetworkConfig::from_json(config) else { return };
    let Ok(Some(request)) = Request::from_environment(&environment) else { return };
    let _ = BridgeConfig::load(&config, &request);
    let _ = masquerade::is_asked(&config);
    let _ = config.valid_attachments();
    let _ = config.dns();
    if let Ok(local) = Config::load(&config, &request, &Gateways::default()) {
        for set in &local.sets {
            let n = set.candidates(None).take(1000).count() as u128;
            assert_eq!(n, set.capacity().min(1000), "{set}");
        }
    }
    let Ok(Some(result)) = config.prev_result() else { return };
    for version in SpecVersion::ALL {
        let Ok(printed) = result.to_json(version) else { continue };
        let value = json::parse(printed.to_string().as_bytes()).expect("what was printed is JSON");
        let root = Object::root(&value).expect("a result is an object");
        let again = AddResult::from_json(&root).expect("what was printed can be read");
        assert_eq!(again.to_json(version).expect("it was printed before"), printed);
    }
});
