//! The bandwidth plugin's keys, and the arithmetic from rates to what the kernel wants.

use hopwise_core::name::LinkName;
use hopwise_kernel::rtnl::Tbf;

use crate::config::NetworkConfig;
use crate::json::{FieldError, Object};
use crate::pod::discard;
use crate::sha512;
use crate::spec::CniError;

/// How long a packet may wait, in microseconds.
const LATENCY: f64 = 25_000.0;
const SECOND: f64 = 1_000_000.0;
/// Ticks of 64 ns in a microsecond.
const TICKS: f64 = 15.625;

/// What the bandwidth plugin is to do. Rates are as the pod sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandwidthConfig {
    /// `ingressRate`, `ingressBurst`: what the pod receives.
    pub ingress: Option<Shape>,
    /// `egressRate`, `egressBurst`: what the pod sends.
    pub egress: Option<Shape>,
}

/// A rate and how much may exceed it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bits per second, at least 8.
    pub rate: u64,
    /// Bits.
    pub burst: u64,
}

impl BandwidthConfig {
    /// Reads and checks the keys. Any of them in the configuration itself hides `runtimeConfig.bandwidth`.
    ///
    /// # Errors
    ///
    /// When a value has the wrong shape, or a rate comes without its burst or the other way round.
    pub fn load(config: &NetworkConfig) -> Result<BandwidthConfig, CniError> {
        let root = config.root();
        discard::check_key(config)?;
        let keys = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
        let runtime = root.object("runtimeConfig")?.map(|runtime| runtime.object("bandwidth")).transpose()?;
        let holder = match runtime.flatten() {
            Some(runtime) if keys.iter().all(|key| root.get(key).is_none()) => runtime,
            _ => root,
        };
        Ok(BandwidthConfig {
            ingress: Shape::load(&holder, "ingressRate", "ingressBurst")?,
            egress: Shape::load(&holder, "egressRate", "egressBurst")?,
        })
    }

    /// Whether there is nothing to shape.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

impl Shape {
    fn load(holder: &Object<'_>, rate_key: &str, burst_key: &str) -> Result<Option<Shape>, CniError> {
        let number = |key| holder.number::<u64>(key).map(Option::unwrap_or_default);
        let (rate, burst) = (number(rate_key)?, number(burst_key)?);
        let wrong = |key: &str, problem: String| Err(FieldError { field: holder.field(key), problem }.into());
        match (rate, burst) {
            (0, 0) => Ok(None),
            (_, 0) => wrong(burst_key, "if rate is set, burst must also be set".to_owned()),
            (0, _) => wrong(rate_key, "if burst is set, rate must also be set".to_owned()),
            (..8, _) => wrong(rate_key, format!("{rate} bits per second is less than a byte")),
            (..) if burst / 8 >= u64::from(u32::MAX) => {
                wrong(burst_key, format!("{burst}: burst cannot be more than 4GB"))
            }
            (..) => Ok(Some(Shape { rate, burst })),
        }
    }

    /// The token bucket filter that the reference makes of it, number for number.
    pub fn tbf(&self) -> Tbf {
        let (rate, burst) = (self.rate / 8, (self.burst / 8) as u32);
        let lasts = wrapping(f64::from(burst) * SECOND / rate as f64);
        Tbf {
            rate,
            limit: wrapping(rate as f64 * LATENCY / SECOND).wrapping_add(burst),
            buffer: wrapping(f64::from(lasts) * TICKS),
        }
    }
}

/// The conversion of a number beyond 32 bits as amd64 does it in Go: its lowest 32 bits. containerd's burst (2^32 - 1 bits)
/// goes beyond for rates below 16 Mbit/s, and a CHECK by the other plugin has to find the numbers that it expects.
fn wrapping(number: f64) -> u32 {
    if number < i64::MAX as f64 { number as i64 as u32 } else { 0 }
}

/// The name of the `ifb` device for what a container sends, the same as the reference's.
pub fn ifb_name(network: &str, container_id: &str) -> LinkName {
    let name = sha512::name_of("bwp", &format!("{network}{container_id}"), 15);
    name.parse().expect("15 letters and digits are a link name")
}
