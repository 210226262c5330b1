//! Results to and from the JSON of every version.

use serde_json::{Map, Value, json};

use super::{AddResult, CniError, Dns, Interface, IpConfig, Route, SpecVersion};
use crate::json::{FieldError, Object};

impl AddResult {
    /// The result in the shape of a version.
    ///
    /// # Errors
    ///
    /// Below 0.3.0 a result must have an address.
    pub fn to_json(&self, version: SpecVersion) -> Result<Value, CniError> {
        if version < SpecVersion::V0_3_0 { self.to_json_0_2(version) } else { Ok(self.to_json_0_3(version)) }
    }

    fn to_json_0_3(&self, version: SpecVersion) -> Value {
        let mut root = Map::new();
        root.insert("cniVersion".to_owned(), version.as_str().into());
        let interfaces: Vec<Value> = self.interfaces.iter().map(|link| interface(link, version)).collect();
        let ips: Vec<Value> = self.ips.iter().map(|ip| ip_config(ip, version)).collect();
        let routes: Vec<Value> = self.routes.iter().map(route).collect();
        for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                root.insert(key.to_owned(), list.into());
            }
        }
        if version < SpecVersion::V1_0_0 || !self.dns.is_empty() {
            root.insert("dns".to_owned(), dns(&self.dns));
        }
        root.into()
    }

    /// The first address of each family, with the routes of that family under it.
    fn to_json_0_2(&self, version: SpecVersion) -> Result<Value, CniError> {
        let mut root = Map::new();
        root.insert("cniVersion".to_owned(), version.as_str().into());
        for (key, is_ipv4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.address.is_ipv4() == is_ipv4) else {
                continue;
            };
            let mut config = Map::new();
            config.insert("ip".to_owned(), ip.address.to_string().into());
            if let Some(gateway) = ip.gateway {
                config.insert("gateway".to_owned(), gateway.to_string().into());
            }
            let routes: Vec<Value> = self
                .routes
                .iter()
                .filter(|entry| entry.dst.address.is_ipv4() == is_ipv4)
                .map(|entry| route(&Route::new(entry.dst, entry.gw)))
                .collect();
            if !routes.is_empty() {
                config.insert("routes".to_owned(), routes.into());
            }
            root.insert(key.to_owned(), config.into());
        }
        if root.len() == 1 {
            return Err(CniError::failed("cannot convert: no valid IP addresses"));
        }
        root.insert("dns".to_owned(), dns(&self.dns));
        Ok(root.into())
    }

    /// Reads a result of any version, such as `prevResult` or what an IPAM plugin printed.
    ///
    /// # Errors
    ///
    /// When a field has the wrong shape; the message names it.
    pub fn from_json(root: &Object<'_>) -> Result<AddResult, FieldError> {
        let mut result = AddResult {
            dns: root.object("dns")?.map_or_else(|| Ok(Dns::default()), |object| read_dns(&object))?,
            ..AddResult::default()
        };
        for key in ["ip4", "ip6"] {
            if let Some(config) = root.object(key)? {
                result.ips.push(IpConfig {
                    address: config.required("ip")?,
                    gateway: config.ip("gateway")?,
                    interface: None,
                });
                for entry in config.objects("routes")? {
                    result.routes.push(read_route(&entry)?);
                }
            }
        }
        for link in root.objects("interfaces")? {
            result.interfaces.push(Interface {
                name: link.string("name")?.unwrap_or_default(),
                mac: link.string("mac")?.unwrap_or_default(),
                mtu: link.number("mtu")?.filter(|mtu| *mtu > 0),
                sandbox: link.string("sandbox")?.unwrap_or_default(),
                socket_path: link.string("socketPath")?.unwrap_or_default(),
                pci_id: link.string("pciID")?.unwrap_or_default(),
            });
        }
        for ip in root.objects("ips")? {
            result.ips.push(IpConfig {
                address: ip.required("address")?,
                gateway: ip.ip("gateway")?,
                interface: ip.number("interface")?,
            });
        }
        for entry in root.objects("routes")? {
            result.routes.push(read_route(&entry)?);
        }
        Ok(result)
    }
}

/// Reads an entry of a `routes` list.
pub(crate) fn read_route(entry: &Object<'_>) -> Result<Route, FieldError> {
    Ok(Route {
        dst: entry.required("dst")?,
        gw: entry.ip("gw")?,
        mtu: entry.number("mtu")?.filter(|mtu| *mtu > 0),
        advmss: entry.number("advmss")?.filter(|advmss| *advmss > 0),
        priority: entry.number("priority")?.filter(|priority| *priority > 0),
        table: entry.number("table")?,
        scope: entry.number("scope")?,
    })
}

/// Reads a `dns` object.
pub(crate) fn read_dns(object: &Object<'_>) -> Result<Dns, FieldError> {
    Ok(Dns {
        nameservers: object.strings("nameservers")?,
        domain: object.string("domain")?.unwrap_or_default(),
        search: object.strings("search")?,
        options: object.strings("options")?,
    })
}

fn interface(link: &Interface, version: SpecVersion) -> Value {
    let mut value = Map::new();
    value.insert("name".to_owned(), link.name.clone().into());
    let mut text = |key: &str, field: &str| {
        if !field.is_empty() {
            value.insert(key.to_owned(), field.into());
        }
    };
    text("mac", &link.mac);
    text("sandbox", &link.sandbox);
    if version >= SpecVersion::V1_0_0 {
        text("socketPath", &link.socket_path);
        text("pciID", &link.pci_id);
        if let Some(mtu) = link.mtu {
            value.insert("mtu".to_owned(), mtu.into());
        }
    }
    value.into()
}

fn ip_config(ip: &IpConfig, version: SpecVersion) -> Value {
    let mut value = json!({"address": ip.address.to_string()});
    if version < SpecVersion::V1_0_0 {
        value["version"] = if ip.address.address.is_ipv4() { "4" } else { "6" }.into();
    }
    if let Some(gateway) = ip.gateway {
        value["gateway"] = gateway.to_string().into();
    }
    if let Some(interface) = ip.interface {
        value["interface"] = interface.into();
    }
    value
}

fn route(entry: &Route) -> Value {
    let mut value = json!({"dst": entry.dst.to_string()});
    if let Some(gw) = entry.gw {
        value["gw"] = gw.to_string().into();
    }
    let numbers = [
        ("mtu", entry.mtu),
        ("advmss", entry.advmss),
        ("priority", entry.priority),
        ("table", entry.table),
        ("scope", entry.scope.map(u32::from)),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            value[key] = number.into();
        }
    }
    value
}

fn dns(dns: &Dns) -> Value {
    let mut value = Map::new();
    for (key, list) in [("nameservers", &dns.nameservers), ("search", &dns.search), ("options", &dns.options)]
    {
        if !list.is_empty() {
            value.insert(key.to_owned(), list.clone().into());
        }
    }
    if !dns.domain.is_empty() {
        value.insert("domain".to_owned(), dns.domain.clone().into());
    }
    value.into()
}
