//! Breaks a route in the calling thread's namespace and watches it heal: what `ip route del` does, and what `ip monitor`
//! would show, with the time in between.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hopwise_core::cidr::Cidr;
use hopwise_core::mark;
use hopwise_core::observed::Event;
use hopwise_kernel::rtnl::{RouteSpec, Rtnl};
use hopwise_kernel::watch::Watch;
use nix::poll::{PollFd, PollFlags, PollTimeout};

/// Longer than any safety net takes: who needs more has not healed.
const PATIENCE: Duration = Duration::from_secs(40);

/// Deletes the agent's route to a destination and waits until the kernel says that it is back. The time is from just
/// before the deletion is asked for.
pub fn delete_and_watch(dst: Cidr) -> Result<Duration> {
    let mut watch = Watch::open()?;
    let mut kernel = Rtnl::open()?;
    let route = RouteSpec { protocol: mark::PROTOCOL, ..RouteSpec::new(dst) };
    std::thread::scope(|scope| {
        let start = Instant::now();
        // Waiting before anything happens, on a thread of its own: what is measured is the kernel and the agent, not
        // how long the deletion takes to return to us.
        let watcher = scope.spawn(move || watch_for(&mut watch, dst, start));
        let deleted = kernel.delete_route(&route);
        deleted.with_context(|| format!("ip route del {dst} proto {}", mark::PROTOCOL))?;
        watcher.join().unwrap_or_else(|_| bail!("the watcher panicked"))
    })
}

fn watch_for(watch: &mut Watch, dst: Cidr, start: Instant) -> Result<Duration> {
    let (mut gone, mut events) = (false, Vec::new());
    while start.elapsed() < PATIENCE {
        let mut sockets = watch.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let rest = PATIENCE.saturating_sub(start.elapsed()) + Duration::from_millis(1);
        nix::poll::poll(&mut sockets, PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX))?;
        let now = start.elapsed();
        events.clear();
        watch.read(&mut events)?;
        for event in &events {
            match event {
                Event::Route { key, now: None } if key.dst == dst => gone = true,
                Event::Route { key, now: Some(_) } if gone && key.dst == dst => return Ok(now),
                _ => {}
            }
        }
    }
    bail!("{dst} was deleted and is not back after {PATIENCE:?}")
}
