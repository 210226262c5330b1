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

/// What the watcher saw, counted from the moment before the deletion was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Healing {
    /// When the kernel said that the route is gone.
    pub gone: Duration,
    /// When the kernel said that it is back.
    pub back: Duration,
}

/// Deletes the agent's route to a destination and waits until the kernel says that it is back.
pub fn delete_and_watch(dst: Cidr) -> Result<Healing> {
    let mut watch = Watch::open()?;
    let mut kernel = Rtnl::open()?;
    let route = RouteSpec { protocol: mark::PROTOCOL, ..RouteSpec::new(dst) };
    let start = Instant::now();
    kernel.delete_route(&route).with_context(|| format!("ip route del {dst} proto {}", mark::PROTOCOL))?;
    let (mut gone, mut events) = (None, Vec::new());
    while start.elapsed() < PATIENCE {
        let [routes, netfilter] = watch.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let rest = PATIENCE.saturating_sub(start.elapsed()) + Duration::from_millis(1);
        nix::poll::poll(&mut [routes, netfilter], PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX))?;
        let now = start.elapsed();
        events.clear();
        watch.read(&mut events)?;
        for event in &events {
            match event {
                Event::Route { key, now: None } if key.dst == dst => gone = Some(now),
                Event::Route { key, now: Some(_) } if key.dst == dst => {
                    return Ok(Healing { gone: gone.unwrap_or(now), back: now });
                }
                _ => {}
            }
        }
    }
    bail!("{dst} was deleted and is not back after {PATIENCE:?}")
}
