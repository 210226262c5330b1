//! Whether somebody on the LAN still answers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hopwise_core::l2::refusal::Refusal;
use hopwise_core::l2::transfer::stand_ins_done;
use hopwise_core::l2::value::Wanted;
use hopwise_kernel::l2::L2;

use super::L2Error;

/// How long a router may take to answer a solicitation: up to 0.5 s (RFC 4861, `MAX_RA_DELAY_TIME`), and the way.
const ROUTER_ANSWERS: Duration = Duration::from_secs(2);

/// Those who answered before anything was changed.
#[derive(Debug)]
pub(super) struct Targets {
    answered: Vec<IpAddr>,
    timeout: Duration,
}

impl Targets {
    /// Asks the addresses given, else the routers, while nothing has been changed yet.
    ///
    /// An address that was given has to answer. Of the routers those count that do; one at least, where there are any: who
    /// is silent before can tell nothing afterwards.
    pub fn before(
        l2: &mut L2,
        wanted: Wanted,
        given: &[IpAddr],
        routers: &[IpAddr],
        timeout: Duration,
    ) -> Result<Targets, L2Error> {
        let asked = if given.is_empty() { routers } else { given };
        let mut answered = Vec::new();
        for address in asked {
            if l2.answers(wanted.uplink, *address, Instant::now() + timeout)? {
                answered.push(*address);
            } else if !given.is_empty() {
                return Err(silent(&[*address], wanted, timeout));
            }
        }
        if answered.is_empty() && !asked.is_empty() {
            return Err(silent(asked, wanted, timeout));
        }
        Ok(Targets { answered, timeout })
    }

    /// The first of them who does not answer through the bridge.
    pub fn silent_after(&mut self, l2: &mut L2, wanted: Wanted) -> Result<Option<IpAddr>, L2Error> {
        let deadline = Instant::now() + self.timeout;
        for address in &self.answered {
            if !l2.answers(wanted.bridge, *address, deadline)? {
                return Ok(Some(*address));
            }
        }
        Ok(None)
    }

    pub fn into_answered(self) -> Vec<IpAddr> {
        self.answered
    }
}

fn silent(addresses: &[IpAddr], wanted: Wanted, timeout: Duration) -> L2Error {
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    L2Error::Refused(Refusal {
        reason: format!(
            "{} did not answer through {} within {} s, before anything was changed",
            names.join(" and "),
            wanted.uplink,
            timeout.as_secs()
        ),
        fix: "name a host of the LAN that does with --verify ADDRESS".to_owned(),
    })
}

/// Waits until so many routers that advertise themselves have answered the kernel's solicitation, and takes away what stood
/// in for their routes. A slower router costs nothing: the stand-in ends by itself.
pub(super) fn wait_for_routers(l2: &mut L2, wanted: Wanted, mut stand_ins: usize) -> Result<(), L2Error> {
    let deadline = Instant::now() + ROUTER_ANSWERS;
    while stand_ins > 0 && Instant::now() < deadline {
        let observed = l2.observe(wanted)?;
        let done = stand_ins_done(&observed, wanted.bridge);
        if done.is_empty() {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        stand_ins = stand_ins.saturating_sub(done.len());
        l2.apply(&done, false, &mut |_| {})?;
    }
    Ok(())
}
