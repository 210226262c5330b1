//! `hopwise l2` and the setting `l2`, with the real binary.

#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test says no; clippy knows only the functions marked #[test]"
)]

mod support;

use std::time::{Duration, Instant};

use support::{Node, text};

/// The arguments of `hopwise l2 …` for this node.
fn l2(node: &Node, args: &str) -> Vec<String> {
    let state = node.path("state");
    let args = args.split(' ').map(str::to_owned);
    std::iter::once("l2".to_owned()).chain(args).chain(["--state-dir".to_owned(), state]).collect()
}

fn ip(args: &str) -> String {
    text("ip", &args.split(' ').collect::<Vec<_>>())
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn there_and_back() {
    Node::run(|node| {
        let run = |args: &str| node.hopwise(&l2(node, args));
        assert_eq!(run("status"), (0, "nothing is attached\n".to_owned()));
        assert_eq!(
            run("detach"),
            (1, "error: nothing is attached here\n hint: see `hopwise l2 status`\n".to_owned())
        );
        let (code, said) = run("attach --uplink eth7");
        assert_eq!(
            (code, said.as_str()),
            (1, "error: there is no link eth7\n hint: see `ip link` for those there are\n")
        );
        let (code, said) = run("attach --uplink eth0 --dry-run");
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("ip link set eth0 master cni0\n"), "{said}");
        assert!(said.ends_with("# nothing was changed: --dry-run\n"), "{said}");
        assert!(!ip("link show").contains("cni0"));

        let (code, said) = run("attach --uplink eth0 -o json");
        assert_eq!(code, 0, "{said}");
        let done: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&done["uplink"], &done["bridge"]), (&"eth0".into(), &"cni0".into()));
        assert!(ip("address show dev cni0").contains("192.168.0.1/24"));
        let (code, said) = run("status");
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with("eth0 is on cni0 (made for it), by hopwise l2 attach\n"), "{said}");

        node.ip("link set eth0 nomaster");
        let (code, said) = run("status");
        assert_eq!(code, 2, "{said}");
        assert!(said.ends_with("  DIFFERS  eth0 was taken off cni0\n"), "{said}");

        assert_eq!(run("detach").0, 0);
        assert!(ip("address show dev eth0").contains("192.168.0.1/24"));
        assert!(!ip("link show").contains("cni0"));
    });
}

#[test]
fn the_agent_attaches_and_its_routes_go_through_the_bridge() {
    Node::run(|node| {
        node.ip("link set eth0 address 02:00:00:00:00:01");
        let inventory = std::fs::read_to_string(node.inventory()).unwrap();
        let settings = "settings:\n  uplink: {name: eth0}\n  l2: {uplink: eth0}\n";
        std::fs::write(node.inventory(), format!("{settings}{inventory}")).unwrap();
        let mut agent = node.start_agent();
        let through =
            |link: &str| ip("route show 10.244.2.0/24").contains(&format!("via 192.168.0.2 dev {link} "));
        until("attached", || ip("link show dev eth0").contains("master cni0"));
        until("routes through the bridge", || through("cni0"));
        node.wait_ready();
        // Whoever takes it off finds it on again, and is told of.
        node.ip("link set eth0 nomaster");
        until("healed", || ip("link show dev eth0").contains("master cni0"));
        until("noted", || node.hopwise(&["status"]).1.contains("l2-healed"));
        agent.stop();
        assert!(ip("link show dev eth0").contains("master cni0"), "it needs no agent to stay up");
        let (code, said) = node.hopwise(&l2(node, "status"));
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with("eth0 is on cni0 (made for it), by the agent's setting l2\n"), "{said}");
        assert_eq!(node.hopwise(&l2(node, "detach")).0, 0);
        assert!(ip("address show dev eth0").contains("192.168.0.1/24"));
    });
}
