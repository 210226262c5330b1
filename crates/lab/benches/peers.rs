//! How long thousands of peers take: plan, diff and apply, from empty, for one changed peer and for no change, beside the
//! same routes put in by a bare netlink loop (nexthop objects, plain gateways) and by `ip -batch`.
//!
//! Every peer has its own gateway on one link, which is what host-gateway routing means and what puts all IPv4 routes with
//! plain gateways into one kernel hash bucket (`fib_info_hashfn`).
//!
//! Arguments: `--quick` for a small run that only shows that the bench works.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hopwise_core::cluster::{Claim, Node, ViewDelta};
use hopwise_core::config::{NodeConfig, Settings};
use hopwise_core::diff::{Changes, diff, diff_touched};
use hopwise_core::host::HostView;
use hopwise_core::observed::Observed;
use hopwise_core::plan::{Planner, lookup_targets, plan};
use hopwise_kernel::kernel::Kernel;

use support::{Samples, bare_routes, cluster, node_address, pod_cidr, show, thread_cpu, with_uplink};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (n, n_large, runs) = if quick { (500, 2_000, 2) } else { (5_000, 60_000, 7) };
    println!("# {n} peers, each its own gateway, {runs} runs, every run in a fresh network namespace");
    cold(n, runs, true);
    println!("\n# {n_large} peers (plain gateways and ip -batch left out: minutes of one hash bucket)");
    cold(n_large, 2, false);
    println!("\n# one changed peer among {n}, and no change");
    warm(n, if quick { 20 } else { 200 });
    println!("\n# plan and diff alone, no kernel");
    for n in if quick { [1_000, 2_000, 4_000] } else { [25_000, 50_000, 100_000] } {
        pure(n, 3);
    }
}

fn config() -> NodeConfig {
    let settings = Settings { manage_sysctls: Some(false), ..Settings::default() };
    NodeConfig::resolve("node0".parse().expect("a node name"), &[&settings])
}

struct Cold {
    host_view: Samples,
    plan: Samples,
    diff: Samples,
    apply: Samples,
    total: Samples,
}

fn cold(n: u32, runs: usize, with_slow_peers: bool) {
    let mut bare_objects = Samples::default();
    let mut bare_gateways = Samples::default();
    let mut ip_batch = Samples::default();
    let mut ours = Cold {
        host_view: Samples::default(),
        plan: Samples::default(),
        diff: Samples::default(),
        apply: Samples::default(),
        total: Samples::default(),
    };
    for _ in 0..runs {
        with_uplink(|| bare_objects.time(|| bare_routes(n, true)));
        with_uplink(|| cold_ours(n, &mut ours));
        if with_slow_peers {
            with_uplink(|| bare_gateways.time(|| bare_routes(n, false)));
            with_uplink(|| run_ip_batch(n, &mut ip_batch));
        }
    }
    bare_objects.print("bare netlink loop, nexthop objects", None);
    ours.total.print("hopwise, from nothing to the last route", Some(&bare_objects));
    ours.host_view.print("  of it: host view, with a kernel lookup per peer", Some(&bare_objects));
    ours.plan.print("  of it: plan", Some(&bare_objects));
    ours.diff.print("  of it: diff", Some(&bare_objects));
    ours.apply.print("  of it: apply (with the nftables table)", Some(&bare_objects));
    if with_slow_peers {
        bare_gateways.print("bare netlink loop, plain gateways (what peers do)", Some(&bare_objects));
        ip_batch.print("ip -batch, plain gateways", Some(&bare_objects));
    }
}

fn cold_ours(n: u32, samples: &mut Cold) {
    let view = cluster(n);
    let config = config();
    let Cold { host_view, plan: planning, diff: diffing, apply, total } = samples;
    total.time(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        let host = host_view.time(|| read_host(&mut kernel, &view, &config));
        let planner = planning.time(|| Planner::new(view, host, config));
        let observed = kernel.observe(&[]).expect("an observation");
        let changes = diffing.time(|| diff(&observed, planner.desired()));
        assert_eq!(changes.routes_set.len(), n as usize, "{:?}", planner.plan().notes().next());
        let report = apply.time(|| kernel.apply(&changes));
        assert!(report.errors.is_empty(), "{:?}", report.errors.first());
    });
}

fn read_host(
    kernel: &mut Kernel,
    view: &hopwise_core::cluster::ClusterView,
    config: &NodeConfig,
) -> HostView {
    let targets: BTreeSet<IpAddr> = lookup_targets(view, config);
    kernel.host_view(&view.networks.pods, &targets).expect("a host view")
}

fn run_ip_batch(n: u32, samples: &mut Samples) {
    let mut text = String::new();
    for i in 1..=n {
        text += &format!("route add {} via {} dev {}\n", pod_cidr(i), node_address(i), support::UPLINK);
    }
    samples.time(|| {
        let mut ip =
            Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip is installed");
        ip.stdin.take().expect("its standard input").write_all(text.as_bytes()).expect("it reads");
        assert!(ip.wait().expect("it ends").success());
    });
}

fn moved(n: u32, n_peers: u32, round: u32) -> ViewDelta {
    let mut node: Node = support::node(n);
    // Every round gives the peer an address that nobody has.
    node.addresses = vec![Claim::original(node_address(n_peers + 1 + round).into())];
    ViewDelta { upserted: vec![Arc::new(node)], removed: Vec::new() }
}

fn warm(n: u32, rounds: u32) {
    with_uplink(|| {
        let view = cluster(n);
        let config = config();
        let mut kernel = Kernel::open().expect("a kernel");
        let mut host = read_host(&mut kernel, &view, &config);
        let on_link = *host.lookups.values().next().expect("a lookup");
        for round in 0..rounds {
            host.lookups.insert(node_address(n + 1 + round).into(), on_link);
        }
        let mut planner = Planner::new(view, host, config);
        let empty = kernel_observe(&mut kernel);
        kernel.apply(&diff(&empty, planner.desired()));
        let (mut wall, mut cpu, mut pure_cpu) = (Samples::default(), Samples::default(), Samples::default());
        for round in 0..rounds {
            // What the agent has at hand: kept up to date by events, so read here outside the measured part.
            let observed = kernel_observe(&mut kernel);
            let delta = moved(1 + round % n, n, round);
            let before = thread_cpu();
            wall.time(|| {
                let touched = planner.update(delta);
                let changes = diff_touched(&observed, planner.desired(), &touched);
                pure_cpu.add(thread_cpu() - before);
                assert_eq!(changes.routes_set.len(), 1);
                let report = kernel.apply(&changes);
                assert!(report.errors.is_empty(), "{:?}", report.errors.first());
            });
            cpu.add(thread_cpu() - before);
        }
        wall.print("one changed peer: plan, diff, apply, wall clock", None);
        cpu.print("one changed peer: plan, diff, apply, CPU", None);
        pure_cpu.print("  of it: plan and diff, CPU", None);
        let (mut observing, mut diffing) = (Samples::default(), Samples::default());
        for _ in 0..rounds.min(50) {
            let observed = observing.time(|| kernel_observe(&mut kernel));
            let changes = diffing.time(|| diff(&observed, planner.desired()));
            assert_eq!(changes, Changes::default());
        }
        observing.print("no change: full observation (the slow safety net)", None);
        diffing.print("no change: full diff", None);
    });
}

fn kernel_observe(kernel: &mut Kernel) -> Observed {
    kernel.observe(&[]).expect("an observation")
}

fn pure(n: u32, runs: usize) {
    let view = cluster(n);
    let config = config();
    let host = with_uplink(|| {
        let mut kernel = Kernel::open().expect("a kernel");
        read_host(&mut kernel, &cluster(1), &config)
    });
    let host = HostView {
        lookups: lookup_targets(&view, &config)
            .into_iter()
            .map(|address| (address, *host.lookups.values().next().expect("a lookup")))
            .collect(),
        ..host
    };
    let (mut planning, mut diffing) = (Samples::default(), Samples::default());
    for _ in 0..runs {
        let planned = planning.time(|| plan(&view, &host, &config));
        assert_eq!(planned.peers.len(), n as usize);
        let planner = Planner::new(view.clone(), host.clone(), config.clone());
        let changes = diffing.time(|| diff(&Observed::default(), planner.desired()));
        assert_eq!(changes.routes_set.len(), n as usize);
    }
    let per_peer = (planning.median() + diffing.median()).as_secs_f64() * 1e9 / f64::from(n);
    planning.print(&format!("{n} peers: plan"), None);
    diffing.print(&format!("{n} peers: diff from empty"), None);
    println!("{n} peers: {per_peer:.0} ns a peer, {} in all", show(planning.median() + diffing.median()));
}
