//! VLANs of bridge ports (`bridge vlan`).

use hopwise_core::name::IfIndex;

use super::request::{Requests, ifinfomsg};

/// `linux/if_bridge.h`.
const IFLA_BRIDGE_FLAGS: u16 = 0;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_FLAGS_MASTER: u16 = 1;
const BRIDGE_VLAN_INFO_PVID: u16 = 2;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 4;
const BRIDGE_VLAN_INFO_RANGE_BEGIN: u16 = 8;
const BRIDGE_VLAN_INFO_RANGE_END: u16 = 16;

/// VLANs that a bridge port is a member of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortVlans {
    /// One, for frames without a tag: what comes in without one belongs to it, what goes out has none.
    Untagged(u16),
    /// From the first to the last, for frames that carry their numbers.
    Tagged(u16, u16),
}

impl Requests {
    /// Makes a bridge port a member of VLANs, one after the other; a VLAN that is there already is made as described.
    /// `EOPNOTSUPP` where the kernel's bridges know none.
    pub fn add_port_vlans(&mut self, port: IfIndex, vlans: &[PortVlans]) -> &mut Self {
        self.port_vlans(libc::RTM_SETLINK, port, vlans)
    }

    /// Ends a bridge port's membership in VLANs. `ENOENT` where it is no member.
    pub fn delete_port_vlans(&mut self, port: IfIndex, vlans: &[PortVlans]) -> &mut Self {
        self.port_vlans(libc::RTM_DELLINK, port, vlans)
    }

    fn port_vlans(&mut self, kind: u16, port: IfIndex, vlans: &[PortVlans]) -> &mut Self {
        let mut message = self.batch.message(kind, 0, &ifinfomsg(libc::AF_BRIDGE, port.0, 0, 0));
        let mut list = message.nested(libc::IFLA_AF_SPEC);
        list.u16(IFLA_BRIDGE_FLAGS, BRIDGE_FLAGS_MASTER);
        // struct bridge_vlan_info: flags and number. A range is two of them, and must not be of one VLAN only.
        let mut entry = |flags: u16, vlan: u16| {
            let [a, b] = flags.to_ne_bytes();
            let [c, d] = vlan.to_ne_bytes();
            list.bytes(IFLA_BRIDGE_VLAN_INFO, &[a, b, c, d]);
        };
        for vlans in vlans {
            match *vlans {
                PortVlans::Untagged(vlan) => entry(BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED, vlan),
                PortVlans::Tagged(first, last) if first == last => entry(0, first),
                PortVlans::Tagged(first, last) => {
                    entry(BRIDGE_VLAN_INFO_RANGE_BEGIN, first);
                    entry(BRIDGE_VLAN_INFO_RANGE_END, last);
                }
            }
        }
        drop(list);
        drop(message);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Messages;

    #[test]
    fn messages_are_those_of_the_bridge_tool() {
        let mut requests = Requests::new();
        let vlans = [PortVlans::Untagged(100), PortVlans::Tagged(7, 7), PortVlans::Tagged(200, 299)];
        requests.add_port_vlans(IfIndex(5), &vlans).delete_port_vlans(IfIndex(5), &[PortVlans::Tagged(1, 1)]);
        let read: Vec<_> = Messages::new(requests.batch.as_bytes())
            .map(|message| {
                let fixed = message.fixed::<16>().unwrap();
                assert_eq!((i32::from(fixed[0]), fixed[4]), (libc::AF_BRIDGE, 5));
                let list = message.attributes(16).find(libc::IFLA_AF_SPEC).unwrap().nested();
                let entries: Vec<(u16, Vec<u16>)> = list
                    .map(|entry| {
                        let words = entry.payload.chunks(2).map(|two| u16::from_ne_bytes([two[0], two[1]]));
                        (entry.kind, words.collect())
                    })
                    .collect();
                (message.kind, entries)
            })
            .collect();
        // `strace -e sendmsg bridge vlan add …` shows the same lists, 6 for pvid and untagged, 8 and 16 for a range; the tool
        // leaves the flags (0) out, and the kernel then takes the port for meant as well.
        let added =
            vec![(0, vec![1]), (2, vec![6, 100]), (2, vec![0, 7]), (2, vec![8, 200]), (2, vec![16, 299])];
        let deleted = vec![(0, vec![1]), (2, vec![0, 1])];
        assert_eq!(read, [(libc::RTM_SETLINK, added), (libc::RTM_DELLINK, deleted)]);
    }
}
