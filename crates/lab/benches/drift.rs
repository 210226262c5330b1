//! From drift to repair: an owned object of the running agent is deleted by somebody else, and the time is taken until the
//! kernel announces that it is back. Beside it, in the same run, the floor: a bare netlink loop that does nothing but
//! answer the deletion of one route with its re-creation.
//!
//! The clock starts just before the deletion is asked for. The aim is a p99 under 2 ms on an idle machine.

#[path = "support/agent.rs"]
#[allow(dead_code, reason = "every bench uses its own part of this module")]
mod agent;
mod support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hopwise_core::diff::{Changes, TableChange};
use hopwise_core::family::Family;
use hopwise_core::mark;
use hopwise_core::observed::{Event, Observed};
use hopwise_kernel::kernel::Kernel;
use hopwise_kernel::watch::Watch;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use agent::Agent;
use support::{Samples, node_address, pod_cidr, with_uplink};

const N_DIRECT: u32 = 20;
const N_OFF_LINK: u32 = 20;

fn main() {
    let trials = if std::env::args().any(|argument| argument == "--quick") { 10 } else { 200 };
    println!("# drift repair, {trials} trials each, {} peers ({N_OFF_LINK} by VXLAN)", N_DIRECT + N_OFF_LINK);
    let floor = with_uplink(|| floor(trials));
    floor.print("floor: bare netlink loop, one route", None);
    with_uplink(|| {
        let agent = Agent::start(&inventory(), &["--route-table", "100"]);
        prepare_off_link();
        agent.wait_ready(Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(500));
        let mut bench = Bench::open();
        let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        for (what, pick) in
            kinds().into_iter().filter(|(what, _)| only.as_ref().is_none_or(|only| what.contains(only)))
        {
            // An object that is fought over more than 256 times in 10 s is left alone for a while; kinds share objects.
            std::thread::sleep(Duration::from_secs(if trials > 10 { 11 } else { 0 }));
            bench.run(what, pick, trials, &floor);
        }
        drop(agent);
    });
}

/// Off-link peers live behind a router, in 10.255.0.0/16 of no link of ours.
fn prepare_off_link() {
    use hopwise_kernel::rtnl::{RouteSpec, Rtnl};
    let mut rtnl = Rtnl::open().expect("a socket");
    let route = RouteSpec::new("172.16.0.0/12".parse().expect("a CIDR")).via(node_address(9_000).into());
    rtnl.add_route(&route).expect("a route");
}

fn inventory() -> String {
    let mut text = String::from(
        "networks: {pods: [11.0.0.0/8], services: [192.168.0.0/16]}\nsettings: {permanentNeighbours: true}\nnodes:\n",
    );
    for n in 0..=N_DIRECT {
        let (name, address, cidr) = (format!("node{n}"), node_address(n), pod_cidr(n));
        text += &format!(
            "- {{name: {name}, addresses: [{address}], podCIDRs: [{cidr}], mac: \"02:00:00:00:00:{n:02x}\"}}\n"
        );
    }
    for n in N_DIRECT + 1..=N_DIRECT + N_OFF_LINK {
        text += &format!("- {{name: node{n}, addresses: [172.16.0.{n}], podCIDRs: [{}]}}\n", pod_cidr(n));
    }
    text
}

type Pick = fn(&Observed, usize) -> Option<(Changes, Box<dyn Fn(&Observed) -> bool>)>;

/// What is deleted in each trial, and how an observation tells that it is back.
fn kinds() -> Vec<(&'static str, Pick)> {
    fn nth<T: Clone>(mut items: impl Iterator<Item = T> + Clone, n: usize) -> Option<T> {
        let count = items.clone().count();
        items.nth(n % count.max(1))
    }
    vec![
        ("route", |observed, n| {
            let key = nth(observed.routes.keys().copied(), n)?;
            let changes = Changes { routes_delete: vec![key], ..Changes::default() };
            Some((changes, Box::new(move |now| now.routes.contains_key(&key))))
        }),
        ("nexthop object, and with it its route", |observed, n| {
            let id = nth(observed.nexthops.iter().map(|(id, _)| *id), n)?;
            let routes = observed.routes.len();
            let changes = Changes { nexthops_delete: vec![id], ..Changes::default() };
            Some((changes, Box::new(move |now| now.routes.len() == routes)))
        }),
        ("neighbour", |observed, n| {
            let key = nth(observed.neighbours.keys().copied(), n)?;
            let changes = Changes { neighbours_delete: vec![key], ..Changes::default() };
            Some((changes, Box::new(move |now| now.neighbours.contains_key(&key))))
        }),
        ("FDB entry", |observed, n| {
            let key = nth(observed.fdb.keys().copied(), n)?;
            let changes = Changes { fdb_delete: vec![key], ..Changes::default() };
            Some((changes, Box::new(move |now| now.fdb.contains_key(&key))))
        }),
        ("address on the VXLAN device", |observed, n| {
            let address = nth(observed.addresses.iter().copied(), n)?;
            let routes = observed.routes.len();
            let changes = Changes { addresses_delete: vec![address], ..Changes::default() };
            Some((
                changes,
                Box::new(move |now| now.addresses.contains(&address) && now.routes.len() == routes),
            ))
        }),
        ("policy rule", |observed, _| {
            let rule = *observed.rules.first()?;
            let changes = Changes { rules_delete: vec![rule.rule], ..Changes::default() };
            Some((changes, Box::new(move |now| now.rules.contains(&rule))))
        }),
        ("nftables table", |observed, _| {
            let table = observed.table.clone()?;
            let changes = Changes { table: Some(TableChange::Delete), ..Changes::default() };
            Some((changes, Box::new(move |now| now.table.as_ref() == Some(&table))))
        }),
        ("VXLAN device, with all its peers", |observed, _| {
            let name = mark::vxlan_link(Family::V4);
            let (routes, fdb) = (observed.routes.len(), observed.fdb.len());
            observed.links.contains_key(&name).then(|| {
                let changes = Changes { links_delete: vec![name], ..Changes::default() };
                let back: Box<dyn Fn(&Observed) -> bool> =
                    Box::new(move |now| now.routes.len() == routes && now.fdb.len() == fdb);
                (changes, back)
            })
        }),
    ]
}

struct Bench {
    kernel: Kernel,
    /// Deletes on a thread of its own: the deletion of a link is announced, and repaired, long before the kernel
    /// acknowledges it (it waits for an RCU grace period).
    vandal: Kernel,
    watch: Watch,
}

impl Bench {
    fn open() -> Bench {
        let kernel = || Kernel::open().expect("a kernel");
        Bench { kernel: kernel(), vandal: kernel(), watch: Watch::open().expect("a watch") }
    }

    fn run(&mut self, what: &str, pick: Pick, trials: usize, floor: &Samples) {
        let mut samples = Samples::default();
        for trial in 0..trials {
            // The agent is left to itself for a moment, so that every trial meets it asleep; and for longer where a trial
            // makes it put back the same objects more than once.
            std::thread::sleep(Duration::from_millis(if what.contains("with all its peers") {
                110
            } else {
                20
            }));
            let observed = self.kernel.observe(&[]).expect("an observation");
            let Some((changes, back)) = pick(&observed, trial) else {
                println!("{what:<58} nothing of this kind is owned: FAILED");
                std::process::exit(1);
            };
            samples.add(self.trial(observed, &changes, back.as_ref()));
        }
        samples.print(what, Some(floor));
    }

    /// Deletes, and follows the kernel's announcements until all is back.
    fn trial(&mut self, model: Observed, changes: &Changes, back: &dyn Fn(&Observed) -> bool) -> Duration {
        let Bench { kernel, vandal, watch } = self;
        watch.read(&mut Vec::new()).expect("the watch keeps up");
        std::thread::scope(|scope| {
            let deletion = scope.spawn(|| {
                let start = Instant::now();
                let report = vandal.apply(changes);
                assert!(report.errors.is_empty(), "{:?}", report.errors);
                start
            });
            let end = wait_back(kernel, watch, model, back);
            end.duration_since(deletion.join().expect("the deletion succeeds"))
        })
    }
}

fn wait_back(
    kernel: &mut Kernel,
    watch: &mut Watch,
    mut model: Observed,
    back: &dyn Fn(&Observed) -> bool,
) -> Instant {
    let mut events = Vec::new();
    let give_up = Instant::now() + Duration::from_secs(5);
    let mut gone = false;
    loop {
        let mut read_again = false;
        watch.read(&mut events).expect("the watch keeps up");
        for event in events.drain(..) {
            read_again |= matches!(event, Event::Table | Event::Host { resync: true });
            model.record(event, &mut hopwise_core::diff::Touched::default());
            gone |= !back(&model);
            if gone && !read_again && back(&model) {
                return Instant::now();
            }
        }
        if read_again {
            // Events that name no object: the first of them told of the deletion.
            gone = true;
            model = kernel.observe(&[]).expect("an observation");
            if back(&model) {
                return Instant::now();
            }
        }
        if Instant::now() > give_up {
            println!("not repaired within 5 s: FAILED\n{}", agent::get("/status"));
            std::process::exit(1);
        }
        wait(watch);
    }
}

fn wait(watch: &Watch) {
    let [route, netfilter] = watch.fds();
    let mut fds = [PollFd::new(route, PollFlags::POLLIN), PollFd::new(netfilter, PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::from(100_u8));
}

/// One thread that re-creates a route whenever its deletion is announced, and nothing else.
fn floor(trials: usize) -> Samples {
    use hopwise_kernel::netlink::Socket;
    use hopwise_kernel::rtnl::{RouteSpec, Rtnl};
    const RTNLGRP_IPV4_ROUTE: u32 = 7;
    let mut rtnl = Rtnl::open().expect("a socket");
    let route = RouteSpec::new(pod_cidr(1)).via(node_address(1).into());
    rtnl.add_route(&route).expect("a route");
    let open = || {
        let socket = Socket::open(libc::NETLINK_ROUTE).expect("a socket");
        socket.join(RTNLGRP_IPV4_ROUTE).expect("a group");
        socket
    };
    let (mut announced, mut repairer) = (open(), open());
    let mut repair = Rtnl::open().expect("a socket");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut samples = Samples::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if next_kind(&mut repairer) == Some(libc::RTM_DELROUTE) {
                    repair.add_route(&route).expect("the route again");
                }
            }
        });
        for _ in 0..trials {
            std::thread::sleep(Duration::from_millis(20));
            while next_now(&mut announced).is_some() {}
            let start = Instant::now();
            rtnl.delete_route(&route).expect("a deletion");
            while next_kind(&mut announced) != Some(libc::RTM_NEWROUTE) {}
            samples.add(start.elapsed());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    samples
}

fn next_now(socket: &mut hopwise_kernel::netlink::Socket) -> Option<u16> {
    let mut kind = None;
    socket.read_notifications(|message| kind = Some(message.kind)).expect("the watch keeps up");
    kind
}

fn next_kind(socket: &mut hopwise_kernel::netlink::Socket) -> Option<u16> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::from(100_u8));
    next_now(socket)
}
