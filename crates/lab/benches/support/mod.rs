//! What the benches share: samples with min, median and p99, a synthetic cluster, and the bare netlink loops that they
//! are compared with.
#![allow(dead_code, reason = "every bench uses its own part of this module")]

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hopwise_core::cidr::Cidr;
use hopwise_core::cluster::{Claim, ClusterNetworks, ClusterView, Node, NodeData, Os};
use hopwise_core::config::Settings;
use hopwise_core::name::LinkName;
use hopwise_kernel::netlink::{Batch, Socket};
use hopwise_kernel::netns::Namespace;

/// Durations of one measured thing.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Measures one call.
    pub fn time<T>(&mut self, body: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = body();
        self.0.push(start.elapsed());
        value
    }

    /// Adds a duration measured elsewhere.
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The sample below which the given share lies (nearest rank); zero without samples.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The middle sample.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// Prints one line; the ratio of medians to `base`, where there is one.
    pub fn print(&self, what: &str, base: Option<&Samples>) {
        let ratio = base.map_or(String::new(), |base| {
            format!("  {:6.2} x", self.median().as_secs_f64() / base.median().as_secs_f64())
        });
        println!(
            "{what:<58} min {:>10}  p50 {:>10}  p99 {:>10}  n {:>4}{ratio}",
            show(self.quantile(0.0)),
            show(self.median()),
            show(self.quantile(0.99)),
            self.0.len(),
        );
    }
}

/// A duration in the unit that suits it.
pub fn show(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1_000.0 {
        format!("{micros:.1} us")
    } else if micros < 1_000_000.0 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

/// CPU time of this thread so far.
pub fn thread_cpu() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every thread has a clock");
    Duration::new(now.tv_sec() as u64, now.tv_nsec() as u32)
}

/// The uplink that [`with_uplink`] makes.
pub const UPLINK: LinkName = LinkName::new_static("eth0");
/// The underlay: on-link for everybody.
pub const UNDERLAY_LEN: u8 = 8;

/// The underlay address of the n-th node; 0 is ourselves.
pub fn node_address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + n)
}

/// The pod CIDR of the n-th node.
pub fn pod_cidr(n: u32) -> Cidr {
    Cidr::containing(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + (n << 8))), 24).expect("24 bits fit")
}

/// The n-th node of the synthetic cluster.
pub fn node(n: u32) -> Node {
    Node {
        name: format!("node{n}").parse().expect("a node name"),
        addresses: vec![Claim::original(node_address(n).into())],
        pod_cidrs: vec![Claim::original(pod_cidr(n))],
        data: NodeData::default(),
        os: Os::Linux,
        settings: Settings::default(),
    }
}

/// A cluster of ourselves (`node0`) and so many peers, each its own gateway on one link.
pub fn cluster(n_peers: u32) -> ClusterView {
    let nodes = (0..=n_peers).map(node);
    ClusterView {
        networks: ClusterNetworks {
            // Room for more than 65,536 nodes.
            pods: ["11.0.0.0/8", "12.0.0.0/8"].map(|cidr| cidr.parse().expect("a CIDR")).into(),
            services: vec!["172.30.0.0/16".parse().expect("a CIDR")],
            nodes: vec!["10.0.0.0/8".parse().expect("a CIDR")],
            fabric: Vec::new(),
        },
        settings: Settings::default(),
        nodes: nodes.map(|node| (node.name.clone(), Arc::new(node))).collect(),
    }
}

/// Runs a body in a namespace of its own with an uplink (a veth whose other end is in a second namespace) that holds the
/// address of node 0.
pub fn with_uplink<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let wire = Namespace::new().expect("a namespace");
    let wire_fd = std::os::fd::AsFd::as_fd(&wire);
    hopwise_kernel::netns::in_new_namespace(|| {
        make_uplink(wire_fd);
        body()
    })
}

fn make_uplink(wire: BorrowedFd<'_>) {
    use hopwise_kernel::rtnl::{AddressSpec, Rtnl, VethSpec};
    const OTHER_END: LinkName = LinkName::new_static("wire0");
    let mut rtnl = Rtnl::open().expect("a socket");
    rtnl.add_veth(&VethSpec::new(UPLINK, OTHER_END, Some(wire))).expect("a veth pair");
    Rtnl::open_in(wire).and_then(|mut peers| peers.set_up(OTHER_END)).expect("the other end up");
    let eth0 = uplink_index(&mut rtnl);
    rtnl.add_address(eth0, &AddressSpec::new(node_address(0).into(), UNDERLAY_LEN)).expect("an address");
}

/// The index of the uplink.
pub fn uplink_index(rtnl: &mut hopwise_kernel::rtnl::Rtnl) -> hopwise_core::name::IfIndex {
    rtnl.link_by_name(UPLINK).expect("a look-up").expect("the uplink is there").index
}

/// The bare loop: the same routes, straight into the kernel, 100 messages a send, the last acknowledged.
pub fn bare_routes(n_peers: u32, by_object: bool) {
    let mut socket = Socket::open(libc::NETLINK_ROUTE).expect("a socket");
    let index = uplink_index(&mut hopwise_kernel::rtnl::Rtnl::open().expect("a socket")).0;
    let create = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let mut batch = Batch::new();
    if by_object {
        for n in 1..=n_peers {
            // struct nhmsg: family, scope, protocol, reserved, flags.
            let mut message =
                batch.message(RTM_NEWNEXTHOP, create, &[libc::AF_INET as u8, 0, 72, 0, 0, 0, 0, 0]);
            message.u32(NHA_ID, n).u32(NHA_OIF, index).ip(NHA_GATEWAY, node_address(n).into());
        }
        check(&mut socket, &mut batch);
    }
    for n in 1..=n_peers {
        // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
        let fixed = [libc::AF_INET as u8, 24, 0, 0, 254, 72, 0, 1, 0, 0, 0, 0];
        let mut message = batch.message(libc::RTM_NEWROUTE, create, &fixed);
        message.ip(libc::RTA_DST, pod_cidr(n).address());
        if by_object {
            message.u32(RTA_NH_ID, n);
        } else {
            message.u32(libc::RTA_OIF, index).ip(libc::RTA_GATEWAY, node_address(n).into());
        }
    }
    check(&mut socket, &mut batch);
}

fn check(socket: &mut Socket, batch: &mut Batch) {
    for verdict in socket.execute(batch).expect("the kernel answers") {
        verdict.expect("the kernel agrees");
    }
    batch.clear();
}

const RTM_NEWNEXTHOP: u16 = 104;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const RTA_NH_ID: u16 = 30;
