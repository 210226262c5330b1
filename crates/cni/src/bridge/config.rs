//! The bridge plugin's keys.

use hopwise_core::name::{LinkName, MacAddr, NameError};

use super::conflict::Detection;
use super::vlan::{self, VlanConfig};
use crate::config::NetworkConfig;
use crate::json::{FieldError, Object};
use crate::masquerade;
use crate::pod;
use crate::spec::{CniError, Code, Dns, EnvArgs, Request};

const DEFAULT_BRIDGE: LinkName = LinkName::new_static("cni0");

/// What the bridge plugin is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// `bridge`: the bridge, made if there is none.
    pub bridge: LinkName,
    /// `isGateway`, or `isDefaultGateway`: the bridge holds the gateway's address.
    pub is_gateway: bool,
    /// `isDefaultGateway`: the pod's default route goes through it.
    pub is_default_gateway: bool,
    /// `forceAddress`: replace another address of the bridge that stands in the way.
    pub force_address: bool,
    /// `ipMasq`: masquerade what leaves the pod's network.
    pub ip_masq: bool,
    /// `mtu`: of both ends of the pod's link, and of a bridge that is made; `None` for the kernel's.
    pub mtu: Option<u32>,
    /// `queues`: of both ends of the pod's link; `None` for the kernel's choice.
    pub queues: Option<u32>,
    /// `hairpinMode`: let frames out by the port that they came in by.
    pub hairpin: bool,
    /// `promiscMode`: the bridge takes all frames.
    pub promiscuous: bool,
    /// `portIsolation`: pods can't talk to each other over the bridge.
    pub isolated: bool,
    /// `enabledad`: duplicate address detection in the pod.
    pub enable_dad: bool,
    /// `macspoofchk`: drop what the pod sends from another MAC address than its own.
    pub check_mac: bool,
    /// `disableContainerInterface`: leave the pod's end down and without addresses.
    pub disable_interface: bool,
    /// The MAC address of the pod's end: `runtimeConfig.mac`, else `args.cni.mac`, else `MAC` of `CNI_ARGS`.
    pub mac: Option<MacAddr>,
    /// `vlan`, `vlanTrunk`, `preserveDefaultVlan`.
    pub vlan: VlanConfig,
    /// The link that holds the gateway's addresses in a VLAN, where there are a `vlan`, a gateway and addresses.
    pub vlan_gateway: Option<LinkName>,
    /// `addressConflictDetection`: ask the network whether an address is free before the pod gets it.
    pub conflicts: Option<Detection>,
    /// `dns`, in place of what IPAM says.
    pub dns: Option<Dns>,
}

impl BridgeConfig {
    /// Reads and checks the keys.
    ///
    /// # Errors
    ///
    /// When a value has the wrong shape, two contradict each other, or one asks for what can't be done.
    pub fn load(config: &NetworkConfig, request: &Request) -> Result<BridgeConfig, CniError> {
        let root = config.root();
        pod::discard::check_key(config)?;
        let is_default_gateway = root.bool("isDefaultGateway")?;
        let has_addresses = !config.ipam_type()?.is_empty();
        let mut bridge = BridgeConfig {
            bridge: name(&root)?,
            is_gateway: root.bool("isGateway")? || is_default_gateway,
            is_default_gateway,
            force_address: root.bool("forceAddress")?,
            ip_masq: masquerade::is_asked(config)?,
            mtu: pod::mtu(&root)?,
            queues: pod::queues(&root)?,
            hairpin: root.bool("hairpinMode")?,
            promiscuous: root.bool("promiscMode")?,
            isolated: root.bool("portIsolation")?,
            enable_dad: root.bool("enabledad")?,
            check_mac: root.bool("macspoofchk")?,
            disable_interface: root.bool("disableContainerInterface")?,
            mac: mac(&root, request)?,
            vlan: VlanConfig::load(&root)?,
            vlan_gateway: None,
            conflicts: Detection::load(&root)?,
            dns: config.dns()?,
        };
        if let Some(vlan) = bridge.vlan.untagged.filter(|_| bridge.is_gateway && has_addresses) {
            bridge.vlan_gateway = Some(vlan::gateway_name(bridge.bridge, vlan)?);
        }
        if bridge.conflicts.is_some() && bridge.vlan.untagged.is_some() {
            let msg = "addressConflictDetection asks without a VLAN tag; take it out, or vlan";
            return Err(CniError::new(Code::UnsupportedField, msg));
        }
        if bridge.disable_interface && has_addresses {
            return Err(CniError::failed("cannot use IPAM when DisableContainerInterface flag is set"));
        }
        if bridge.hairpin && bridge.promiscuous {
            let msg = "cannot set hairpin mode and promiscuous mode at the same time";
            return Err(CniError::failed(msg));
        }
        Ok(bridge)
    }
}

/// The bridge's name. An empty one is refused, as in the reference: it is no wish for the default.
fn name(root: &Object<'_>) -> Result<LinkName, FieldError> {
    let Some(text) = root.string("bridge")? else { return Ok(DEFAULT_BRIDGE) };
    text.parse()
        .map_err(|error: NameError| FieldError { field: root.field("bridge"), problem: error.to_string() })
}

fn mac(root: &Object<'_>, request: &Request) -> Result<Option<MacAddr>, CniError> {
    let args = EnvArgs::load(&request.args, &["MAC"])?;
    let cni = root.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
    let runtime = root.object("runtimeConfig")?;
    let mut chosen = args.get("MAC").map(|text| ("CNI_ARGS MAC".to_owned(), text.to_owned()));
    for holder in [cni, runtime].into_iter().flatten() {
        if let Some(text) = holder.string("mac")?.filter(|text| !text.is_empty()) {
            chosen = Some((holder.field("mac"), text));
        }
    }
    let Some((field, text)) = chosen else { return Ok(None) };
    let colons = with_colons(&text).unwrap_or(text);
    let problem = match colons.parse::<MacAddr>() {
        Ok(mac) if mac.is_unicast() => return Ok(Some(mac)),
        Ok(mac) => {
            format!(
                "no link can have {mac}: it is all zero or multicast; clear the lowest bit of the first byte"
            )
        }
        Err(error) => error.to_string(),
    };
    Err(FieldError { field, problem }.into())
}

/// What Go's net.ParseMAC takes beside `02:00:5e:00:53:01`: `02-00-5e-00-53-01`, `0200.5e00.5301` and `02005e005301`.
fn with_colons(text: &str) -> Option<String> {
    let groups: Vec<&str> = text.split(['-', '.']).collect();
    let shape = match groups.len() {
        1 => 12,
        3 => 4,
        6 => 2,
        _ => return None,
    };
    let mixed = text.contains('-') && text.contains('.');
    if mixed || !text.is_ascii() || groups.iter().any(|group| group.len() != shape) {
        return None;
    }
    let digits = groups.concat();
    Some((0..6).map(|at| &digits[2 * at..2 * at + 2]).collect::<Vec<_>>().join(":"))
}
