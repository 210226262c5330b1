//! Prometheus metrics. `docs/metrics.md` describes each for operators.
//!
//! Counters and histograms are kept by whoever counts, in [`Metrics`]. What can be counted from the state at any time
//! ([`Gauges`]) is counted when somebody asks, so that no change pays for it. No label has values that grow with the
//! cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use hopwise_api::status::{FamilyName, ReachMode, SeverityName, ViewSource};
use hopwise_core::report::ObjectKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// A label for the kind of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

impl From<ObjectKind> for KindLabel {
    fn from(kind: ObjectKind) -> Self {
        KindLabel { kind: kind.as_str() }
    }
}

/// A counter per kind of object.
type PerKind = Family<KindLabel, Counter>;

/// What is counted as it happens. Cloning gives another handle to the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Objects put back after something else changed them.
    pub repairs: PerKind,
    /// From reading the notification to the repair being in the kernel, in seconds.
    pub repair_seconds: Family<KindLabel, Histogram, fn() -> Histogram>,
    /// Changes that the kernel refused.
    pub apply_errors: PerKind,
    /// Changes that took effect.
    pub applied: Counter,
    /// Time to bring the plan up to date, in seconds.
    pub plan_seconds: Histogram,
    /// Time to compare, in seconds.
    pub diff_seconds: Histogram,
    /// Time to apply, in seconds.
    pub apply_seconds: Histogram,
    /// Losses of notifications.
    pub overruns: Counter,
    /// Slow full checks.
    pub full_checks: Counter,
    /// Objects that only a full check found to differ.
    pub full_check_findings: Counter,
}

/// From 10 us to 10 s, three steps for each factor of ten.
fn latency() -> Histogram {
    Histogram::new([
        10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5,
        1.0, 2.0, 5.0, 10.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            repairs: PerKind::default(),
            repair_seconds: Family::new_with_constructor(latency as fn() -> Histogram),
            apply_errors: PerKind::default(),
            applied: Counter::default(),
            plan_seconds: latency(),
            diff_seconds: latency(),
            apply_seconds: latency(),
            overruns: Counter::default(),
            full_checks: Counter::default(),
            full_check_findings: Counter::default(),
        }
    }
}

impl Metrics {
    /// A registry with all of these and the version of the agent.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("hopwise_agent");
        registry.register(
            "build",
            "The version of the agent",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "drift_repairs",
            "Objects put back after something else changed them",
            self.repairs.clone(),
        );
        registry.register_with_unit(
            "drift_repair",
            "From reading the kernel's notification to the repair being in the kernel",
            Unit::Seconds,
            self.repair_seconds.clone(),
        );
        registry.register("apply_errors", "Changes that the kernel refused", self.apply_errors.clone());
        registry.register("changes_applied", "Changes that took effect", self.applied.clone());
        for (name, help, histogram) in [
            ("plan", "Time to bring the plan up to date", &self.plan_seconds),
            ("diff", "Time to compare what is observed with what is desired", &self.diff_seconds),
            ("apply", "Time to apply a set of changes", &self.apply_seconds),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register(
            "notification_overruns",
            "How often kernel notifications were lost and everything was read again",
            self.overruns.clone(),
        );
        registry.register("full_checks", "Slow full checks", self.full_checks.clone());
        registry.register(
            "full_check_findings",
            "Objects that only a full check found to differ",
            self.full_check_findings.clone(),
        );
        registry
    }

    /// The value of each counter of a family that is not zero.
    pub fn counts(family: &PerKind) -> BTreeMap<String, u64> {
        ObjectKind::ALL
            .iter()
            .filter_map(|kind| {
                let count = family.get(&KindLabel::from(*kind))?.get();
                (count > 0).then(|| (kind.as_str().to_owned(), count))
            })
            .collect()
    }
}

/// What is counted from the state when somebody asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Peers by mode and family.
    pub peers: BTreeMap<(ReachMode, FamilyName), u64>,
    /// Our routes in the kernel, by family.
    pub routes: BTreeMap<FamilyName, u64>,
    /// Where the view in use is from.
    pub view_source: ViewSource,
    /// Its age, as [`hopwise_api::status::ViewStatus::age_seconds`].
    pub view_age: Duration,
    /// Nodes in it.
    pub view_nodes: u64,
    /// Notes by identifier and severity.
    pub notes: BTreeMap<(&'static str, SeverityName), u64>,
    /// Whether the node is ready.
    pub ready: bool,
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // The registry puts its prefix before the name.
        let mut gauge = |name: &str, help, series: &[(Vec<(&str, &str)>, f64)]| {
            let metric = ConstGauge::new(0.0);
            let mut family = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            for (labels, value) in series {
                let labels: &[(&str, &str)] = labels;
                let gauge = ConstGauge::new(*value);
                if labels.is_empty() {
                    return gauge.encode(family);
                }
                gauge.encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        };
        let mut peers = Vec::new();
        for mode in ReachMode::ALL {
            for family in [FamilyName::Ipv4, FamilyName::Ipv6] {
                let count = self.peers.get(&(mode, family)).copied().unwrap_or(0);
                peers.push((vec![("mode", mode.as_str()), ("family", family.as_str())], count as f64));
            }
        }
        gauge("peers", "Peers by the way in which they are reached", &peers)?;
        let routes: Vec<_> = [FamilyName::Ipv4, FamilyName::Ipv6]
            .map(|family| {
                let count = self.routes.get(&family).copied().unwrap_or(0);
                (vec![("family", family.as_str())], count as f64)
            })
            .into();
        gauge("routes", "Routes of ours in the kernel", &routes)?;
        let source = [ViewSource::None, ViewSource::Saved, ViewSource::Live].map(|source| {
            (vec![("source", source.as_str())], f64::from(u8::from(source == self.view_source)))
        });
        gauge("view_source", "1 for the source of the cluster view in use", &source)?;
        gauge(
            "view_age_seconds",
            "How long ago the cluster view in use was last known to be current",
            &[(vec![], self.view_age.as_secs_f64())],
        )?;
        gauge("view_nodes", "Nodes in the cluster view", &[(vec![], self.view_nodes as f64)])?;
        let notes: Vec<_> = self
            .notes
            .iter()
            .map(|((id, severity), count)| {
                (vec![("id", *id), ("severity", severity.as_str())], *count as f64)
            })
            .collect();
        gauge("notes", "Findings by identifier and severity", &notes)?;
        gauge(
            "ready",
            "1 when a complete view is in use and every reachable peer's routes are in",
            &[(vec![], f64::from(u8::from(self.ready)))],
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_exposition_has_everything_that_the_documentation_names() {
        let metrics = Metrics::default();
        metrics.repairs.get_or_create(&ObjectKind::Route.into()).inc();
        metrics.repair_seconds.get_or_create(&ObjectKind::Route.into()).observe(0.0001);
        metrics.apply_errors.get_or_create(&ObjectKind::Link.into()).inc();
        let mut registry = metrics.registry();
        registry.register_collector(Box::new(Gauges {
            notes: BTreeMap::from([(("foreign-route", SeverityName::Warning), 1)]),
            ..Gauges::default()
        }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let documented: BTreeSet<&str> = include_str!("../../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `hopwise_agent_")?.split('`').next())
            .collect();
        let exposed: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE hopwise_agent_")?.split(' ').next())
            .collect();
        assert_eq!(exposed, documented);
        assert!(text.contains("hopwise_agent_peers{mode=\"direct\",family=\"ipv6\"} 0.0"), "{text}");
        assert_eq!(Metrics::counts(&metrics.repairs), BTreeMap::from([("route".to_owned(), 1)]));
    }
}
