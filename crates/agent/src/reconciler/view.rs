//! Taking in what the store says.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hopwise_api::status::ViewSource;
use hopwise_core::cluster::{ClusterView, ViewDelta};
use hopwise_core::config::NodeConfig;
use hopwise_core::diff::Touched;
use hopwise_core::plan::{self, Planner};
use hopwise_kernel::watch::Interest;

use super::inbox::{Mail, SourcedView};
use super::refresh::READING;
use super::{Network, NetworkError, Parts, Reconciler};

/// The wait after a host could not be read for the first plan.
const RETRY_BEGINNING: Duration = Duration::from_millis(200);

/// Which view is in use.
#[derive(Debug, Default)]
pub(super) struct ViewInUse {
    /// Where it is from.
    pub source: ViewSource,
    /// When it was last known to be current; `None`: it is now.
    pub current_until: Option<SystemTime>,
    /// A view that is to be planned from as soon as the host can be read.
    pub waiting: Option<Arc<ClusterView>>,
    /// When to try that.
    pub retry_at: Option<Instant>,
}

impl ViewInUse {
    /// How long ago the view was last known to be current.
    pub fn age(&self) -> Duration {
        self.current_until.and_then(|until| until.elapsed().ok()).unwrap_or_default()
    }
}

impl<N: Network> Reconciler<N> {
    /// Takes in everything of the mail but the questions.
    pub(super) fn take_news(&mut self, mail: &mut Mail) {
        for (slot, note) in std::mem::take(&mut mail.notes) {
            match note {
                Some(note) => self.notes.insert(slot, note),
                None => self.notes.remove(&slot),
            };
        }
        if let Some(view) = mail.view.take() {
            self.take_view(view);
        }
        if let Some(delta) = mail.delta.take() {
            self.take_delta(delta);
        }
        if let Some(since) = mail.trouble_since
            && self.view.source == ViewSource::Live
        {
            self.view.current_until = since;
        }
        if self.planner.is_none() {
            self.begin();
        }
    }

    fn take_view(&mut self, SourcedView { view, source, current_until }: SourcedView) {
        self.view.source = source;
        self.view.current_until = current_until;
        if self.planner.is_none() {
            self.view.waiting = Some(view);
            return;
        }
        let config = config_for(&self.parts, &view);
        self.parts.l2.want(config.l2);
        let Some(planner) = &mut self.planner else { return };
        // Other pod networks mean other foreign routes to know about.
        self.stale.host |= planner.view().networks.pods != view.networks.pods;
        let started = Instant::now();
        self.planned.merge(planner.set_config(config));
        self.planned.merge(planner.set_view(view));
        self.parts.metrics.plan_seconds.observe(started.elapsed().as_secs_f64());
        self.network.set_interest(interest(planner));
        self.learn_lookups();
    }

    fn take_delta(&mut self, delta: ViewDelta) {
        if let Some(view) = &mut self.view.waiting {
            let view = Arc::make_mut(view);
            for name in &delta.removed {
                view.nodes.remove(name);
            }
            view.nodes.extend(delta.upserted.into_iter().map(|node| (node.name.clone(), node)));
            return;
        }
        let Some(planner) = &mut self.planner else { return };
        let own = &self.parts.node;
        let about_us = delta.upserted.iter().any(|node| node.name == *own) || delta.removed.contains(own);
        let started = Instant::now();
        self.planned.merge(planner.update(delta));
        self.parts.metrics.plan_seconds.observe(started.elapsed().as_secs_f64());
        if about_us {
            let config = config_for(&self.parts, planner.view());
            self.parts.l2.want(config.l2);
            self.planned.merge(planner.set_config(config));
            self.network.set_interest(interest(planner));
        }
        self.learn_lookups();
    }

    /// Asks the kernel about addresses that no lookup is known for, before anything planned with them is applied: a peer
    /// with a new address must not pass through `unreachable` on its way.
    fn learn_lookups(&mut self) {
        let Some(planner) = &mut self.planner else { return };
        let unknown = planner.missing_lookups().clone();
        if unknown.is_empty() {
            return;
        }
        self.network.set_interest(interest(planner));
        match self.network.lookups(&unknown) {
            Ok(found) => self.planned.merge(planner.set_lookups(found)),
            Err(error) => {
                self.stale.host = true;
                self.reading_failed(&error);
            }
        }
    }

    /// Plans for the first time, as soon as there is a view.
    fn begin(&mut self) {
        let Some(view) = self.view.waiting.take() else { return };
        if let Err(error) = self.begin_with(&view) {
            self.view.waiting = Some(view);
            self.view.retry_at = Some(Instant::now() + RETRY_BEGINNING);
            self.reading_failed(&error);
        }
    }

    fn begin_with(&mut self, view: &Arc<ClusterView>) -> Result<(), NetworkError> {
        let config = config_for(&self.parts, view);
        self.parts.l2.want(config.l2);
        let targets = plan::lookup_targets(view, &config);
        let host = self.network.host(&view.networks.pods, &targets)?;
        self.observed = self.network.observe(&plan::sysctl_keys(&host))?;
        let started = Instant::now();
        let planner = self.planner.insert(Planner::new(view.clone(), host, config));
        self.parts.metrics.plan_seconds.observe(started.elapsed().as_secs_f64());
        self.planned = Touched { everything: true, ..Touched::default() };
        self.drift = Touched::default();
        // Routes first: what foreign netfilter rules do is read when they are in.
        self.stale.netfilter_at = Some(Instant::now());
        self.notes.remove(READING);
        self.network.set_interest(interest(planner));
        Ok(())
    }
}

fn config_for(parts: &Parts, view: &ClusterView) -> NodeConfig {
    let node = parts.node.clone();
    match view.nodes.get(&node) {
        Some(own) => NodeConfig::resolve(node, &[&view.settings, &own.settings, &parts.settings]),
        None => NodeConfig::resolve(node, &[&view.settings, &parts.settings]),
    }
}

/// What the plan depends on. The watch is told before it is read, so that no change falls between the two.
pub(super) fn interest(planner: &Planner) -> Interest {
    let node = &planner.plan().node;
    Interest {
        pod_networks: planner.view().networks.pods.clone(),
        own_pod_cidrs: node.pod_cidrs.clone(),
        lookups: plan::lookup_targets(planner.view(), planner.config()),
        uplinks: node.uplink.iter().filter_map(|(_, uplink)| Some(uplink.as_ref()?.link)).collect(),
    }
}
