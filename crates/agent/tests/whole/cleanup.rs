//! Cleaning up removes all that is ours and nothing else.

use hopwise_agent::cleanup::{self, CleanupOptions};
use hopwise_core::observed::Observed;

use super::support::{Cluster, Inventory, Node};

/// Everything that `ip`, `nft` and the sysctls show, counters and timers left out.
fn everything(node: &Node) -> String {
    node.sh(
        "ip -o link show | sed 's/ state .*//'; ip -o addr show; ip route show table all | sed 's/ pref .*//'
         ip -6 route show table all; ip rule; ip -6 rule; ip nexthop; ip neigh show nud permanent; bridge fdb show dynamic
         nft list ruleset
         for f in ipv4/ip_forward ipv6/conf/all/forwarding ipv4/conf/all/rp_filter ipv4/conf/eth0/rp_filter \
                  ipv4/conf/all/send_redirects ipv4/conf/eth0/send_redirects ipv6/conf/eth0/accept_ra; do
             echo $f $(cat /proc/sys/net/$f); done",
    )
}

#[test]
fn all_that_is_ours_goes_and_all_else_stays() {
    let mut cluster = Cluster::new(2);
    let mut inventory = Inventory::of(2).with_far(&["172.16.0.9"], &["10.244.9.0/24"]);
    inventory.settings = "mode: auto, routeTable: 100".into();
    cluster.write_inventory(&inventory.text());
    let node = cluster.node(1);
    node.sh("ip route add 172.16.0.0/16 via 192.168.0.254; ip route add 10.7.0.0/16 via 192.168.0.7
         ip neigh add 192.168.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent
         ip nexthop add id 7 via 192.168.0.7 dev eth0
         nft add table inet foreign; nft add chain inet foreign c");
    let before = everything(node);
    cluster.start();
    cluster.node(1).wait_settled();
    assert_ne!(everything(cluster.node(1)), before);

    let state_dir = cluster.dir().join("node1/state");
    let run_dir = cluster.dir().join("node1/run");
    let options = CleanupOptions { state_dir: state_dir.clone(), run_dir: run_dir.clone(), dry_run: false };
    let clean = |options: &CleanupOptions| cluster.node(1).namespace.run(|| cleanup::run(options)).unwrap();
    let refused = clean(&options).unwrap_err().to_string();
    assert!(refused.contains("an agent is running"), "{refused}");

    cluster.node_mut(1).stop();
    let clean = |options: &CleanupOptions| cluster.node(1).namespace.run(|| cleanup::run(options)).unwrap();
    let dry = clean(&CleanupOptions { dry_run: true, ..options.clone() }).unwrap();
    assert!(!dry.changes.is_empty() && dry.report.is_none());
    let done = clean(&options).unwrap();
    assert_eq!(done.changes, dry.changes);
    assert_eq!(done.report.unwrap().errors, []);
    assert!(done.left.is_empty());
    assert_eq!(everything(cluster.node(1)), before);
    let observed = cluster.node(1).snapshot().observed;
    assert_eq!(
        Observed { sysctls: Default::default(), foreign_nexthop_ids: Default::default(), ..observed },
        Observed::default()
    );
    assert_eq!(std::fs::read_dir(state_dir).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(run_dir).unwrap().count(), 0);
    assert!(clean(&options).unwrap().changes.is_empty());
}
