//! Booting without a store.

use std::time::{Duration, Instant};

use hopwise_api::status::ViewSource;
use hopwise_kernel::kernel::Kernel;

use super::support::{Cluster, Inventory, wait_until};

/// An inventory with this many peers besides node1, each its own gateway.
fn large(n_peers: usize) -> Inventory {
    let mut inventory = Inventory::of(1);
    inventory.networks = "pods: [10.0.0.0/8, 'fd00:10:244::/48'], services: [172.20.0.0/16]".into();
    for i in 0..n_peers {
        let (a, b) = (i / 250, i % 250 + 1);
        inventory.nodes.push((
            format!("peer{i}"),
            vec![format!("192.168.{}.{b}", a + 1)],
            vec![format!("10.{}.{b}.0/24", a + 1)],
            String::new(),
        ));
    }
    inventory
}

fn booted(n_peers: usize) -> Duration {
    let mut cluster = Cluster::new(1);
    cluster.node(1).sh("ip addr add 192.168.0.1/16 dev eth0; ip addr del 192.168.0.1/24 dev eth0");
    cluster.write_inventory(&large(n_peers).text());
    cluster.start();
    let saved = cluster.dir().join("node1/state");
    wait_until("the view is saved", || {
        let files = std::fs::read_dir(&saved).unwrap().count();
        if files >= 2 && cluster.node(1).status().view.source == ViewSource::Live {
            Ok(())
        } else {
            Err(format!("{files}"))
        }
    });
    std::thread::sleep(Duration::from_millis(700));
    cluster.node_mut(1).stop();

    std::fs::remove_file(cluster.dir().join("inventory.yaml")).unwrap();
    cluster.node(1).sh("ip nexthop flush proto 72; nft flush ruleset");
    let start = Instant::now();
    cluster.node_mut(1).start();
    let took = cluster.node(1).namespace.run(|| {
        let mut kernel = Kernel::open().unwrap();
        loop {
            let n_routes = kernel.observe_routing(&[]).unwrap().routes.len();
            if n_routes == n_peers {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{n_routes} routes after 20 s");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    cluster.node(1).wait_ready();
    wait_until("a note about the inventory", || {
        let status = cluster.node(1).status();
        assert_eq!(status.view.source, ViewSource::Saved);
        let noted = status.notes.iter().any(|note| note.id == "store-trouble");
        if noted { Ok(()) } else { Err(format!("{:?}", status.notes)) }
    });
    // The store comes back: nothing to change, only the source.
    cluster.write_inventory(&large(n_peers).text());
    wait_until("the store is followed again", || {
        let status = cluster.node(1).status();
        let good = status.view.source == ViewSource::Live
            && status.notes.iter().all(|note| note.id != "store-trouble");
        if good { Ok(()) } else { Err(format!("{:?} {:?}", status.view, status.notes)) }
    });
    cluster.node(1).wait_settled();
    took.unwrap()
}

#[test]
fn routes_are_back_from_the_saved_view() {
    for n_peers in [100, 2000] {
        let took = booted(n_peers);
        println!("{n_peers} peers: {took:?} from the start of the process to the last route");
    }
}

#[test]
fn without_any_view_nothing_is_touched() {
    let mut cluster = Cluster::new(2);
    cluster.write_inventory(&Inventory::of(2).text());
    cluster.start();
    cluster.node(1).wait_settled();
    let routes = cluster.node(1).routes();
    cluster.node_mut(1).kill();
    std::fs::remove_dir_all(cluster.dir().join("node1/state")).unwrap();
    std::fs::write(cluster.dir().join("inventory.yaml"), "nodes: [").unwrap();
    cluster.node_mut(1).start();
    wait_until("a note about the inventory", || {
        let (_, body) = cluster.node(1).get("/status");
        if body.contains("store-trouble") { Ok(()) } else { Err(body) }
    });
    let (head, body) = cluster.node(1).get("/readyz");
    assert!(head.contains(" 503 ") && body.contains("complete view"), "{head}\n{body}");
    assert_eq!(cluster.node(1).routes(), routes);
    assert_eq!(cluster.node(1).status().view.source, ViewSource::None);
    cluster.write_inventory(&Inventory::of(2).text());
    cluster.node(1).wait_ready();
}

#[test]
fn a_torn_saved_view_is_noted_and_ignored() {
    let mut cluster = Cluster::new(2);
    cluster.write_inventory(&Inventory::of(2).text());
    let state = cluster.dir().join("node1/state");
    std::fs::create_dir_all(&state).unwrap();
    cluster.start();
    let path = hopwise_store::saved::path(&state);
    wait_until("the view is saved", || if path.exists() { Ok(()) } else { Err(String::new()) });
    cluster.node_mut(1).stop();
    let saved = std::fs::read(&path).unwrap();
    std::fs::write(&path, &saved[..saved.len() / 2]).unwrap();
    let inventory = std::fs::read_to_string(cluster.dir().join("inventory.yaml")).unwrap();
    std::fs::remove_file(cluster.dir().join("inventory.yaml")).unwrap();
    cluster.node_mut(1).start();
    wait_until("a note", || {
        let (_, body) = cluster.node(1).get("/status");
        if body.contains("saved-view-ignored") { Ok(()) } else { Err(body) }
    });
    assert_eq!(cluster.node(1).routes().len(), 2, "nothing is planned, so nothing is touched");
    cluster.write_inventory(&inventory);
    cluster.node(1).wait_ready();
    wait_until("it is saved anew", || {
        let now = std::fs::read(&path).unwrap();
        if now.len() == saved.len() { Ok(()) } else { Err(format!("{} bytes", now.len())) }
    });
}
