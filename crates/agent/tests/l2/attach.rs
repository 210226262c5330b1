//! Attaching and detaching, with traffic.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use hopwise_agent::l2::{L2Error, Point, Uplink, no_points};
use hopwise_core::l2::step::Step;

use crate::support::{Lan, PATIENCE, ip, options, run};

#[test]
fn what_was_is_again_and_everybody_is_reached_in_between() {
    let lan = Lan::new();
    ip(&lan.node, "address add 192.168.7.6/24 dev eth1 label eth1:b");
    ip(&lan.node, "neighbour add 192.168.7.20 lladdr 02:00:00:00:00:14 dev eth1 nud permanent");
    let before = lan.shown();
    let attached = lan.attach();
    let answered: Vec<String> = attached.answered.iter().map(ToString::to_string).collect();
    assert_eq!(answered, ["192.168.7.1", "fe80::1"]);
    assert!(!ip(&lan.node, "address show dev eth1").contains("inet"));
    assert!(ip(&lan.node, "route show default").starts_with("default via 192.168.7.1 dev cni0 "));
    assert!(ip(&lan.node, "address show dev cni0").contains("cni0:b"));
    lan.assert_reachable();
    // Attached once is attached.
    assert_eq!(lan.attach().commands, [""; 0]);
    lan.detach();
    lan.assert_shown(&before, "in the end");
    assert!(!lan.state().join("l2.json").exists());
    lan.assert_reachable();
    lan.in_node(|| {
        let error = Uplink::open(lan.state()).unwrap().detach(false, &mut no_points).unwrap_err();
        assert!(matches!(error, L2Error::NotAttached), "{error}");
    });
}

/// Sends a line and reads it back.
fn exchange(stream: &mut BufReader<TcpStream>, text: &str) {
    writeln!(stream.get_mut(), "{text}").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), text);
}

#[test]
fn connections_and_pings_survive() {
    let lan = Lan::new();
    for (listen, from) in [("192.168.7.20:0", "IPv4"), ("[fd07::20]:0", "IPv6")] {
        let listener = lan.host.run(|| TcpListener::bind(listen).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut copy = stream.try_clone().unwrap();
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                copy.write_all(&buffer[..len]).unwrap();
            }
        });
        let stream = lan.node.run(|| TcpStream::connect(address).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        exchange(&mut stream, from);
        lan.attach();
        exchange(&mut stream, "attached");
        lan.detach();
        exchange(&mut stream, "detached");
        drop(stream);
        echo.join().unwrap();
    }
    for address in ["192.168.7.5", "fd07::5"] {
        assert!(lost_while(&lan, address, || drop(lan.attach())) <= 3, "{address} while attaching");
        assert!(lost_while(&lan, address, || lan.detach()) <= 3, "{address} while detaching");
    }
}

/// How many of 25 echo requests of a host, five a second, are not answered while something is done.
fn lost_while(lan: &Lan, address: &str, work: impl FnOnce()) -> usize {
    let mut ping = lan
        .host
        .run(|| {
            Command::new("ping")
                .args(["-n", "-i", "0.2", "-c", "25", "-W", "20", address])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .unwrap();
    let mut lines = BufReader::new(ping.stdout.take().unwrap()).lines().map(Result::unwrap);
    // It runs.
    assert!(lines.any(|line| line.contains("icmp_seq=3")));
    work();
    let summary = lines.find(|line| line.contains("packets transmitted")).unwrap();
    ping.wait().unwrap();
    let count = |before: &str| -> usize {
        let at = summary.find(before).unwrap();
        summary[..at].trim_end().rsplit(' ').next().unwrap().parse().unwrap()
    };
    count(" packets transmitted") - count(" received")
}

#[test]
fn who_is_silent_before_is_named_and_nothing_is_changed() {
    let lan = Lan::new();
    let before = lan.shown();
    let mut options = options();
    options.timeout = Duration::from_secs(1);
    options.verify = vec!["192.168.7.77".parse().unwrap()];
    let error = lan
        .in_node(|| Uplink::open(lan.state()).unwrap().attach(&options, &mut no_points))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "192.168.7.77 did not answer through eth1 within 1 s, before anything was changed; name a host of the LAN that \
         does with --verify ADDRESS"
    );
    lan.assert_shown(&before, "in the end");
    assert!(!lan.state().join("l2.json").exists());
}

#[test]
fn an_address_behind_the_router_is_asked_by_echo_requests() {
    let lan = Lan::new();
    let mut options = options();
    options.verify = vec!["203.0.113.1".parse().unwrap(), "2001:db8:ffff::1".parse().unwrap()];
    let attached =
        lan.in_node(|| Uplink::open(lan.state()).unwrap().attach(&options, &mut no_points)).unwrap();
    assert_eq!(attached.answered, options.verify);
}

#[test]
fn a_router_that_is_silent_afterwards_has_everything_put_back() {
    let lan = Lan::new();
    let before = lan.shown();
    let mut options = options();
    options.timeout = Duration::from_secs(3);
    options.verify = vec!["192.168.7.1".parse().unwrap()];
    // A switch that lets nobody through once it sees what happens.
    let mut points = |point: Point<'_>| match point {
        Point::Verifying => drop(run(&lan.switch, "ip", "link set p1 nomaster")),
        Point::UndoBegins => drop(run(&lan.switch, "ip", "link set p1 master lan")),
        _ => {}
    };
    let error = lan.in_node(|| Uplink::open(lan.state()).unwrap().attach(&options, &mut points)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "192.168.7.1 did not answer within 3 s with eth1 on cni0; everything was put back"
    );
    lan.assert_shown(&before, "in the end");
    assert!(!lan.state().join("l2.json").exists());
    lan.assert_reachable();
}

#[test]
fn a_step_that_the_kernel_refuses_has_everything_put_back() {
    let lan = Lan::new();
    let before = lan.shown();
    // The address is taken away between looking and moving: its route's preferred source is nobody's then.
    let mut taken = false;
    let mut points = |point: Point<'_>| {
        if let Point::Before(Step::AddRoute(..)) = point
            && !std::mem::replace(&mut taken, true)
        {
            run(&lan.node, "ip", "address flush dev cni0 to 192.168.7.5");
            run(&lan.node, "ip", "address flush dev eth1 to 192.168.7.5");
        }
    };
    let error = lan.in_node(|| lan.attach_stepwise(&mut points)).unwrap_err().to_string();
    assert!(error.contains("ip route replace default via 192.168.7.1 dev cni0"), "{error}");
    assert!(error.ends_with("everything was put back"), "{error}");
    lan.assert_shown(&before, "in the end");
}

#[test]
fn another_uplink_is_refused_while_one_is_attached() {
    let lan = Lan::new();
    lan.attach();
    let mut options = options();
    options.wanted.uplink = "lo".parse().unwrap();
    let error = lan
        .in_node(|| Uplink::open(lan.state()).unwrap().attach(&options, &mut no_points))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("eth1 is attached to cni0 already"), "{error}");
    // Pods on the bridge keep it.
    ip(&lan.node, "link add pod0 type veth peer name pod1");
    ip(&lan.node, "link set pod0 master cni0");
    let error = lan.in_node(|| Uplink::open(lan.state()).unwrap().detach(false, &mut no_points)).unwrap_err();
    assert!(error.to_string().contains("cni0 has 1 ports besides eth1 (pod0)"), "{error}");
    lan.in_node(|| Uplink::open(lan.state()).unwrap().detach(true, &mut no_points)).unwrap();
    assert!(ip(&lan.node, "link show pod0").contains("master cni0"), "the pods' bridge stays");
    lan.assert_reachable();
    assert!(!ip(&lan.node, "address show dev cni0").contains("inet"));
}

#[test]
fn what_the_nodes_own_configuration_has_attached_is_left_to_it() {
    let lan = Lan::new();
    ip(&lan.node, "link add cni0 type bridge");
    ip(&lan.node, "link set eth1 master cni0");
    let before = lan.shown();
    assert_eq!(lan.attach().commands, [""; 0]);
    assert_eq!(
        lan.in_node(|| Uplink::open(lan.state()).unwrap().plan_attach(options().wanted)).unwrap(),
        [""; 0]
    );
    lan.assert_shown(&before, "in the end");
    assert!(!lan.state().join("l2.json").exists());
}
