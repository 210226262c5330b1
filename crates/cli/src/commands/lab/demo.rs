//! `hopwise lab demo`: the product in a few seconds, on this machine, nothing of it staged.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;
use hopwise_core::cidr::Cidr;
use hopwise_lab::check::CheckOptions;
use hopwise_lab::{Interrupt, Lab, LabName};

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

impl DemoCommand {
    /// Shows it, and takes everything down whatever happens.
    pub fn run(self) -> Result<Exit, Failure> {
        // A name of its own, so that a demo meets no other lab.
        let name: LabName = format!("demo{}", std::process::id()).parse().context("naming the lab")?;
        // Signals are noticed between two steps, so that what was made is always removed.
        let interrupt = Interrupt::watch();
        let start = Instant::now();
        let shown = show(&self.make, &name, &interrupt);
        let removed = hopwise_lab::down(&name).hint(format!("hopwise lab down --name {name}"));
        let exit = shown?;
        removed?;
        say(&format!("everything taken down again; {:.1} s in all\n", start.elapsed().as_secs_f64()))?;
        Ok(exit)
    }
}

fn show(make: &MakeArgs, name: &LabName, interrupt: &Interrupt) -> Result<Exit, Failure> {
    let start = Instant::now();
    let options = make.options(name.clone());
    let lab = progress::shown(|progress| hopwise_lab::up(&options, progress))?;
    let (nodes, pods) = (lab.layout().nodes().count(), lab.layout().pods().count());
    say(&format!(
        "{nodes} nodes with the real agent, {pods} pods attached by the real plugin, up in {:.1} s\n",
        start.elapsed().as_secs_f64()
    ))?;
    interrupt.check()?;

    let report = progress::shown(|progress| lab.check(&CheckOptions::default(), progress))?;
    say(&check::for_people(&report))?;
    interrupt.check()?;

    say(&format!("$ hopwise routes          # on {NODE}\n{}", routes_of(&lab)?))?;
    heal(&lab, interrupt)?;
    Ok(if report.ok { Exit::Good } else { Exit::Attention })
}

fn routes_of(lab: &Lab) -> Result<String, Failure> {
    Ok(routes::table(&routes::rows(&lab.agent_status(NODE)?)))
}

/// Deletes a route by hand and shows what a watcher of the kernel saw, then does it again for the median.
fn heal(lab: &Lab, interrupt: &Interrupt) -> Result<(), Failure> {
    let status = lab.agent_status(NODE)?;
    let route = status.peers.iter().flat_map(|peer| &peer.routes).find(|route| route.next_hop.is_some());
    let route = route.context("the agent has no route that could be deleted")?;
    let dst: Cidr = route.pod_cidr.parse().context("the pod CIDR of a route")?;
    let next_hop = route.next_hop.as_deref().unwrap_or_default();

    say(&format!("$ ip route del {dst}    # on {NODE}, by hand, while its agent runs"))?;
    let first = lab.inside(NODE, || healing::delete_and_watch(dst))??;
    say(&format!(
        "{dst} {next_hop} is back after {} ms, by the kernel's own notifications",
        milliseconds(first)
    ))?;
    let mut times = vec![first];
    while times.len() < TRIALS {
        interrupt.check()?;
        times.push(lab.inside(NODE, || healing::delete_and_watch(dst))??);
    }
    times.sort();
    let (median, slowest) = (milliseconds(times[times.len() / 2]), milliseconds(times[times.len() - 1]));
    say(&format!("healed {TRIALS} times of {TRIALS}: median {median} ms, slowest {slowest} ms\n"))?;
    let again = lab.agent_status(NODE)?;
    if again.peers != status.peers {
        return Err(anyhow!("the routes are not what they were before:\n{}", routes_of(lab)?).into());
    }
    Ok(())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn say(text: &str) -> anyhow::Result<()> {
    print_text(&format!("{text}\n"))
}
