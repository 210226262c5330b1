//! The commands on a node: in a network namespace with the real agent, checked with `ip` and `nft`.

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

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
fn an_uplink_goes_to_the_bridge_and_comes_back() {
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

/// What addresses and routes the node has. Routes to the same place are listed in the order of making.
fn addresses_and_routes() -> Vec<String> {
    let shown = [
        "-o address show dev eth0",
        "-o link show type bridge",
        "-4 route show table all",
        "-6 route show table main",
    ];
    let mut lines: Vec<String> =
        shown.into_iter().flat_map(|args| ip(args).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn an_attach_that_is_killed_is_undone_and_a_detach_finished() {
    Node::run(|node| {
        let before = addresses_and_routes();
        let killed = |args: &str, after: Duration| {
            let mut command = node.command();
            let mut child =
                command.args(l2(node, args)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(after);
            // SIGKILL; an error says that it had ended.
            let _ = child.kill();
            child.wait().unwrap()
        };
        let mut cut_short = 0;
        for step in 0..40 {
            let after = Duration::from_micros(step * 250);
            let status = killed("attach --uplink eth0", after);
            cut_short += usize::from(!status.success());
            // Undoes what the dead one began, then says that nothing is attached; or detaches what it had finished.
            let (code, said) = node.hopwise(&l2(node, "detach"));
            let nothing = code == 1 && said.contains("nothing is attached here");
            assert!(code == 0 || nothing, "attach killed after {after:?}, then detach: {said}");
            // The kernel makes some IPv6 routes in its own time.
            until(&format!("as it was: attach killed after {after:?}"), || addresses_and_routes() == before);

            assert_eq!(node.hopwise(&l2(node, "attach --uplink eth0")).0, 0);
            let status = killed("detach", after);
            cut_short += usize::from(!status.success());
            let (code, said) = node.hopwise(&l2(node, "detach"));
            let nothing = code == 1 && said.contains("nothing is attached here");
            assert!(code == 0 || nothing, "detach killed after {after:?}, then detach: {said}");
            until(&format!("as it was: detach killed after {after:?}"), || addresses_and_routes() == before);
        }
        assert!(cut_short > 0, "none was killed in time");
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
