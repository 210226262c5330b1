//! SIGKILL before every system call of ADD and of DEL, and what a runtime may do then: DEL, GC, or nothing at all and the
//! next pod. Nothing may be left, and everything goes on working.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Call, Host, Pod};
use crate::{V4, V6};

/// Runs a call and kills it as it enters system call number `last`, counted from the end of its execve. Returns whether it
/// was killed, so whether it has that many.
fn killed_at(host: &Host, call: &Call<'_>, config: &Value, last: usize) -> bool {
    let text = config.to_string();
    let run = || {
        let mut command = host.command(call, config);
        // SAFETY: ptrace and what it is called with are fit for a child that has just been forked.
        unsafe {
            command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let pid = i32::try_from(child.id()).unwrap();
        let killed = step(pid, last);
        drop(child);
        killed
    };
    host.namespace.run(run).unwrap()
}

/// A pod whose namespace is held by a process, so that its path is gone for good when it is.
struct Sandbox {
    pod: Pod,
    holder: Child,
}

impl Sandbox {
    fn new() -> Sandbox {
        let pod = Pod::new();
        // It ends with our end of the pipe, however this process ends.
        let spawn = || Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Sandbox { holder: pod.namespace.run(spawn).unwrap(), pod }
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Waits for the next stop; `false` at the end.
fn stopped(pid: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WIFSTOPPED(status)
}

fn step(pid: libc::pid_t, last: usize) -> bool {
    let trace = |request, data: libc::c_long| {
        // SAFETY: these requests read and write no memory of ours.
        let outcome = unsafe { libc::ptrace(request, pid, 0, data) };
        assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    };
    assert!(stopped(pid), "it stops after its execve");
    // If this test ends first, the plugin ends with it.
    trace(libc::PTRACE_SETOPTIONS, libc::c_long::from(libc::PTRACE_O_EXITKILL));
    for _ in 0..last {
        trace(libc::PTRACE_SYSCALL, 0);
        if !stopped(pid) {
            return false;
        }
        trace(libc::PTRACE_SYSCALL, 0);
        if !stopped(pid) {
            return false;
        }
    }
    trace(libc::PTRACE_SYSCALL, 0);
    if !stopped(pid) {
        return false;
    }
    // SAFETY: a process of ours that is not waited for yet.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    assert!(!stopped(pid), "SIGKILL ends it");
    true
}

fn masqueraded(host: &Host) -> bool {
    let list = || Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    let listed = host.namespace.run(list).unwrap();
    assert!(listed.status.success(), "nft list ruleset");
    String::from_utf8(listed.stdout).unwrap().contains("elements")
}

#[track_caller]
fn assert_nothing_left(host: &Host, what: &str) {
    // The links of a namespace that is gone go a little later.
    let started = Instant::now();
    while host.n_veths() > 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: {:?}", host.links().keys());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(host.reserved(), [""; 0], "{what}");
    assert!(!masqueraded(host), "{what}: still masqueraded");
    for entry in std::fs::read_dir(host.data_dir().join("net")).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "lock" || name.starts_with("last_reserved_ip."), "{what}: {name}");
    }
}

fn gc(host: &Host, config: &Value) {
    let mut config = config.clone();
    config["cni.dev/valid-attachments"] = json!([]);
    host.call(&Call { command: "GC", id: "", netns: "", ifname: "", args: "" }, &config).ok();
}

/// What a runtime does after the crash, by turns.
fn react(host: &Host, config: &Value, pod: Sandbox, turn: usize, what: &str) {
    match turn % 4 {
        0 => drop(host.del("pod", &pod.path(), config).ok()),
        1 => gc(host, config),
        2 => {
            // The sandbox is thrown away first, as most do.
            drop(pod);
            gc(host, config);
        }
        _ => {
            drop(pod);
            let next = Sandbox::new();
            host.call(&Call::new("ADD", "next", &next.path()), config).ok();
            assert!(next.pod.links().contains_key("eth0"), "{what}");
            host.del("next", &next.path(), config).ok();
            gc(host, config);
        }
    }
    assert_nothing_left(host, what);
}

fn kill_add_and_del(keys: &Value) {
    let host = Host::new();
    let config = host.config("1.1.0", &[V4, V6], keys.clone());
    let add = |pod: &Sandbox, last| killed_at(&host, &Call::new("ADD", "pod", &pod.path()), &config, last);
    let mut last = 0;
    loop {
        let pod = Sandbox::new();
        let killed = add(&pod, last);
        react(&host, &config, pod, last, &format!("ADD killed at {last}, reaction {}", last % 4));
        if !killed {
            break;
        }
        last += 1;
    }
    assert!(last > 50, "only {last} system calls were seen");
    let mut last = 0;
    loop {
        let pod = Sandbox::new();
        host.call(&Call::new("ADD", "pod", &pod.path()), &config).ok();
        let killed = killed_at(&host, &Call::new("DEL", "pod", &pod.path()), &config, last);
        react(&host, &config, pod, last, &format!("DEL killed at {last}, reaction {}", last % 4));
        if !killed {
            break;
        }
        last += 1;
    }
    assert!(last > 50, "only {last} system calls were seen");
    // And all is well after.
    let pod = Sandbox::new();
    host.call(&Call::new("ADD", "pod", &pod.path()), &config).ok();
    host.del("pod", &pod.path(), &config).ok();
    assert_nothing_left(&host, "in the end");
}

#[test]
fn bridge_killed_at_every_system_call() {
    kill_add_and_del(&json!({"isDefaultGateway": true, "ipMasq": true}));
}

#[test]
fn ptp_killed_at_every_system_call() {
    kill_add_and_del(&json!({"type": "ptp", "ipMasq": true}));
}
