use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::spec::Command;

const V4: &str = r#"[[{"subnet": "10.1.2.0/28"}]]"#;
const DUAL: &str = r#"[[{"subnet": "10.1.2.0/28"}], [{"subnet": "fd00::/124"}]]"#;

fn config(dir: &Path, ranges: &str, more: &str) -> NetworkConfig {
    let text = format!(
        r#"{{"cniVersion": "1.1.0", "name": "net", "type": "x",
            "ipam": {{"type": "host-local", "dataDir": {dir:?}, "ranges": {ranges}}}{more}}}"#
    );
    NetworkConfig::from_json(text.into_bytes()).unwrap()
}

fn request(id: &str, netns: &str) -> Request {
    Request {
        command: Command::Add,
        container_id: id.to_owned(),
        netns: netns.to_owned(),
        ifname: "eth0".to_owned(),
        args: String::new(),
        path: "/".to_owned(),
        netns_override: false,
    }
}

fn add_with(config: &NetworkConfig, request: &Request, steps: Steps<'_>) -> Result<Vec<String>, String> {
    let result = HostLocal::load(config, request, steps).and_then(|plugin| plugin.add(request));
    let result = result.map_err(|error| error.to_string())?;
    Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
}

fn add(config: &NetworkConfig, id: &str) -> Result<Vec<String>, String> {
    add_with(config, &request(id, ""), &no_steps)
}

fn del(config: &NetworkConfig, id: &str) {
    let request = request(id, "");
    HostLocal::load(config, &request, &no_steps).unwrap().del(&request).unwrap();
}

/// The address files of the network, with their content.
fn files(dir: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(dir.join("net"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().parse::<IpAddr>().is_ok())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn names(dir: &Path) -> Vec<String> {
    files(dir).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn files_are_those_of_the_reference() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), DUAL, "");
    assert_eq!(add(&config, "one").unwrap(), ["10.1.2.2/28", "fd00::2/124"]);
    let content = "one\r\neth0".to_owned();
    assert_eq!(
        files(dir.path()),
        [("10.1.2.2".to_owned(), content.clone()), ("fd00::2".to_owned(), content)]
    );
    assert_eq!(fs::read_to_string(dir.path().join("net/last_reserved_ip.0")).unwrap(), "10.1.2.2");
    assert_eq!(fs::read_to_string(dir.path().join("net/last_reserved_ip.1")).unwrap(), "fd00::2");
    assert!(dir.path().join("net/lock").exists());
    let mut all: Vec<_> =
        fs::read_dir(dir.path().join("net")).unwrap().map(|f| f.unwrap().file_name()).collect();
    all.sort();
    assert_eq!(all, ["10.1.2.2", "fd00::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]);
    del(&config, "one");
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn allocation_is_round_robin_and_ends_when_full() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), V4, "");
    assert_eq!(add(&config, "a").unwrap(), ["10.1.2.2/28"]);
    del(&config, "a");
    assert_eq!(add(&config, "b").unwrap(), ["10.1.2.3/28"], "not the one just released");
    for index in 0..12 {
        add(&config, &format!("c{index}")).unwrap();
    }
    let error = add(&config, "d").unwrap_err();
    assert_eq!(
        error,
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.14"
    );
    let status = HostLocal::load(&config, &request("", ""), &no_steps).unwrap().status().unwrap_err();
    assert_eq!(status.code, Code::NotAvailable);
    del(&config, "c5");
    assert_eq!(add(&config, "d").unwrap(), ["10.1.2.9/28"]);
}

#[test]
fn a_set_that_is_full_gives_back_what_others_gave() {
    let dir = TempDir::new().unwrap();
    let tiny = r#"[[{"subnet": "fd00::/120"}], [{"subnet": "10.1.2.0/30"}]]"#;
    let config = config(dir.path(), tiny, "");
    add(&config, "a").unwrap();
    let error = add(&config, "b").unwrap_err();
    assert!(error.starts_with("failed to allocate for range 1"), "{error}");
    assert_eq!(names(dir.path()), ["10.1.2.2", "fd00::2"]);
}

#[test]
fn duplicates_are_refused_unless_their_namespace_is_gone() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), V4, "");
    add(&config, "a").unwrap();
    let expected = "failed to allocate for range 0: 10.1.2.2 has been allocated to a, duplicate allocation is not allowed";
    assert_eq!(add(&config, "a").unwrap_err(), expected);
    let here = "/proc/thread-self/ns/net";
    add_with(&config, &request("b", here), &no_steps).unwrap();
    assert!(add_with(&config, &request("b", here), &no_steps).unwrap_err().contains("duplicate"));
    // A file that is no namespace is all that a reboot leaves of one.
    add_with(&config, &request("c", "/proc/version"), &no_steps).unwrap();
    assert_eq!(add_with(&config, &request("c", here), &no_steps).unwrap(), ["10.1.2.5/28"]);
    assert_eq!(names(dir.path()), ["10.1.2.2", "10.1.2.3", "10.1.2.5"]);
}

#[test]
fn a_full_set_takes_back_addresses_of_namespaces_that_are_gone() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), r#"[[{"subnet": "10.1.2.0/29"}]]"#, "");
    for index in 0..5 {
        add_with(&config, &request(&format!("c{index}"), "/nowhere"), &no_steps).unwrap();
    }
    assert_eq!(add(&config, "new").unwrap(), ["10.1.2.2/29"]);
    assert_eq!(names(dir.path()), ["10.1.2.2"]);
}

#[test]
fn requested_addresses_come_from_three_places() {
    let dir = TempDir::new().unwrap();
    let more = r#", "args": {"cni": {"ips": ["10.1.2.9/28"]}}, "runtimeConfig": {"IPs": ["fd00::7"]}"#;
    let config = config(dir.path(), DUAL, more);
    assert_eq!(add(&config, "a").unwrap(), ["10.1.2.9/28", "fd00::7/124"]);
    let error = add(&config, "b").unwrap_err();
    assert!(error.contains("requested IP address 10.1.2.9 is not available in range set"), "{error}");
    let plain = self::config(dir.path(), V4, "");
    let mut asking = request("c", "");
    asking.args = "IP=10.1.2.1".to_owned();
    let error = add_with(&plain, &asking, &no_steps).unwrap_err();
    assert!(error.contains("requested ip 10.1.2.1 is subnet's gateway"), "{error}");
    asking.args = "IP=10.9.9.9".to_owned();
    let error = add_with(&plain, &asking, &no_steps).unwrap_err();
    assert_eq!(error, "failed to allocate all requested IPs: 10.9.9.9");
    for wrong in ["10.1.2.8/99", "10.1.2.8/", "10.1.2.8/x", "x"] {
        asking.args = format!("IP={wrong}");
        let error = add_with(&plain, &asking, &no_steps).unwrap_err();
        assert!(error.contains(&format!("CNI_ARGS IP: {wrong:?} is not an IP address")), "{error}");
    }
    asking.args = "IP=10.1.2.8/28".to_owned();
    assert_eq!(add_with(&plain, &asking, &no_steps).unwrap(), ["10.1.2.8/28"]);
}

#[test]
fn the_references_files_are_taken_over() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), V4, "");
    let folder = dir.path().join("net");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("10.1.2.2"), "theirs\r\neth0").unwrap();
    fs::write(folder.join("10.1.2.3"), " old \n").unwrap();
    fs::write(folder.join("10.1.2.4"), "").unwrap();
    fs::write(folder.join("last_reserved_ip.0"), "10.1.2.2").unwrap();
    assert!(add(&config, "theirs").unwrap_err().contains("10.1.2.2 has been allocated to theirs"));
    assert!(add(&config, "old").unwrap_err().contains("10.1.2.3 has been allocated to old"));
    assert_eq!(names(dir.path()), ["10.1.2.2", "10.1.2.3"], "an empty file belongs to nobody");
    // Behind our back, after the index was sealed.
    fs::write(folder.join("10.1.2.4"), "more\r\neth0").unwrap();
    assert!(add(&config, "more").unwrap_err().contains("10.1.2.4 has been allocated to more"));
    for id in ["theirs", "old", "more", "nobody"] {
        del(&config, id);
    }
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_reboot_releases_what_was_allocated_before() {
    let dir = TempDir::new().unwrap();
    let open = |boot: &str| {
        let boot = format!("{boot:0>36}");
        Store::open(dir.path(), "net", &boot, &no_steps).unwrap()
    };
    let owner = |container_id| Owner { container_id, ifname: "eth0" };
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut store = open("1");
    assert!(store.addresses_of(owner("a")).unwrap().is_empty());
    assert!(store.reserve(owner("a"), "/n", address("10.1.2.2")).unwrap());
    assert!(store.reserve(owner("b"), "/n", address("10.1.2.3")).unwrap());
    store.close();
    // The reference gives the same address to the same container after the reboot, before we look.
    fs::remove_file(dir.path().join("net/10.1.2.3")).unwrap();
    std::thread::sleep(Duration::from_millis(10));
    fs::write(dir.path().join("net/10.1.2.3"), "b\r\neth0").unwrap();
    let mut store = open("2");
    assert!(store.addresses_of(owner("a")).unwrap().is_empty());
    assert_eq!(store.addresses_of(owner("b")).unwrap().len(), 1);
    store.close();
    assert_eq!(names(dir.path()), ["10.1.2.3"]);
}

#[test]
fn gc_keeps_what_is_valid() {
    let dir = TempDir::new().unwrap();
    let config = config(dir.path(), DUAL, "");
    for id in ["a", "b", "c"] {
        add(&config, id).unwrap();
    }
    fs::write(dir.path().join("net/10.1.2.9"), "b").unwrap();
    fs::write(dir.path().join("net/10.1.2.10"), "z").unwrap();
    let attachment = |id: &str| Attachment { container_id: id.to_owned(), ifname: "eth0".to_owned() };
    let valid = BTreeSet::from([attachment("b")]);
    HostLocal::load(&config, &request("", ""), &no_steps).unwrap().gc(&valid).unwrap();
    assert_eq!(names(dir.path()), ["10.1.2.3", "10.1.2.9", "fd00::3"]);
    let check = |id| {
        let request = request(id, "");
        HostLocal::load(&config, &request, &no_steps).unwrap().check(&request)
    };
    assert!(check("b").is_ok());
    assert!(check("a").is_err());
}

#[test]
fn wrong_configurations_are_named() {
    let load = |ranges: &str, version: &str| {
        let text = format!(
            r#"{{"cniVersion": "{version}", "name": "n", "ipam": {{"type": "host-local", "ranges": {ranges}}}}}"#
        );
        let config = NetworkConfig::from_json(text.into_bytes()).unwrap();
        Config::load(&config, &request("a", ""), &Gateways::default())
            .map(|config| config.sets.len())
            .map_err(|e| e.to_string())
    };
    let cases = [
        ("[]", "no IP ranges specified"),
        ("[[]]", "invalid range set 0: empty range set"),
        (r#"[[{"gateway": "10.0.0.1"}]]"#, "ipam.ranges[0][0].subnet: missing"),
        (r#"[[{"subnet": "10.0.0.7/24"}]]"#, "ipam.ranges[0][0].subnet: 10.0.0.7/24 has host bits set"),
        (r#"[[{"subnet": "::ffff:10.0.0.0/120"}]]"#, "is an IPv4 network written as IPv6"),
        (r#"[[{"subnet": "010.0.0.0/24"}]]"#, "ipam.ranges[0][0].subnet"),
        (r#"[[{"subnet": "10.0.0.0/31"}]]"#, "invalid range set 0: network 10.0.0.0/31 is too small"),
        (r#"[[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/16"}]]"#, "range set 0 overlaps with 1"),
        (r#"[[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]"#, "mixed address families"),
        (r#"{"subnet": "x"}"#, "ipam.ranges: {\"subnet\":\"x\"} is not a list"),
    ];
    for (ranges, expected) in cases {
        let error = load(ranges, "1.0.0").unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let two = r#"[[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.1.0/24"}]]"#;
    assert_eq!(load(two, "0.3.0"), Ok(2));
    assert_eq!(
        load(two, "0.2.0").unwrap_err(),
        "CNI version 0.2.0 does not support more than 1 address per family"
    );
}

#[test]
fn ranges_of_all_places_come_in_order() {
    let text = r#"{"name": "n", "cniVersion": "1.0.0", "RUNTIMEconfig": {"ipRanges": [[{"subnet": "10.0.0.0/24"}]]},
        "ipam": {"SUBNET": "10.0.1.0/24", "rangeStart": "10.0.1.9", "ranges": [[{"subnet": "10.0.2.0/24"}]]}}"#;
    let config = NetworkConfig::from_json(text.as_bytes().to_vec()).unwrap();
    let config = Config::load(&config, &request("a", ""), &Gateways::default()).unwrap();
    let sets: Vec<String> = config.sets.iter().map(RangeSet::to_string).collect();
    assert_eq!(sets, ["10.0.0.1-10.0.0.254", "10.0.1.9-10.0.1.254", "10.0.2.1-10.0.2.254"]);
    assert_eq!(config.data_dir, Path::new("/var/lib/cni/networks"));
}

#[test]
fn resolv_conf_is_read_as_the_reference_does() {
    let dns = resolv_conf::from_text(
        "# a\n; b\nnameserver 10.0.0.1\n nameserver 10.0.0.2 x\nsearch a b\nsearch c\ndomain d\noptions e:1 f\nnameserver\n",
    );
    assert_eq!(dns.nameservers, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(
        (dns.search.join(" "), dns.domain.as_str(), dns.options.join(" ")),
        ("a b c".into(), "d", "e:1 f".into())
    );
}

/// Runs an ADD or DEL that dies at the n-th step; `false` when it had fewer.
fn dies_at(n: usize, body: impl FnOnce(Steps<'_>)) -> bool {
    let count = Cell::new(0);
    let steps = |_: Step| {
        count.set(count.get() + 1);
        assert!(count.get() <= n, "killed");
    };
    catch_unwind(AssertUnwindSafe(|| body(&steps))).is_err()
}

#[test]
fn a_crash_at_any_step_leaks_nothing_that_del_does_not_release() {
    for n in 0.. {
        let dir = TempDir::new().unwrap();
        let config = config(dir.path(), DUAL, "");
        add(&config, "before").unwrap();
        let died = dies_at(n, |steps| drop(add_with(&config, &request("a", ""), steps)));
        for (name, content) in files(dir.path()) {
            assert!(content.contains("\r\neth0"), "{name} is half-written after {n} steps");
        }
        // Neither gets an address twice.
        let other = add(&config, "b").unwrap();
        assert!(!names(dir.path()).is_empty() && !other.is_empty());
        let deleted = |steps: Steps<'_>| {
            let request = request("a", "");
            let _ = HostLocal::load(&config, &request, steps).unwrap().del(&request);
        };
        for step in 0..8 {
            dies_at(step, deleted);
        }
        del(&config, "a");
        del(&config, "b");
        assert_eq!(names(dir.path()), ["10.1.2.2", "fd00::2"], "after {n} steps");
        if !died {
            assert!(n > 6, "the steps are called");
            return;
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(u8),
    Del(u8),
    Crash(u8, u8),
    Theirs(u8),
    TheirDel(u8),
    Gc(Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_u8..8).prop_map(Op::Add),
        2 => (0_u8..8).prop_map(Op::Del),
        2 => (0_u8..8, 0_u8..9).prop_map(|(id, step)| Op::Crash(id, step)),
        1 => (0_u8..8).prop_map(Op::Theirs),
        1 => (0_u8..8).prop_map(Op::TheirDel),
        1 => prop::collection::vec(0_u8..8, 0..4).prop_map(Op::Gc),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever we, crashes and the reference do to the folder: an index and the files never disagree about who has what,
    /// and an ADD never gives out what a file says is taken.
    #[test]
    fn the_index_never_lies(ops in prop::collection::vec(op(), 1..24)) {
        let dir = TempDir::new().unwrap();
        let config = config(dir.path(), r#"[[{"subnet": "10.1.2.0/28"}]]"#, "");
        let folder = dir.path().join("net");
        fs::create_dir(&folder).unwrap();
        for op in ops {
            let before = files(dir.path());
            let holds = |id: u8| before.iter().any(|(_, content)| *content == format!("c{id}\r\neth0"));
            match op {
                Op::Add(id) => match add(&config, &format!("c{id}")) {
                    Ok(got) => {
                        prop_assert!(!holds(id));
                        let address = got[0].strip_suffix("/28").unwrap();
                        prop_assert!(before.iter().all(|(name, _)| name != address));
                    }
                    Err(error) => prop_assert!(holds(id) || before.len() == 13, "{}", error),
                },
                Op::Del(id) => {
                    del(&config, &format!("c{id}"));
                    let content = format!("c{id}\r\neth0");
                    prop_assert!(files(dir.path()).iter().all(|(_, held)| *held != content));
                }
                Op::Crash(id, step) => {
                    dies_at(step.into(), |steps| drop(add_with(&config, &request(&format!("c{id}"), ""), steps)));
                }
                Op::Theirs(id) => {
                    let free = (2..15).map(|n| format!("10.1.2.{n}")).find(|name| !folder.join(name).exists());
                    // The clock of the folder ticks every few milliseconds.
                    std::thread::sleep(Duration::from_millis(5));
                    if let Some(free) = free && !holds(id) {
                        fs::write(folder.join(free), format!("c{id}\r\neth0")).unwrap();
                    }
                }
                Op::TheirDel(id) => {
                    std::thread::sleep(Duration::from_millis(5));
                    for (name, _) in before.iter().filter(|(_, held)| *held == format!("c{id}\r\neth0")) {
                        fs::remove_file(folder.join(name)).unwrap();
                    }
                }
                Op::Gc(valid) => {
                    let valid = valid.iter().map(|id| Attachment {
                        container_id: format!("c{id}"),
                        ifname: "eth0".to_owned(),
                    });
                    let valid: BTreeSet<Attachment> = valid.collect();
                    HostLocal::load(&config, &request("", ""), &no_steps).unwrap().gc(&valid).unwrap();
                    let kept = files(dir.path()).into_iter().map(|(_, held)| held);
                    let valid: BTreeSet<String> =
                        valid.iter().map(|one| format!("{}\r\neth0", one.container_id)).collect();
                    prop_assert_eq!(kept.filter(|held| !valid.contains(held)).count(), 0);
                }
            }
        }
    }
}
