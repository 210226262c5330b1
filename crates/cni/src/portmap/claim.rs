//! Whether a pod may have the ports that it asks for. No system here.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::config::Mapping;
use super::table::Way;
use crate::spec::CniError;

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name, see [`crate::nft::owner`].
    pub owner: String,
    /// Where the port leads.
    pub target: Option<SocketAddr>,
    /// Its network namespace is gone.
    pub is_gone: bool,
}

/// Whose mappings have to be removed first: the pod's own if it has any, those of pods that are gone. A pod whose address
/// the new one has is gone, too.
///
/// # Errors
///
/// When a port is another's.
pub fn evicted(
    owner: &str,
    repeats: bool,
    mappings: &[(Mapping, Way)],
    holders: &[Option<Holder>],
) -> Result<BTreeSet<String>, CniError> {
    let mut evicted: BTreeSet<String> = repeats.then(|| owner.to_owned()).into_iter().collect();
    for ((mapping, _), holder) in mappings.iter().zip(holders) {
        let Some(holder) = holder else { continue };
        let same_address = holder.target.is_some_and(|target| target.ip() == mapping.target.ip());
        if holder.owner != owner && !holder.is_gone && !same_address {
            return Err(conflict(mapping, holder));
        }
        evicted.insert(holder.owner.clone());
    }
    Ok(evicted)
}

fn conflict(mapping: &Mapping, holder: &Holder) -> CniError {
    let mut names = holder.owner.splitn(3, ' ');
    let mut name = || names.next().filter(|name| !name.is_empty()).unwrap_or("?");
    let (network, container, ifname) = (name(), name(), name());
    let target = holder.target.map_or_else(|| "?".to_owned(), |target| target.to_string());
    let msg = format!(
        "{mapping} is taken: it leads to {target}, {ifname} of container {container:?} in network {network:?}; use \
         another hostPort or hostIP, or delete that container"
    );
    CniError::failed(msg)
}

#[cfg(test)]
mod tests {
    use hopwise_core::cidr::Cidr;
    use serde_json::json;

    use super::*;
    use crate::config::NetworkConfig;
    use crate::portmap::config::{PodAddress, PortmapConfig};

    fn mappings(address: &str) -> Vec<(Mapping, Way)> {
        let port = |host, container| json!({"hostPort": host, "containerPort": container, "protocol": "tcp"});
        let config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "portmap",
            "runtimeConfig": {"portMappings": [port(80, 8080), port(443, 8443)]},
        });
        let config = NetworkConfig::from_json(config.to_string().into_bytes()).unwrap();
        let config = PortmapConfig::load(&config).unwrap();
        let pod =
            PodAddress { address: address.parse().unwrap(), network: Cidr::host(address.parse().unwrap()) };
        let way = Way::new(&config, pod.network);
        config.mappings(&[pod]).unwrap().into_iter().map(|mapping| (mapping, way.clone())).collect()
    }

    fn holder(owner: &str, target: &str, is_gone: bool) -> Option<Holder> {
        Some(Holder { owner: owner.to_owned(), target: target.parse().ok(), is_gone })
    }

    fn evicts(repeats: bool, holders: &[Option<Holder>]) -> Result<Vec<String>, String> {
        let evicted = evicted("net me eth0", repeats, &mappings("10.9.0.2"), holders);
        evicted.map(|set| set.into_iter().collect()).map_err(|error| error.msg)
    }

    #[test]
    fn ports_are_whose_they_are() {
        let own = || holder("net me eth0", "10.9.0.2:1", false);
        let other = |address, is_gone| holder("net other eth0", address, is_gone);
        let strings = |list: &[&str]| Ok(list.iter().map(|owner| (*owner).to_owned()).collect());
        assert_eq!(evicts(false, &[None, None]), strings(&[]));
        assert_eq!(evicts(true, &[None, None]), strings(&["net me eth0"]));
        assert_eq!(evicts(true, &[own(), None]), strings(&["net me eth0"]));
        assert_eq!(evicts(false, &[None, other("10.9.0.3:1", true)]), strings(&["net other eth0"]));
        assert_eq!(evicts(false, &[other("10.9.0.2:1", false), None]), strings(&["net other eth0"]));
        let error = evicts(true, &[other("10.9.0.4:1", true), other("10.9.0.3:1", false)]).unwrap_err();
        assert_eq!(
            error,
            "hostPort 443/tcp (IPv4) is taken: it leads to 10.9.0.3:1, eth0 of container \"other\" in network \
             \"net\"; use another hostPort or hostIP, or delete that container"
        );
    }
}
