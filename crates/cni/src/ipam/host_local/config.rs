//! The `ipam` part of a configuration for host-local.

use std::net::IpAddr;
use std::path::PathBuf;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::{Family, PerFamily};
use hopwise_core::ipam::{Range, RangeSet};

use crate::config::NetworkConfig;
use crate::json::{FieldError, Object};
use crate::spec::{CniError, EnvArgs, Request, Route, SpecVersion, read_route};

const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// Gateways for ranges that name none; `None` for their first address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gateways(pub PerFamily<Option<IpAddr>>);

/// What host-local is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Each gives one address.
    pub sets: Vec<RangeSet>,
    /// Routes for the result.
    pub routes: Vec<Route>,
    /// Where allocation folders are.
    pub data_dir: PathBuf,
    /// A resolv.conf to take name resolution from.
    pub resolv_conf: Option<PathBuf>,
    /// Addresses asked for, from `CNI_ARGS`, `args.cni.ips` and `runtimeConfig.ips` together.
    pub requested: Vec<IpAddr>,
}

impl Config {
    /// Reads as much as it takes to release addresses: whatever else is wrong must not keep them taken.
    ///
    /// # Errors
    ///
    /// When the folder can't be told.
    pub fn load_for_release(config: &NetworkConfig) -> Result<Config, CniError> {
        let ipam = config.root().object("ipam")?.ok_or_else(missing)?;
        Ok(Config {
            sets: Vec::new(),
            routes: Vec::new(),
            data_dir: data_dir(&ipam)?,
            resolv_conf: None,
            requested: Vec::new(),
        })
    }

    /// Reads and checks the configuration.
    ///
    /// # Errors
    ///
    /// When a field has the wrong shape, or ranges are missing, wrong, or overlap.
    pub fn load(config: &NetworkConfig, request: &Request, gateways: &Gateways) -> Result<Config, CniError> {
        let root = config.root();
        let ipam = root.object("ipam")?.ok_or_else(missing)?;
        let runtime = root.object("runtimeConfig")?;
        let mut lists = Vec::new();
        if let Some(runtime) = &runtime {
            lists.extend(runtime.object_lists("ipRanges")?);
        }
        if ipam.get("subnet").is_some() {
            lists.push(vec![ipam.clone()]);
        }
        lists.extend(ipam.object_lists("ranges")?);
        let routes = ipam.objects("routes")?.iter().map(read_route).collect::<Result<_, _>>()?;
        Ok(Config {
            sets: range_sets(&lists, config.version, gateways)?,
            routes,
            data_dir: data_dir(&ipam)?,
            resolv_conf: ipam.parsed("resolvConf")?,
            requested: requested(&root, runtime.as_ref(), request)?,
        })
    }
}

/// An address, perhaps with the length of its network's prefix, which is not looked at but must be one.
fn requested_address(text: &str) -> Option<IpAddr> {
    let (address, prefix_len) = text.split_once('/').map_or((text, None), |(a, len)| (a, Some(len)));
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match prefix_len.map(str::parse::<u8>) {
        None => Some(address.to_canonical()),
        Some(len) => len.ok().filter(|len| *len <= longest).map(|_| address.to_canonical()),
    }
}

fn missing() -> CniError {
    CniError::failed("IPAM config missing 'ipam' key")
}

fn data_dir(ipam: &Object<'_>) -> Result<PathBuf, FieldError> {
    Ok(ipam.parsed("dataDir")?.unwrap_or_else(|| DEFAULT_DATA_DIR.into()))
}

fn range_sets(
    lists: &[Vec<Object<'_>>],
    version: SpecVersion,
    gateways: &Gateways,
) -> Result<Vec<RangeSet>, CniError> {
    if lists.is_empty() {
        return Err(CniError::failed(
            "no IP ranges specified; give ipam.ranges, for example [[{\"subnet\": \"10.244.1.0/24\"}]]",
        ));
    }
    let mut sets: Vec<RangeSet> = Vec::new();
    for (index, list) in lists.iter().enumerate() {
        let ranges =
            list.iter().map(|object| range(object, gateways)).collect::<Result<Vec<Range>, CniError>>();
        let set = ranges
            .and_then(|ranges| RangeSet::new(ranges).map_err(|error| CniError::failed(error.to_string())))
            .map_err(|error| error.context(format!("invalid range set {index}")))?;
        sets.push(set);
    }
    let many = |family| sets.iter().filter(|set| set.family() == family).count() > 1;
    if version < SpecVersion::V0_3_0 && Family::BOTH.into_iter().any(many) {
        let msg = format!("CNI version {version} does not support more than 1 address per family");
        return Err(CniError::failed(msg));
    }
    for (index, one) in sets.iter().enumerate() {
        if let Some(after) = sets[index + 1..].iter().position(|other| one.overlaps(other)) {
            let other = index + 1 + after;
            return Err(CniError::failed(format!("range set {index} overlaps with {other}")));
        }
    }
    Ok(sets)
}

fn range(object: &Object<'_>, gateways: &Gateways) -> Result<Range, CniError> {
    let named = |error: FieldError| CniError::failed(error.to_string());
    let subnet: Cidr = object.required("subnet").map_err(named)?;
    if matches!(subnet.address(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        let msg = format!(
            "{}: {subnet} is an IPv4 network written as IPv6; write it as IPv4",
            object.field("subnet")
        );
        return Err(CniError::failed(msg));
    }
    let (first, last) = (object.ip("rangeStart").map_err(named)?, object.ip("rangeEnd").map_err(named)?);
    let gateway = object.ip("gateway").map_err(named)?.or(*gateways.0.get(subnet.family()));
    Range::new(subnet, first, last, gateway).map_err(|error| CniError::failed(error.to_string()))
}

fn requested(
    root: &Object<'_>,
    runtime: Option<&Object<'_>>,
    request: &Request,
) -> Result<Vec<IpAddr>, CniError> {
    let mut texts = Vec::new();
    let args = EnvArgs::load(&request.args, &["IP"])?;
    texts.extend(args.get("IP").map(|text| ("CNI_ARGS IP".to_owned(), text.to_owned())));
    let cni = root.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
    for holder in [cni.as_ref(), runtime].into_iter().flatten() {
        texts.extend(holder.strings("ips")?.into_iter().map(|text| (holder.field("ips"), text)));
    }
    let mut addresses = Vec::new();
    for (field, text) in texts {
        let address = requested_address(&text).ok_or_else(|| FieldError {
            field,
            problem: format!("{text:?} is not an IP address; write it as 10.244.1.7 or 10.244.1.7/24"),
        })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}
