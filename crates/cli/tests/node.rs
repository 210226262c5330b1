//! The commands on a node: in a network namespace with the real agent, checked with `ip` and `nft`.

mod support;

use support::{Node, text};

/// What `plan --diff` says in a fresh namespace, and that saying it changes nothing.
#[test]
fn plan_diff_shows_what_would_change_and_changes_nothing() {
    Node::run(|node| {
        let before = node.kernel_state();
        let (code, shown) = node.hopwise(&["plan", "--diff", "--inventory", &node.inventory()]);
        assert_eq!(code, 2, "{shown}");
        for line in ["10.244.2.0/24", "inet hopwise", "net/ipv4/ip_forward=1"] {
            assert!(shown.contains(line), "no {line} in\n{shown}");
        }
        let (code, again) = node.hopwise(&["plan", "--diff", "--inventory", &node.inventory()]);
        assert_eq!((code, again), (2, shown));
        assert_eq!(node.kernel_state(), before);
    });
}

#[test]
fn without_an_agent_an_inventory_is_enough_to_see_the_routes() {
    Node::run(|node| {
        let (code, shown) = node.hopwise(&["routes", "--inventory", &node.inventory()]);
        assert_eq!(code, 2, "planned, but not in: {shown}");
        assert!(shown.contains("via 192.168.0.2 dev eth0  missing"), "{shown}");
        let (code, shown) = node.hopwise(&["routes", "--inventory", &node.inventory(), "-o", "ip"]);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("10.244.2.0/24 via 192.168.0.2 dev eth0"), "{shown}");
        assert!(!shown.contains("nexthop"), "a person types gateways: {shown}");
    });
}

/// From start to cleanup: every command's answer and exit code while the agent runs, after it, and after cleaning up.
#[test]
fn agent_routes_status_plan_cleanup() {
    Node::run(|node| {
        node.ip("route add 10.244.9.0/24 via 192.168.0.9");
        let before = node.kernel_state();
        let mut agent = node.start_agent();
        node.wait_ready();

        let (code, shown) = node.hopwise(&["routes"]);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("via 192.168.0.2 dev eth0  in"), "{shown}");
        let (code, shown) = node.hopwise(&["status"]);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.starts_with("node      node1  ready"), "{shown}");
        let (code, shown) = node.hopwise(&["plan", "--diff", "--inventory", &node.inventory()]);
        assert_eq!((code, shown.as_str()), (0, "# node1: nothing would change\n"));

        // The commands that a person would type lead where the agent's routes lead.
        let (code, by_hand) = node.hopwise(&["routes", "-o", "ip"]);
        assert_eq!(code, 0, "{by_hand}");
        assert!(by_hand.contains("10.244.2.0/24 via 192.168.0.2 dev eth0"), "{by_hand}");

        let (code, refused) = node.hopwise(&node.cleanup(&[]));
        assert_eq!(code, 1, "{refused}");
        assert!(refused.contains("an agent is running") && refused.contains("hint:"), "{refused}");

        agent.stop();
        let routes = text("ip", &["route", "show", "proto", "72"]);
        assert!(routes.contains("10.244.2.0/24"), "an agent that ends leaves its routes: {routes}");

        let (code, shown) = node.hopwise(&["plan", "--diff", "--state-dir", &node.path("state")]);
        assert_eq!(
            (code, shown.as_str()),
            (0, "# node1: nothing would change\n"),
            "from the view that it saved"
        );

        let standing = node.kernel_state();
        let (code, planned) = node.hopwise(&node.cleanup(&["--dry-run"]));
        assert_eq!(code, 0, "{planned}");
        assert!(planned.contains("10.244.2.0/24") && planned.contains("nothing was changed"), "{planned}");
        assert_eq!(node.kernel_state(), standing);

        let (code, done) = node.hopwise(&node.cleanup(&[]));
        assert_eq!(code, 0, "{done}");
        assert_eq!(node.kernel_state(), before, "cleanup removes all of ours and nothing else");
        let (code, again) = node.hopwise(&node.cleanup(&[]));
        assert_eq!(code, 0, "{again}");
        assert!(!again.contains("10.244") && !again.contains("nft") && !again.contains("sysctl"), "{again}");
    });
}

#[test]
fn the_commands_by_hand_make_the_same_routes() {
    Node::run(|node| {
        let (_, commands) = node.hopwise(&["routes", "--inventory", &node.inventory(), "-o", "ip"]);
        let done = support::shell(&commands);
        assert!(done.status.success(), "{commands}\n{}", String::from_utf8_lossy(&done.stderr));
        let (code, shown) = node.hopwise(&["routes", "--inventory", &node.inventory()]);
        assert!(shown.contains("10.244.2.0/24"), "{shown}");
        assert_eq!(code, 0, "the routes typed by hand are what is planned: {shown}");
    });
}
