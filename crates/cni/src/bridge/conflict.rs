//! `addressConflictDetection`: asking the LAN whether an address is free before a pod gets it.
//!
//! Where the bridge has an uplink, hosts that know nothing of us have addresses of the same subnet. The address is reserved
//! first, and asked for without the allocation folder's lock, so that pods don't wait for each other; what turns out to
//! be somebody else's is noted and given back, and the next one is tried.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hopwise_kernel::probe::{Conflict, Pace, Prober};
use hopwise_kernel::rtnl::{LinkInfo, Rtnl};

use crate::ipam::Ipam;
use crate::json::{FieldError, Object};
use crate::spec::{AddResult, CniError, Code, Request};

const KEY: &str = "addressConflictDetection";
/// The longest that an ADD looks for an address that nobody has. The next one goes on where this one ended.
const LONGEST: Duration = Duration::from_secs(20);

/// How conflicts are detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// How often and how fast is asked.
    pub pace: Pace,
    /// How long an address that somebody had is not tried again.
    pub retry_after: Duration,
}

impl Default for Detection {
    fn default() -> Detection {
        Detection {
            pace: Pace { probes: 3, interval: Duration::from_millis(50) },
            retry_after: Duration::from_secs(600),
        }
    }
}

impl Detection {
    /// Reads the key: `true`, `false`, or an object with `probes`, `intervalMilliseconds`, `retryAfterSeconds`, which asks
    /// for it too.
    pub fn load(root: &Object<'_>) -> Result<Option<Detection>, FieldError> {
        if root.get(KEY).is_none_or(serde_json::Value::is_boolean) {
            return Ok(root.bool(KEY)?.then(Detection::default));
        }
        let Some(object) = root.object(KEY)? else { return Ok(None) };
        let within = |key: &str, default: u64, most: u64| match object.number::<u64>(key)? {
            None => Ok(default),
            Some(number) if (1..=most).contains(&number) => Ok(number),
            Some(number) => {
                let problem = format!("{number} is not between 1 and {most}");
                Err(FieldError { field: object.field(key), problem })
            }
        };
        let default = Detection::default();
        let probes = within("probes", default.pace.probes.into(), 10)?;
        let interval = within("intervalMilliseconds", default.pace.interval.as_millis() as u64, 2000)?;
        Ok(Some(Detection {
            pace: Pace { probes: probes as u32, interval: Duration::from_millis(interval) },
            retry_after: Duration::from_secs(within(
                "retryAfterSeconds",
                default.retry_after.as_secs(),
                86_400,
            )?),
        }))
    }
}

/// Takes addresses that nobody on the bridge's network has.
///
/// # Errors
///
/// When there are none; [`Code::TryAgainLater`] when the time was over before one was found. The message names who has
/// those that were tried. Nothing is reserved then.
pub fn add(
    host: &mut Rtnl,
    bridge: &LinkInfo,
    ipam: &Ipam<'_>,
    request: &Request,
    detection: Detection,
) -> Result<AddResult, CniError> {
    let own = bridge.mac.ok_or_else(|| {
        CniError::failed(format!("{KEY}: bridge {:?} has no MAC address", bridge.name.as_str()))
    })?;
    let mut prober = Prober::new(bridge.index, own);
    let started = Instant::now();
    let mut found: Vec<Conflict> = Vec::new();
    loop {
        let result = ipam.add(request)?;
        let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.address).collect();
        let conflicts = detect(host, &mut prober, own, &addresses, detection.pace).map_err(|error| {
            let _ = ipam.del(request);
            error.context(format!("{KEY} on bridge {:?}", bridge.name.as_str()))
        })?;
        if conflicts.is_empty() {
            return Ok(result);
        }
        for Conflict { address, holder } in &conflicts {
            eprintln!("hopwise-cni: {address} is held by {holder}: not given to {}", request.container_id);
        }
        ipam.decline(request, &conflicts)?;
        let asked_for = conflicts.iter().any(|conflict| !ipam.has_choice(conflict.address));
        found.extend(conflicts);
        if asked_for {
            return Err(naming(CniError::failed("the address is in use by another host"), &found));
        }
        if started.elapsed() > LONGEST {
            let msg = format!("no address that nobody has was found in {} s", LONGEST.as_secs());
            return Err(naming(CniError::new(Code::TryAgainLater, msg), &found));
        }
    }
}

/// Who has which of the addresses: this host, or another on the bridge's network.
fn detect(
    host: &mut Rtnl,
    prober: &mut Prober,
    own: hopwise_core::name::MacAddr,
    addresses: &[IpAddr],
    pace: Pace,
) -> Result<Vec<Conflict>, CniError> {
    for address in addresses {
        let is_own = host.is_own(*address).map_err(|error| CniError::caused("route lookup", &error))?;
        if is_own {
            return Ok(vec![Conflict { address: *address, holder: own }]);
        }
    }
    prober.probe(addresses, pace).map_err(|error| CniError::caused("can't probe", &error))
}

fn naming(error: CniError, found: &[Conflict]) -> CniError {
    let held = |Conflict { address, holder }: &Conflict| format!("{address} is held by {holder}");
    let held: Vec<String> = found.iter().map(held).collect();
    error.details(held.join(", "))
}
