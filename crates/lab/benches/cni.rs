//! ADD and DEL of the plugin, from exec to exit, beside the reference plugins (v1.9.1) in the same run, one at a time and 32
//! at once.
//!
//! The reference plugins come from `HOPWISE_REFERENCE_CNI`, a folder that holds `bridge`, `ptp` and `host-local`. Without
//! them the bench fails: a figure of ours alone says nothing.

mod support;

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hopwise_kernel::netns::{Namespace, in_new_namespace};

use support::Samples;

const AT_ONCE: usize = 32;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 3 } else { 100 };
    let dir = tempfile::tempdir().expect("a directory");
    let ours = our_plugins(dir.path());
    let reference = reference_plugins();
    for case in cases() {
        println!("\n# {}, {rounds} rounds one at a time, then {AT_ONCE} at once", case.what);
        let base = measure(&reference, &case, rounds, dir.path());
        let mine = measure(&ours, &case, rounds, dir.path());
        base.print("reference", None);
        mine.print("hopwise-cni", Some(&base));
    }
}

/// One configuration to measure.
struct Case {
    what: &'static str,
    plugin: &'static str,
    /// Besides name, version and `ipam`.
    keys: &'static str,
    ranges: &'static str,
    /// How many addresses are taken beforehand, by containers that are gone.
    taken: u32,
}

fn cases() -> Vec<Case> {
    const V4: &str = r#"[{"subnet": "10.9.0.0/16"}]"#;
    const DUAL: &str = r#"[{"subnet": "10.9.0.0/16"}], [{"subnet": "fd00:9::/64"}]"#;
    let bridge = r#""bridge": "cni0", "isDefaultGateway": true"#;
    let masquerade =
        r#""bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "nftables""#;
    let case = |what, plugin, keys, ranges, taken| Case { what, plugin, keys, ranges, taken };
    vec![
        case("bridge, IPv4", "bridge", bridge, V4, 0),
        case("bridge, dual stack", "bridge", bridge, DUAL, 0),
        case("ptp, IPv4", "ptp", r#""mtu": 1500"#, V4, 0),
        case("bridge, IPv4, ipMasq by nftables", "bridge", masquerade, V4, 0),
        case("bridge, IPv4, 250 addresses taken", "bridge", bridge, V4, 250),
        case("bridge, IPv4, 4,000 addresses taken", "bridge", bridge, V4, 4_000),
    ]
}

impl Case {
    fn config(&self, data: &Path) -> String {
        let Case { plugin, keys, ranges, .. } = self;
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "net", "type": "{plugin}", {keys}, "ipam": {{"type": "host-local",
            "dataDir": "{}", "ranges": [{ranges}], "routes": [{{"dst": "192.0.2.0/24"}}]}}}}"#,
            data.display()
        )
    }
}

struct Measured {
    add: Samples,
    del: Samples,
    adds_a_second: f64,
    dels_a_second: f64,
}

impl Measured {
    fn print(&self, who: &str, base: Option<&Measured>) {
        self.add.print(&format!("{who}: ADD"), base.map(|base| &base.add));
        self.del.print(&format!("{who}: DEL"), base.map(|base| &base.del));
        println!(
            "{who}: {AT_ONCE} at once: {:.0} ADDs a second, {:.0} DELs a second",
            self.adds_a_second, self.dels_a_second
        );
    }
}

/// Measures in a namespace that plays the host, with pods in namespaces that are made beforehand.
fn measure(plugins: &Path, case: &Case, rounds: usize, dir: &Path) -> Measured {
    let data = dir.join("data");
    let _ = std::fs::remove_dir_all(&data);
    take(&data.join("net"), case.taken);
    let conf = dir.join("net.json");
    std::fs::write(&conf, case.config(&data)).expect("a configuration");
    let pods: Vec<Namespace> = (0..AT_ONCE).map(|_| Namespace::new().expect("a namespace")).collect();
    in_new_namespace(|| {
        let call =
            |command: &str, n: usize| call(plugins, case.plugin, &conf, command, n, &pods[n % AT_ONCE]);
        let (mut add, mut del) = (Samples::default(), Samples::default());
        // The first pod makes the bridge; it is not what the others cost.
        call("ADD", 0);
        call("DEL", 0);
        for n in 0..rounds {
            add.add(call("ADD", n));
            del.add(call("DEL", n));
        }
        let a_second = |command: &str| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                (0..AT_ONCE).for_each(|n| drop(scope.spawn(move || call(command, n))));
            });
            AT_ONCE as f64 / start.elapsed().as_secs_f64()
        };
        let (adds_a_second, dels_a_second) = (a_second("ADD"), a_second("DEL"));
        Measured { add, del, adds_a_second, dels_a_second }
    })
}

/// Reservations as host-local writes them, of containers that nobody deletes any more.
fn take(folder: &Path, n: u32) {
    std::fs::create_dir_all(folder).expect("a folder");
    for i in 2..n + 2 {
        let name = format!("10.9.{}.{}", i >> 8, i & 255);
        std::fs::write(folder.join(name), format!("gone{i:060}\r\neth0")).expect("a reservation");
    }
}

fn call(plugins: &Path, plugin: &str, conf: &Path, command: &str, n: usize, pod: &Namespace) -> Duration {
    let netns = format!("/proc/{}/fd/{}", std::process::id(), pod.as_fd().as_raw_fd());
    let mut process = Command::new(plugins.join(plugin));
    process
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", format!("container{n}"))
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", plugins)
        .stdin(std::fs::File::open(conf).expect("the configuration"))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let start = Instant::now();
    let output = process.output().expect("the plugin runs");
    let elapsed = start.elapsed();
    assert!(output.status.success(), "{command} of {plugin}: {}", String::from_utf8_lossy(&output.stdout));
    elapsed
}

/// Our binary under the reference's names.
fn our_plugins(dir: &Path) -> PathBuf {
    let binary = std::env::var_os("HOPWISE_CNI_BIN")
        .expect("HOPWISE_CNI_BIN names hopwise-cni; run `cargo xtask bench`");
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    for name in ["bridge", "ptp", "host-local"] {
        std::os::unix::fs::symlink(&binary, bin.join(name)).expect("a link");
    }
    bin
}

fn reference_plugins() -> PathBuf {
    let folder = std::env::var_os("HOPWISE_REFERENCE_CNI");
    folder.expect("HOPWISE_REFERENCE_CNI names the reference plugins' folder; run `cargo xtask bench`").into()
}
