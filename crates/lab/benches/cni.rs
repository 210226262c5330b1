//! ADD and DEL of the plugin, from exec to exit, beside the reference plugins (v1.9.1) in the same run: one at a time and 32
//! at once. Rounds of both alternate in blocks, so that what else the machine does hits both alike.
//!
//! Before them stand the floors: what the kernel itself takes for a pod's link, in this process and without any other, and
//! what a process costs that does nothing. How long the kernel keeps whoever deletes a link waiting depends on what else it
//! has to clear away, such as the memory of processes that have ended: so each case has a floor of its own for DEL, the same
//! deletion by this process after the same ADD.
//!
//! The reference plugins come from `HOPWISE_REFERENCE_CNI`, a folder that holds `bridge`, `ptp` and `host-local`. Without
//! them the bench fails: a figure of ours alone says nothing.
//!
//! `--quick` makes few rounds; other arguments are words that a case's name must contain.

mod support;

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hopwise_core::name::LinkName;
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{AddressSpec, BridgeSpec, Requests, RouteSpec, Rtnl, VethSpec};

use support::Samples;

const OURS: &str = "hopwise-cni";
const AT_ONCE: usize = 32;
/// Rounds of one side before the other side's turn.
const BLOCK: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let quick = arguments.iter().any(|word| word == "--quick");
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let (rounds, bursts) = if quick { (BLOCK, 1) } else { (100, 10) };
    let dir = tempfile::tempdir().expect("a directory");
    let binaries = [("reference", reference_plugins()), (OURS, our_plugins(dir.path()))];
    floors(rounds, &binaries);
    for case in cases().iter().filter(|case| words.iter().all(|word| case.what.contains(word.as_str()))) {
        println!("\n# {}: {rounds} rounds one at a time, {bursts} of {AT_ONCE} at once", case.what);
        let mut sides: Vec<Side> =
            binaries.iter().map(|(who, plugins)| Side::new(who, plugins, case, dir.path())).collect();
        for _ in 0..rounds / BLOCK {
            sides.iter_mut().for_each(Side::one_at_a_time);
            sides.iter_mut().filter(|side| side.is_ours()).for_each(Side::kernel_alone);
        }
        for _ in 0..bursts {
            sides.iter_mut().for_each(Side::at_once);
        }
        let (base, ours) = sides.split_at(1);
        base[0].print(None);
        ours[0].print(Some(&base[0]));
    }
}

/// One configuration to measure.
struct Case {
    what: &'static str,
    plugin: &'static str,
    /// Besides name, version and `ipam`.
    keys: &'static str,
    /// Keys that only our plugin gets.
    our_keys: &'static str,
    ranges: &'static str,
    /// How many addresses are taken beforehand, by containers that are gone.
    taken: u32,
}

fn cases() -> Vec<Case> {
    const V4: &str = r#"[{"subnet": "10.9.0.0/16"}]"#;
    const DUAL: &str = r#"[{"subnet": "10.9.0.0/16"}], [{"subnet": "fd00:9::/64"}]"#;
    const BRIDGE: &str = r#""bridge": "cni0", "isDefaultGateway": true"#;
    const NFT: &str =
        r#""bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "nftables""#;
    const IPTABLES: &str =
        r#""bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "iptables""#;
    const DEFERRED: &str = r#""deferDeletion": true,"#;
    let bridge =
        |what, keys, ranges, taken| Case { what, plugin: "bridge", keys, our_keys: "", ranges, taken };
    let ptp =
        |what, ranges| Case { what, plugin: "ptp", keys: r#""mtu": 1500"#, our_keys: "", ranges, taken: 0 };
    vec![
        bridge("bridge, IPv4", BRIDGE, V4, 0),
        bridge("bridge, IPv4, 250 addresses taken", BRIDGE, V4, 250),
        bridge("bridge, IPv4, 4,000 addresses taken", BRIDGE, V4, 4_000),
        bridge("bridge, dual stack", BRIDGE, DUAL, 0),
        bridge("bridge, dual stack, 250 addresses taken", BRIDGE, DUAL, 250),
        bridge("bridge, dual stack, 4,000 addresses taken", BRIDGE, DUAL, 4_000),
        bridge("bridge, IPv4, ipMasq by nftables", NFT, V4, 0),
        bridge("bridge, IPv4, ipMasq by iptables", IPTABLES, V4, 0),
        bridge("bridge, dual stack, ipMasq by nftables, 4,000 addresses taken", NFT, DUAL, 4_000),
        Case { our_keys: DEFERRED, ..bridge("bridge, IPv4, deferred deletion", BRIDGE, V4, 0) },
        ptp("ptp, IPv4", V4),
        Case { our_keys: DEFERRED, ..ptp("ptp, IPv4, deferred deletion", V4) },
        ptp("ptp, dual stack", DUAL),
    ]
}

impl Case {
    fn config(&self, data: &Path, ours: bool) -> String {
        let Case { plugin, keys, ranges, .. } = self;
        let more = if ours { self.our_keys } else { "" };
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "net", "type": "{plugin}", {keys}, {more} "ipam": {{"type": "host-local",
            "dataDir": "{}", "ranges": [{ranges}], "routes": [{{"dst": "192.0.2.0/24"}}]}}}}"#,
            data.display()
        )
    }
}

/// Ours or theirs: a namespace that plays the host, pods in namespaces that are made beforehand, and what was measured.
struct Side<'a> {
    who: &'static str,
    plugins: &'a Path,
    plugin: &'static str,
    conf: PathBuf,
    host: Namespace,
    pods: Vec<Namespace>,
    rounds: usize,
    add: Samples,
    del: Samples,
    /// Deletion of the link alone, by this process.
    del_alone: Samples,
    add_at_once: Samples,
    del_at_once: Samples,
    bursts: [Samples; 2],
}

impl<'a> Side<'a> {
    fn new(who: &'static str, plugins: &'a Path, case: &Case, dir: &Path) -> Side<'a> {
        let data = dir.join(format!("data-{who}"));
        let _ = std::fs::remove_dir_all(&data);
        take(&data.join("net"), case.taken);
        let conf = dir.join(format!("{who}.json"));
        std::fs::write(&conf, case.config(&data, who == OURS)).expect("a configuration");
        let namespace = || Namespace::new().expect("a namespace");
        let side = Side {
            who,
            plugins,
            plugin: case.plugin,
            conf,
            host: namespace(),
            pods: (0..AT_ONCE).map(|_| namespace()).collect(),
            rounds: 0,
            add: Samples::default(),
            del: Samples::default(),
            del_alone: Samples::default(),
            add_at_once: Samples::default(),
            del_at_once: Samples::default(),
            bursts: Default::default(),
        };
        // The first pod makes the bridge; it is not what the others cost.
        side.inside(|| ["ADD", "DEL"].map(|command| side.call(command, 0)));
        side
    }

    fn inside<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.host.run(body).expect("the host's namespace")
    }

    fn one_at_a_time(&mut self) {
        let rounds = self.rounds..self.rounds + BLOCK;
        self.rounds = rounds.end;
        for (add, del) in
            self.inside(|| rounds.map(|n| (self.call("ADD", n), self.call("DEL", n))).collect::<Vec<_>>())
        {
            self.add.add(add);
            self.del.add(del);
        }
    }

    fn is_ours(&self) -> bool {
        self.who == OURS
    }

    /// ADD, and then what the kernel alone takes to delete the link.
    fn kernel_alone(&mut self) {
        for n in self.rounds - BLOCK..self.rounds {
            self.inside(|| self.call("ADD", n));
            let pod = &self.pods[n % AT_ONCE];
            let mut rtnl = Rtnl::open_in(pod.as_fd()).expect("a socket");
            self.del_alone.time(|| rtnl.delete_link(LinkName::new_static("eth0")).expect("the pair goes"));
            self.inside(|| self.call("DEL", n));
        }
    }

    fn at_once(&mut self) {
        for command in ["ADD", "DEL"] {
            let calls = Mutex::new(Vec::new());
            let start = Instant::now();
            self.inside(|| {
                std::thread::scope(|scope| {
                    for n in 0..AT_ONCE {
                        let (calls, side) = (&calls, &*self);
                        scope.spawn(move || {
                            let took = side.call(command, n);
                            calls.lock().expect("nobody panicked").push(took);
                        });
                    }
                });
            });
            let burst = start.elapsed();
            let (samples, bursts) = match command {
                "ADD" => (&mut self.add_at_once, &mut self.bursts[0]),
                _ => (&mut self.del_at_once, &mut self.bursts[1]),
            };
            bursts.add(burst);
            calls.into_inner().expect("nobody panicked").into_iter().for_each(|took| samples.add(took));
        }
    }

    fn a_second(&self, command: usize) -> f64 {
        AT_ONCE as f64 / self.bursts[command].median().as_secs_f64()
    }

    fn print(&self, base: Option<&Side<'_>>) {
        let who = self.who;
        self.add.print(&format!("{who}: ADD"), base.map(|base| &base.add));
        self.del.print(&format!("{who}: DEL"), base.map(|base| &base.del));
        if self.is_ours() {
            self.del_alone.print("kernel: RTM_DELLINK after the same ADD", base.map(|base| &base.del));
        }
        self.add_at_once.print(&format!("{who}: ADD, {AT_ONCE} at once"), base.map(|base| &base.add_at_once));
        self.del_at_once.print(&format!("{who}: DEL, {AT_ONCE} at once"), base.map(|base| &base.del_at_once));
        println!(
            "{who}: {:.0} ADDs and {:.0} DELs a second at {AT_ONCE} at once (median of {} bursts)",
            self.a_second(0),
            self.a_second(1),
            self.bursts[0].len(),
        );
    }

    fn call(&self, command: &str, n: usize) -> Duration {
        let pod = &self.pods[n % AT_ONCE];
        let netns = format!("/proc/{}/fd/{}", std::process::id(), pod.as_fd().as_raw_fd());
        let mut process = Command::new(self.plugins.join(self.plugin));
        process
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", format!("container{n}"))
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.plugins)
            .stdin(std::fs::File::open(&self.conf).expect("the configuration"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let start = Instant::now();
        let output = process.output().expect("the plugin runs");
        let elapsed = start.elapsed();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{} {command}: {printed}", self.who);
        elapsed
    }
}

/// Reservations as host-local writes them, of containers that nobody deletes any more.
fn take(folder: &Path, n: u32) {
    std::fs::create_dir_all(folder).expect("a folder");
    for i in 2..n + 2 {
        let name = format!("10.9.{}.{}", i >> 8, i & 255);
        std::fs::write(folder.join(name), format!("gone{i:060}\r\neth0")).expect("a reservation");
    }
}

/// What nobody can do without: the kernel's part, and a process.
fn floors(rounds: usize, binaries: &[(&'static str, PathBuf)]) {
    println!(
        "# floors, {rounds} rounds: the kernel alone (raw netlink in this process), a process that does nothing"
    );
    let (host, pod) = (Namespace::new().expect("a namespace"), Namespace::new().expect("a namespace"));
    let (mut add, mut del) = (Samples::default(), Samples::default());
    let mut rtnl = Rtnl::open_in(host.as_fd()).expect("a socket");
    let mut inside = Rtnl::open_in(pod.as_fd()).expect("a socket");
    let [bridge, near, far] = ["cni0", "veth0", "eth0"].map(LinkName::new_static);
    let bridge = rtnl.ensure_bridge(&BridgeSpec::new(bridge)).expect("a bridge").index;
    rtnl.set_up(bridge).expect("the bridge up");
    for _ in 0..rounds {
        add.time(|| {
            let mut veth = VethSpec::new(near, far, Some(pod.as_fd()));
            veth.master = Some(bridge);
            rtnl.add_veth(&veth).expect("a pair");
            let index = inside.link_by_name(far).expect("a look-up").expect("the pod's end").index;
            let mut requests = Requests::new();
            requests.add_address(index, &AddressSpec::new([10, 9, 0, 2].into(), 16));
            requests.set_up(index);
            let default = RouteSpec::new("0.0.0.0/0".parse().expect("a CIDR"));
            requests.add_route(&default.via([10, 9, 0, 1].into()).dev(index));
            inside.execute_all(&mut requests).expect("the kernel agrees");
        });
        del.time(|| inside.delete_link(far).expect("the pair goes"));
    }
    add.print("kernel: link, address, route", None);
    del.print("kernel: RTM_DELLINK of the pair", None);
    for (who, plugins) in binaries {
        let mut version = Samples::default();
        for _ in 0..rounds {
            let mut process = Command::new(plugins.join("bridge"));
            process.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::null()).stdout(Stdio::piped());
            version.time(|| process.output().expect("the plugin runs"));
        }
        version.print(&format!("{who}: VERSION"), None);
    }
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
