//! `hopwise lab demo`: the product in a few seconds, on this machine, nothing of it staged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use hopwise_core::cidr::Cidr;
use hopwise_lab::check::CheckOptions;
use hopwise_lab::{Lab, LabName};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{MakeArgs, check, healing, progress};
use crate::commands::routes;
use crate::exit::{Exit, Failure, Hint};
use crate::output::print_text;

/// How often the route is deleted for the median.
const TRIALS: usize = 20;

/// The node that is looked at.
const NODE: &str = "node1";

/// Arguments of `hopwise lab demo`.
#[derive(Args, Debug)]
pub struct DemoCommand {
    #[command(flatten)]
    make: MakeArgs,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signal(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

impl DemoCommand {
    /// Shows it, and takes everything down whatever happens.
    pub fn run(self) -> Result<Exit, Failure> {
        // A name of its own, so that a demo meets no other lab.
        let name: LabName = format!("demo{}", std::process::id()).parse().context("naming the lab")?;
        catch_signals()?;
        let start = Instant::now();
        let shown = show(&self.make, &name);
        let removed = hopwise_lab::down(&name).hint(format!("hopwise lab down --name {name}"));
        let exit = shown?;
        removed?;
        say(&format!("everything taken down again; {:.1} s in all\n", start.elapsed().as_secs_f64()))?;
        Ok(exit)
    }
}

fn show(make: &MakeArgs, name: &LabName) -> Result<Exit, Failure> {
    let start = Instant::now();
    let options = make.options(name.clone());
    let lab = progress::shown(|progress| hopwise_lab::up(&options, progress))?;
    let (nodes, pods) = (lab.layout().nodes().count(), lab.layout().pods().count());
    say(&format!(
        "{nodes} nodes with the real agent, {pods} pods attached by the real plugin, up in {:.1} s\n",
        start.elapsed().as_secs_f64()
    ))?;
    go_on()?;

    let report = progress::shown(|progress| lab.check(&CheckOptions::default(), progress))?;
    say(&check::for_people(&report))?;
    go_on()?;

    say(&format!("$ hopwise routes          # on {NODE}\n{}", routes_of(&lab)?))?;
    let healed = heal(&lab)?;
    Ok(if report.ok && healed { Exit::Good } else { Exit::Attention })
}

fn routes_of(lab: &Lab) -> Result<String, Failure> {
    Ok(routes::table(&routes::rows(&lab.agent_status(NODE)?)))
}

/// Deletes a route by hand and shows what a watcher of the kernel saw, then does it again for the median.
fn heal(lab: &Lab) -> Result<bool, Failure> {
    let status = lab.agent_status(NODE)?;
    let route = status.peers.iter().flat_map(|peer| &peer.routes).find(|route| route.next_hop.is_some());
    let route = route.context("the agent has no route that could be deleted")?;
    let dst: Cidr = route.pod_cidr.parse().context("the pod CIDR of a route")?;
    let next_hop = route.next_hop.as_deref().unwrap_or_default();

    say(&format!("$ ip route del {dst}      # on {NODE}, by hand, while its agent runs"))?;
    let first = lab.inside(NODE, || healing::delete_and_watch(dst))??;
    say(&format!("  {} ms  the kernel says: gone", milliseconds(first.gone)))?;
    say(&format!("  {} ms  the kernel says: {dst} {next_hop} is back\n", milliseconds(first.back)))?;
    let mut times = vec![first.back];
    while times.len() < TRIALS {
        go_on()?;
        times.push(lab.inside(NODE, || healing::delete_and_watch(dst))??.back);
    }
    times.sort();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    say(&format!(
        "healed {TRIALS} times of {TRIALS}: median {} ms, slowest {} ms\n",
        milliseconds(median).trim(),
        milliseconds(slowest).trim()
    ))?;
    let again = lab.agent_status(NODE)?;
    if again.peers != status.peers {
        return Err(anyhow!("the routes are not what they were before:\n{}", routes_of(lab)?).into());
    }
    Ok(true)
}

fn milliseconds(time: Duration) -> String {
    format!("{:6.2}", time.as_secs_f64() * 1e3)
}

fn say(text: &str) -> anyhow::Result<()> {
    print_text(&format!("{text}\n"))
}

/// An error once somebody wants it to stop.
fn go_on() -> anyhow::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted; everything has been taken down again");
    }
    Ok(())
}

/// From here on SIGINT, SIGTERM and SIGHUP are noticed between two steps: what was made is always removed.
fn catch_signals() -> anyhow::Result<()> {
    let action = SigAction::new(SigHandler::Handler(note_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.context("can't listen for signals")?;
    }
    Ok(())
}
