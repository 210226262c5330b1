//! From the start of the agent's process to its last route, with the store gone: the saved view alone. And what the agent
//! costs once it is up: memory and idle CPU.

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "every bench uses its own part of this module")]
mod agent;
mod support;

use std::time::{Duration, Instant};

use hopwise_core::diff::{Desired, diff};
use hopwise_kernel::kernel::Kernel;

use agent::Agent;
use support::{Samples, node_address, pod_cidr, show, with_uplink};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    for (n, runs) in if quick { [(20, 2), (200, 2)] } else { [(100, 20), (5_000, 10)] } {
        with_uplink(|| boot(n, runs, if quick { 1 } else { 20 }));
    }
}

fn inventory(n: u32) -> String {
    let mut text = String::from("networks: {pods: [11.0.0.0/8], services: [192.168.0.0/16]}\nnodes:\n");
    for n in 0..=n {
        let (address, cidr) = (node_address(n), pod_cidr(n));
        text += &format!("- {{name: node{n}, addresses: [{address}], podCIDRs: [{cidr}]}}\n");
    }
    text
}

fn boot(n: u32, runs: usize, idle_seconds: u64) {
    println!("# {n} peers, each its own gateway");
    let mut agent = Agent::start(&inventory(n), &[]);
    agent.wait_ready(Duration::from_secs(60));
    wait_saved(&agent);
    println!("agent, settled: RSS {} KiB, peak {} KiB", agent.memory_kib("VmRSS"), agent.memory_kib("VmHWM"));
    let before = agent.cpu();
    std::thread::sleep(Duration::from_secs(idle_seconds));
    let spent = agent.cpu() - before;
    println!(
        "agent, idle for {idle_seconds} s: {} of CPU, {:.4} % of a core",
        show(spent),
        100.0 * spent.as_secs_f64() / idle_seconds as f64
    );
    // The store is gone from here on.
    std::fs::remove_file(agent.dir.path().join("inventory.yaml")).expect("the inventory was there");
    let mut samples = Samples::default();
    let mut kernel = Kernel::open().expect("a kernel");
    for _ in 0..runs {
        agent.kill();
        let observed = kernel.observe(&[]).expect("an observation");
        let report = kernel.apply(&diff(&observed, &Desired::default()));
        assert!(report.errors.is_empty(), "{:?}", report.errors.first());
        let start = Instant::now();
        agent.restart(&[]);
        samples.add(wait_routes(&mut kernel, n as usize, start));
    }
    samples.print("process start to last route, from the saved view", None);
}

fn wait_saved(agent: &Agent) {
    let start = Instant::now();
    let is_there = || {
        std::fs::read_dir(agent.dir.path().join("state")).is_ok_and(|files| {
            files.flatten().any(|file| file.file_name().to_string_lossy().contains("view"))
        })
    };
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(10), "the view was not saved");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Counts routes with a cheap look at the kernel's own statistics rather than dumps that would slow the agent down.
fn wait_routes(kernel: &mut Kernel, n: usize, start: Instant) -> Duration {
    loop {
        let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
        if text.lines().count() > n {
            let at = start.elapsed();
            let observed = kernel.observe(&[]).expect("an observation");
            if observed.routes.len() == n {
                return at;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the routes did not come back");
        std::thread::sleep(Duration::from_micros(500));
    }
}
