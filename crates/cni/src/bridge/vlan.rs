//! VLANs: which of them a pod's port is a member of, and the link that holds the gateway's addresses in one.
//!
//! VLAN filtering is switched on when the bridge is made, and never on a bridge that is there, as in the reference. Where the
//! kernel's bridges know no VLANs that is found out before anything is changed.

use std::collections::BTreeSet;

use hopwise_core::name::{IfIndex, LinkName};
use hopwise_kernel::netns::Namespace;
use hopwise_kernel::rtnl::{BridgeSpec, LinkInfo, PortVlans, Requests, Rtnl, VethSpec};

use super::BridgeConfig;
use crate::json::{FieldError, Object};
use crate::pod;
use crate::spec::{CniError, Code};
use crate::sysctl;

/// Of 12 bits the first and the last number are reserved (IEEE 802.1Q).
const LAST: i64 = 4094;
/// The VLAN of frames without a tag on a port that has only `vlanTrunk`.
const NATIVE: u16 = 1;

/// What `vlan`, `vlanTrunk` and `preserveDefaultVlan` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VlanConfig {
    /// Whether a bridge that is made filters VLANs: there is a `vlan`, or a `vlanTrunk` even if it is empty.
    pub filtering: bool,
    /// `vlan`: the VLAN of frames without a tag.
    pub untagged: Option<u16>,
    /// `vlanTrunk`: VLANs of frames with a tag, as ranges in ascending order.
    pub tagged: Vec<(u16, u16)>,
    /// `preserveDefaultVlan`: the port stays a member of the bridge's default VLAN.
    pub preserve_default: bool,
}

impl VlanConfig {
    /// Reads and checks the keys.
    ///
    /// # Errors
    ///
    /// When a number is none of a VLAN, or one end of a range is missing.
    pub fn load(root: &Object<'_>) -> Result<VlanConfig, CniError> {
        let vlan = root.number::<i64>("vlan")?.unwrap_or(0);
        if !(0..=LAST).contains(&vlan) {
            let msg = format!("invalid VLAN ID {vlan} (must be between 0 and {LAST})");
            return Err(CniError::failed(msg));
        }
        let mut tagged = BTreeSet::new();
        for entry in root.objects("vlanTrunk")? {
            tagged.extend(trunk_entry(&entry)?);
        }
        Ok(VlanConfig {
            filtering: vlan != 0 || root.get("vlanTrunk").is_some(),
            untagged: u16::try_from(vlan).ok().filter(|vlan| *vlan != 0),
            tagged: ranges(&tagged),
            preserve_default: root.bool("preserveDefaultVlan")?,
        })
    }

    /// Whether the port is a member of anything but the default.
    fn is_asked(&self) -> bool {
        self.untagged.is_some() || !self.tagged.is_empty()
    }

    /// The memberships to make, in this order: of two for one VLAN the latter counts.
    fn memberships(&self) -> Vec<PortVlans> {
        let mut vlans = Vec::new();
        vlans.extend(self.untagged.map(PortVlans::Untagged));
        vlans.extend(self.tagged.iter().map(|(first, last)| PortVlans::Tagged(*first, *last)));
        if self.untagged.is_none() && !self.tagged.is_empty() {
            vlans.push(PortVlans::Untagged(NATIVE));
        }
        vlans
    }

    /// What of it the gateway's port needs.
    fn of_gateway(&self) -> VlanConfig {
        VlanConfig { tagged: Vec::new(), ..self.clone() }
    }

    /// The requests that make a new port of a bridge a member of what is asked for, and of nothing else.
    fn requests(&self, port: IfIndex, default_pvid: u16) -> Requests {
        let mut requests = Requests::new();
        if !self.preserve_default && default_pvid != 0 {
            requests.delete_port_vlans(port, &[PortVlans::Tagged(default_pvid, default_pvid)]);
        }
        requests.add_port_vlans(port, &self.memberships());
        requests
    }
}

/// The VLANs of one entry of `vlanTrunk`: `minID` to `maxID`, and `id`.
fn trunk_entry(entry: &Object<'_>) -> Result<BTreeSet<u16>, FieldError> {
    let wrong =
        |key: &str, problem: &str| FieldError { field: entry.field(key), problem: problem.to_owned() };
    let number = |key: &str| {
        let number = entry.number::<i64>(key)?;
        let of_vlan = |number: i64| u16::try_from(number).ok().filter(|_| (1..=LAST).contains(&number));
        let problem =
            |number| format!("incorrect trunk {key} parameter: {number} (must be between 1 and {LAST})");
        number.map(|number| of_vlan(number).ok_or_else(|| wrong(key, &problem(number)))).transpose()
    };
    let mut vlans = BTreeSet::new();
    match (number("minID")?, number("maxID")?) {
        (Some(min), Some(max)) if max < min => {
            return Err(wrong("minID", "minID is greater than maxID in trunk parameter"));
        }
        (Some(min), Some(max)) => vlans.extend(min..=max),
        (None, Some(_)) => {
            return Err(wrong(
                "minID",
                "minID and maxID should be configured simultaneously, minID is missing",
            ));
        }
        (Some(_), None) => {
            return Err(wrong(
                "maxID",
                "minID and maxID should be configured simultaneously, maxID is missing",
            ));
        }
        (None, None) => {}
    }
    vlans.extend(number("id")?);
    Ok(vlans)
}

/// The same as ranges that are as long as can be.
fn ranges(vlans: &BTreeSet<u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for vlan in vlans {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *vlan => *last = *vlan,
            _ => ranges.push((*vlan, *vlan)),
        }
    }
    ranges
}

/// The name of the link that holds the gateway's addresses in a VLAN: `BRIDGE.VLAN`.
///
/// # Errors
///
/// When that is too long for a link.
pub fn gateway_name(bridge: LinkName, vlan: u16) -> Result<LinkName, CniError> {
    let name = format!("{bridge}.{vlan}");
    name.parse().map_err(|_| {
        let msg = format!(
            "vlan: the gateway's link in the VLAN would be {name:?}, which is longer than 15 characters"
        );
        CniError::failed(msg).details("give the bridge a shorter name")
    })
}

/// Makes sure that the kernel's bridges know VLANs, where they are asked for. Of a bridge that is there it is seen; for
/// one that isn't a bridge is made in a network namespace of its own, which is gone after.
///
/// # Errors
///
/// When they don't.
pub fn require(host: &mut Rtnl, bridge: &BridgeConfig) -> Result<(), CniError> {
    if !bridge.vlan.filtering {
        return Ok(());
    }
    let failed = |error: &dyn std::error::Error| CniError::caused("can't find out about VLANs", error);
    let there = host.link_by_name(bridge.bridge).map_err(|error| failed(&error))?;
    let seen = match there {
        // Another kind of link has the name: that is what ADD will complain of.
        Some(link) if link.kind != "bridge" => return Ok(()),
        Some(link) => link,
        None => {
            let elsewhere = Namespace::new().map_err(|error| failed(&error))?;
            let mut spec = BridgeSpec::new(bridge.bridge);
            spec.up = false;
            let mut rtnl = pod::open_in(&elsewhere)?;
            rtnl.ensure_bridge(&spec).map_err(|error| failed(&error))?
        }
    };
    if seen.default_pvid.is_some() {
        return Ok(());
    }
    let msg = "vlan and vlanTrunk are not supported by this kernel: its bridges don't filter VLANs \
               (CONFIG_BRIDGE_VLAN_FILTERING); take the keys out of the configuration, or boot another kernel";
    Err(CniError::new(Code::UnsupportedField, msg))
}

/// Makes a new port of a bridge a member of the VLANs that are asked for.
///
/// # Errors
///
/// When the kernel refuses.
pub fn join(host: &mut Rtnl, vlan: &VlanConfig, bridge: &LinkInfo, port: LinkName) -> Result<(), CniError> {
    if !vlan.is_asked() {
        return Ok(());
    }
    let index = pod::link(host, port)?.index;
    let failed = |error: &dyn std::error::Error| {
        CniError::caused(format!("failed to setup vlan tag on interface {:?}", port.as_str()), error)
    };
    let mut requests = vlan.requests(index, bridge.default_pvid.unwrap_or_default());
    for verdict in host.execute(&mut requests).map_err(|error| failed(&error))? {
        match verdict {
            // The bridge's default was changed since we looked.
            Err(error) if error.errno() == libc::ENOENT => {}
            other => other.map_err(|error| failed(&error))?,
        }
    }
    Ok(())
}

/// The link that holds the gateway's addresses in a VLAN, made if there is none: one end of a pair whose other end is a
/// port of the bridge in that VLAN.
///
/// # Errors
///
/// When it can't be made.
pub fn ensure_gateway_link(
    host: &mut Rtnl,
    vlan: &VlanConfig,
    bridge: &LinkInfo,
    name: LinkName,
) -> Result<LinkInfo, CniError> {
    let failed = |error: &dyn std::error::Error| {
        CniError::caused(format!("failed to create vlan interface {:?}", name.as_str()), error)
    };
    loop {
        if let Some(link) = host.link_by_name(name).map_err(|error| failed(&error))? {
            return Ok(link);
        }
        let port = pod::random_veth_name()?;
        let mut pair = VethSpec::new(port, name, None);
        pair.master = Some(bridge.index);
        (pair.mtu, pair.peer.mtu) = (Some(bridge.mtu), Some(bridge.mtu));
        (pair.mac, pair.peer.mac) = (Some(pod::random_mac()?), Some(pod::random_mac()?));
        match host.add_veth(&pair) {
            Ok(()) => {}
            // Another ADD made it, or the port's name is taken.
            Err(error) if error.errno() == libc::EEXIST => continue,
            Err(error) => return Err(failed(&error)),
        }
        for link in [port, name] {
            sysctl::try_write(&format!("ipv6/conf/{link}/accept_ra"), "0");
        }
        // We made it, so nobody else can have its link-local address.
        sysctl::try_write(&format!("ipv6/conf/{name}/accept_dad"), "0");
        let joined = join(host, &vlan.of_gateway(), bridge, port);
        let up = joined.and_then(|()| host.set_up(name).map_err(|error| failed(&error)));
        up.inspect_err(|_| {
            let _ = host.delete_link(port);
        })?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json;

    fn load(keys: &str) -> Result<VlanConfig, String> {
        let value = json::parse(format!("{{{keys}}}").as_bytes()).unwrap();
        VlanConfig::load(&Object::root(&value).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn trunks_are_collected_as_in_the_reference() {
        // What the reference's own table of cases has (an empty list, a range, an id, both), and more.
        let cases: [(&str, &[(u16, u16)]); 8] = [
            (r#"[{"minID": 100, "maxID": 102}]"#, &[(100, 102)]),
            (r#"[{"id": 101}]"#, &[(101, 101)]),
            (r#"[{"minID": 100, "maxID": 102}, {"id": 105}]"#, &[(100, 102), (105, 105)]),
            (r#"[{"minID": 100, "maxID": 102}, {"id": 101}, {"minID": 103, "maxID": 110}]"#, &[(100, 110)]),
            (r#"[{"minID": 5, "maxID": 6, "id": 9}]"#, &[(5, 6), (9, 9)]),
            (r#"[{"minID": 1, "maxID": 4094}]"#, &[(1, 4094)]),
            (r#"[{}]"#, &[]),
            ("[]", &[]),
        ];
        for (trunk, expected) in cases {
            let vlan = load(&format!(r#""vlanTrunk": {trunk}"#)).unwrap();
            assert_eq!((vlan.tagged.as_slice(), vlan.filtering), (expected, true), "{trunk}");
        }
        assert_eq!(load("").unwrap(), VlanConfig::default());
        assert_eq!(load(r#""vlan": 0, "vlanTrunk": null"#).unwrap(), VlanConfig::default());
        assert_eq!(load(r#""vlan": 4094"#).unwrap().untagged, Some(4094));
    }

    #[test]
    fn wrong_trunks_are_named() {
        let cases = [
            (
                r#"{"minID": 10}"#,
                "maxID: minID and maxID should be configured simultaneously, maxID is missing",
            ),
            (
                r#"{"maxID": 10}"#,
                "minID: minID and maxID should be configured simultaneously, minID is missing",
            ),
            (r#"{"minID": 0, "maxID": 10}"#, "minID: incorrect trunk minID parameter: 0"),
            (r#"{"minID": 1, "maxID": 4095}"#, "maxID: incorrect trunk maxID parameter: 4095"),
            (r#"{"minID": 4095, "maxID": 4096}"#, "minID: incorrect trunk minID parameter: 4095"),
            (r#"{"minID": -1, "maxID": 5}"#, "minID: incorrect trunk minID parameter: -1"),
            (r#"{"minID": 1000, "maxID": 5}"#, "minID: minID is greater than maxID in trunk parameter"),
            (r#"{"id": 0}"#, "id: incorrect trunk id parameter: 0"),
            (r#"{"id": 5000}"#, "id: incorrect trunk id parameter: 5000"),
        ];
        for (entry, expected) in cases {
            let error = load(&format!(r#""vlanTrunk": [{entry}]"#)).unwrap_err();
            assert!(error.contains(&format!("vlanTrunk[0].{expected}")), "{error}");
        }
        assert!(load(r#""vlan": 4095"#).unwrap_err().contains("invalid VLAN ID 4095"));
        assert!(load(r#""vlan": -1"#).unwrap_err().contains("invalid VLAN ID -1"));
        assert!(load(r#""vlanTrunk": 5"#).unwrap_err().contains("vlanTrunk: 5 is not a list"));
    }

    #[test]
    fn memberships_come_in_the_order_of_the_reference() {
        use PortVlans::{Tagged, Untagged};
        let of = |keys: &str| load(keys).unwrap().memberships();
        assert_eq!(of(r#""vlan": 100"#), [Untagged(100)]);
        assert_eq!(of(r#""vlanTrunk": [{"id": 7}]"#), [Tagged(7, 7), Untagged(1)]);
        assert_eq!(of(r#""vlan": 5, "vlanTrunk": [{"minID": 1, "maxID": 9}]"#), [Untagged(5), Tagged(1, 9)]);
        assert_eq!(of(r#""vlanTrunk": []"#), []);
        let requests = |keys: &str| load(keys).unwrap().requests(IfIndex(3), 1).len();
        assert_eq!(requests(r#""vlan": 100"#), 2);
        assert_eq!(requests(r#""vlan": 100, "preserveDefaultVlan": true"#), 1);
        assert_eq!(load(r#""vlan": 100"#).unwrap().requests(IfIndex(3), 0).len(), 1);
    }

    #[test]
    fn the_gateways_link_has_a_name_that_fits() {
        let bridge = LinkName::new_static("bridge-name");
        assert_eq!(gateway_name(bridge, 100).unwrap().as_str(), "bridge-name.100");
        assert!(gateway_name(bridge, 1000).unwrap_err().to_string().contains("\"bridge-name.1000\""));
    }

    proptest! {
        #[test]
        fn ranges_are_the_set_and_can_not_be_joined(vlans in proptest::collection::btree_set(1_u16..=4094, 0..300)) {
            let ranges = ranges(&vlans);
            let again: BTreeSet<u16> = ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(again, vlans);
            prop_assert!(ranges.windows(2).all(|two| two[0].1 + 1 < two[1].0));
        }
    }
}
