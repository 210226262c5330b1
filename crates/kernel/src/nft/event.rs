//! What the nf_tables multicast group tells.

use hopwise_core::mark::NFT_TABLE;
use hopwise_core::netfilter::SetName;
use hopwise_core::observed::Event;

use super::abi::{self, chain, elem, msg};
use super::elements;
use crate::netlink::Message;

/// Translates a message of the multicast group [`super::GROUP`]; `None`: nothing that concerns us.
///
/// A foreign change is one that may change what [`super::view()`] finds. Not among them is most of what kube-proxy does all
/// day: set elements, chains without a hook (a rule has to lead to them first), and what happens in iptables' `nat`
/// tables. Changes in the legacy iptables back end are not announced at all.
pub fn event(message: &Message<'_>) -> Option<Event> {
    if message.kind >> 8 != abi::SUBSYSTEM {
        return None;
    }
    let kind = message.kind & 0xff;
    let family = *message.payload.first()?;
    // Every object names its table in its first attribute (`NFTA_*_TABLE`, for tables `NFTA_TABLE_NAME`).
    let attributes = message.attributes(abi::NFGENMSG);
    let table = attributes.find(chain::TABLE).and_then(|attribute| attribute.str());
    if family == abi::INET && table == Some(NFT_TABLE) {
        return match kind {
            msg::NEWSETELEM => Some(element(message, true).unwrap_or(Event::Table)),
            msg::DELSETELEM => Some(element(message, false).unwrap_or(Event::Table)),
            msg::NEWGEN => None,
            _ => Some(Event::Table),
        };
    }
    let of_ip = matches!(family, abi::INET | abi::IPV4 | abi::IPV6);
    let for_nat = family != abi::INET && table == Some("nat");
    let matters = match kind {
        msg::NEWTABLE | msg::DELTABLE => true,
        msg::NEWCHAIN => attributes.find(chain::HOOK).is_some(),
        msg::DELCHAIN | msg::NEWRULE | msg::DELRULE => !for_nat,
        _ => false,
    };
    (of_ip && matters).then_some(Event::ForeignNetfilter)
}

/// One address in a set of addresses. Intervals come as two messages, one for each end: those are read again.
fn element(message: &Message<'_>, present: bool) -> Option<Event> {
    let attributes = message.attributes(abi::NFGENMSG);
    let set = SetName::find(attributes.find(elem::SET)?.str()?)?;
    let mut listed = attributes.find(elem::ELEMENTS)?.nested();
    let (Some(only), None, false) = (listed.next(), listed.next(), set.is_interval()) else {
        return None;
    };
    let point = elements::read(&only.nested(), set)?;
    let element = elements::networks(set, vec![point])?.into_iter().next()?;
    Some(Event::Element { set, element, present })
}
