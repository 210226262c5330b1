//! `networks.lan` and `nodes[].slices`: pods that are hosts of a LAN.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::{Family, PerFamily};
use hopwise_core::name::NodeName;
use hopwise_core::slices::{Assignment, Lan, LanError, Span, SpanSet};

use super::wire;
use crate::field::{self, FieldError};

/// How many addresses a node gets where the inventory does not say.
pub const DEFAULT_PER_NODE: u32 = 100;

/// What an inventory says of a LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanPlan {
    /// The LAN. The nodes' own addresses are among those that are left alone.
    pub lan: Lan,
    /// The nodes, in the order of the file.
    pub nodes: Vec<NodeName>,
    /// The slices that the file says nodes have.
    pub assigned: Assignment,
    /// The first address of each family of each node.
    pub node_addresses: BTreeMap<NodeName, PerFamily<Option<IpAddr>>>,
    /// The service ranges, `networks.services`.
    pub services: Vec<Cidr>,
}

impl LanPlan {
    /// A LAN without nodes.
    pub fn of(lan: Lan) -> LanPlan {
        LanPlan {
            lan,
            nodes: Vec::new(),
            assigned: Assignment::default(),
            node_addresses: BTreeMap::new(),
            services: Vec::new(),
        }
    }
}

/// Reads it; `None` where the inventory has no LAN.
pub fn plan(wire: &wire::Inventory) -> Result<Option<LanPlan>, FieldError> {
    let nodes = wire.nodes.as_deref().unwrap_or_default();
    let Some(lan) = &wire.networks.lan else {
        let Some(index) = nodes.iter().position(|node| !node.slices.0.is_empty()) else { return Ok(None) };
        let fix = "add networks.lan with the subnets that they are slices of, or take them out";
        let error = FieldError::new("there are slices, but no LAN", fix);
        return Err(error.under("slices").at(index).under("nodes"));
    };
    let mut lan = self::lan(lan).map_err(|error| error.under("lan").under("networks"))?;
    let mut plan = LanPlan::of(lan.clone());
    plan.services =
        field::cidrs(&wire.networks.services.0).map_err(|error| error.under("services").under("networks"))?;
    for (index, entry) in nodes.iter().enumerate() {
        let place = |error: FieldError| error.at(index).under("nodes");
        let node = super::node(entry).map_err(place)?;
        lan.exclude.extend(node.addresses.iter().map(|claim| Span::one(claim.value)));
        let slices = spans(&entry.slices.0).map_err(|error| place(error.under("slices")))?;
        let mut slice = PerFamily::<SpanSet>::default();
        for (at, span) in slices.into_iter().enumerate() {
            if plan.lan.subnets.iter().all(|subnet| !subnet.contains(span.first())) {
                let fix = "give addresses of networks.lan.subnets, or take it out";
                let error = FieldError::new(format!("{span} is in none of the LAN's subnets"), fix);
                return Err(place(error.at(at).under("slices")));
            }
            slice.get_mut(span.family()).insert(span);
        }
        plan.assigned.nodes.insert(node.name.clone(), slice);
        let addresses = PerFamily::from_fn(|family: Family| node.address(family));
        plan.node_addresses.insert(node.name.clone(), addresses);
        plan.nodes.push(node.name);
    }
    plan.lan = lan;
    Ok(Some(plan))
}

fn lan(wire: &wire::Lan) -> Result<Lan, FieldError> {
    let per_node = match wire.addresses_per_node {
        None => DEFAULT_PER_NODE,
        Some(number) => u32::try_from(number).map_err(|_| {
            let message = format!("{number} addresses for each node are more than 4294967295");
            FieldError::new(message, "give fewer").under("addressesPerNode")
        })?,
    };
    let addresses = |values: &[String]| {
        let read = |(at, value): (usize, &String)| field::address(value).map_err(|error| error.at(at));
        values.iter().enumerate().map(read).collect::<Result<Vec<IpAddr>, FieldError>>()
    };
    let lan = Lan {
        subnets: field::cidrs(&wire.subnets.0).map_err(|error| error.under("subnets"))?,
        gateways: addresses(&wire.gateways.0).map_err(|error| error.under("gateways"))?,
        exclude: spans(&wire.exclude.0).map_err(|error| error.under("exclude"))?,
        per_node,
    };
    lan.check().map_err(|error| refusal(&lan, &error))?;
    Ok(lan)
}

/// Where the thing is that a [`LanError`] is about. Its message has the fix after a semicolon.
fn refusal(lan: &Lan, error: &LanError) -> FieldError {
    let text = error.to_string();
    let (message, fix) = text.split_once("; ").unwrap_or((&text, "take it out"));
    let error_text = FieldError::new(message, fix);
    let subnet = |cidr: &Cidr| lan.subnets.iter().rposition(|other| other == cidr).unwrap_or_default();
    match error {
        LanError::NoSubnet => error_text.under("subnets"),
        LanError::Overlap(_, cidr) | LanError::TooSmall(cidr) | LanError::Mapped(cidr) => {
            error_text.at(subnet(cidr)).under("subnets")
        }
        LanError::Nothing => error_text.under("addressesPerNode"),
        LanError::Gateway(address) => {
            let at = lan.gateways.iter().position(|other| other == address).unwrap_or_default();
            error_text.at(at).under("gateways")
        }
    }
}

fn spans(values: &[String]) -> Result<Vec<Span>, FieldError> {
    let read = |(at, value): (usize, &String)| {
        value.parse::<Span>().map_err(|error| {
            let text = error.to_string();
            let (message, fix) = text.split_once("; ").unwrap_or((&text, "take it out"));
            FieldError::new(message, fix).at(at)
        })
    };
    values.iter().enumerate().map(read).collect()
}
