//! The loop, driven turn by turn.
//!
//! [`scenarios`] run against two networks: one in memory ([`fake`]) and the kernel, in a namespace of the test's own. That
//! both pass is what makes the one in memory worth its name. What a kernel can't be made to do (refuse, fight back, lose
//! notifications at a given moment) is tested in memory alone ([`trouble`]).

mod fake;
mod scenarios;
mod trouble;

use std::sync::Arc;

use hopwise_api::status::ViewSource;
use hopwise_core::cluster::{Claim, ClusterNetworks, ClusterView, Node, NodeData, Os};
use hopwise_core::config::Settings;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::reconciler::inbox::SourcedView;
use hopwise_api::status::Status;

/// A reconciler for `node1` with what a test wants to look at.
struct Rig<N> {
    reconciler: Reconciler<N>,
    inbox: Arc<Inbox>,
    metrics: Metrics,
    published: watch::Receiver<Published>,
    _state: tempfile::TempDir,
}

impl<N: Network> Rig<N> {
    fn new(network: N) -> Rig<N> {
        let inbox = Arc::new(Inbox::new().unwrap());
        let (published, published_here) = watch::channel(Published::default());
        let metrics = Metrics::default();
        let state = tempfile::tempdir().unwrap();
        let intervals = Intervals::default();
        let parts = Parts {
            node: "node1".parse().unwrap(),
            settings: Settings::default(),
            intervals,
            inbox: inbox.clone(),
            published,
            pulse: Arc::new(Pulse::new(intervals.full_check)),
            metrics: metrics.clone(),
            undo: UndoLog::load(state.path()),
            l2: Arc::new(l2::Mailbox::new().unwrap()),
        };
        Rig {
            reconciler: Reconciler::new(network, parts),
            inbox,
            metrics,
            published: published_here,
            _state: state,
        }
    }

    /// Turns until nothing more is due at once.
    fn turn(&mut self) {
        for _ in 0..50 {
            assert!(self.reconciler.turn());
            // Longer than any pause that a reading imposes here, shorter than any back-off.
            if self.reconciler.next_due() > Instant::now() + Duration::from_millis(40) {
                return;
            }
            self.reconciler.wait();
        }
        panic!("the loop does not come to rest");
    }

    fn put_view(&self, view: ClusterView) {
        self.inbox.put_view(SourcedView {
            view: Arc::new(view),
            source: ViewSource::Live,
            current_until: None,
        });
    }

    fn status(&mut self) -> Status {
        let (answer, mut answered) = oneshot::channel();
        self.inbox.ask(Question::Status(answer));
        assert!(self.reconciler.turn());
        answered.try_recv().unwrap()
    }

    fn notes(&mut self) -> Vec<String> {
        self.status().notes.into_iter().map(|note| note.id).collect()
    }

    fn is_ready(&self) -> bool {
        self.published.borrow().ready.ready
    }

    fn repairs(&self, kind: &str) -> u64 {
        Metrics::counts(&self.metrics.repairs).get(kind).copied().unwrap_or(0)
    }
}

/// `nodeN` with address 192.168.0.N and pod CIDR 10.244.N.0/24.
fn node(n: u8) -> Arc<Node> {
    node_with(n, &format!("192.168.0.{n}"), &format!("10.244.{n}.0/24"))
}

fn node_with(n: u8, address: &str, pod_cidr: &str) -> Arc<Node> {
    Arc::new(Node {
        name: format!("node{n}").parse().unwrap(),
        addresses: vec![Claim::original(address.parse().unwrap())],
        pod_cidrs: vec![Claim::original(pod_cidr.parse().unwrap())],
        data: NodeData {
            link_mac: hopwise_core::family::PerFamily {
                v4: Some(format!("02:00:00:00:01:{n:02x}").parse().unwrap()),
                v6: None,
            },
            vxlan_mac: None,
        },
        os: Os::Linux,
        settings: Settings::default(),
    })
}

/// A cluster of these nodes.
fn view(nodes: impl IntoIterator<Item = Arc<Node>>) -> ClusterView {
    ClusterView {
        networks: ClusterNetworks {
            pods: vec!["10.244.0.0/16".parse().unwrap()],
            services: vec!["10.96.0.0/12".parse().unwrap()],
            ..ClusterNetworks::default()
        },
        settings: Settings::default(),
        nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
    }
}
