//! Traffic control: the few queueing disciplines, filters and devices that shape a pod's traffic (`tc(8)`).

use hopwise_core::name::{IfIndex, LinkName, MacAddr};

use super::request::{CREATE, Requests, UP, describe, ifinfomsg};
use super::{LinkRef, Rtnl};
use crate::netlink::{Batch, Message, NetlinkError};

/// `linux/pkt_sched.h`.
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// The handle that an `ingress` discipline always has, `ffff:`.
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// `1:`, of the discipline at the root.
const ROOT_HANDLE: u32 = 0x0001_0000;
/// `linux/rtnetlink.h`.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// `linux/pkt_sched.h`, `TCA_TBF_*`.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
/// `linux/pkt_cls.h`.
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TC_ACT_STOLEN: u32 = 4;
/// `linux/tc_act/tc_mirred.h`.
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;

/// A token bucket filter, `tc qdisc … tbf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tbf {
    /// Bytes per second.
    pub rate: u64,
    /// How many bytes may wait before more are dropped.
    pub limit: u32,
    /// The size of the bucket, as the time that it lasts at the rate, in the kernel's ticks of 64 ns
    /// (`PSCHED_TICKS2NS`, since Linux 2.6.31).
    pub buffer: u32,
}

impl Tbf {
    /// `struct tc_tbf_qopt`: two `struct tc_ratespec` whose last field is the rate, then limit, buffer and mtu.
    fn parameters(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        // A rate beyond 32 bits goes into an attribute of its own.
        bytes[8..12].copy_from_slice(&(self.rate as u32).to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        bytes[28..32].copy_from_slice(&self.buffer.to_ne_bytes());
        bytes
    }

    fn wide_rate(&self) -> Option<u64> {
        (self.rate > u64::from(u32::MAX)).then_some(self.rate)
    }
}

/// A queueing discipline as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QdiscInfo {
    /// Its kind, such as `tbf` or `ingress`.
    pub kind: String,
    /// Its parameters, if it is a token bucket filter.
    pub tbf: Option<Tbf>,
}

impl QdiscInfo {
    fn from_message(message: &Message<'_>) -> Option<QdiscInfo> {
        if message.kind != libc::RTM_NEWQDISC {
            return None;
        }
        let attributes = message.attributes(20);
        let kind = attributes.find(TCA_KIND)?.str()?.to_owned();
        let mut tbf = None;
        if kind == "tbf" {
            let options = attributes.find(TCA_OPTIONS)?.nested();
            let parameters = options.find(TCA_TBF_PARMS)?.payload;
            let number = |at: usize| Some(u32::from_ne_bytes(parameters.get(at..at + 4)?.try_into().ok()?));
            let wide = options.find(TCA_TBF_RATE64).and_then(|rate| rate.payload.try_into().ok());
            tbf = Some(Tbf {
                rate: wide.map_or(u64::from(number(8)?), u64::from_ne_bytes),
                limit: number(24)?,
                buffer: number(28)?,
            });
        }
        Some(QdiscInfo { kind, tbf })
    }
}

/// `struct tcmsg`.
fn tcmsg(link: IfIndex, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut fixed = [0; 20];
    fixed[4..8].copy_from_slice(&link.0.to_ne_bytes());
    fixed[8..12].copy_from_slice(&handle.to_ne_bytes());
    fixed[12..16].copy_from_slice(&parent.to_ne_bytes());
    fixed[16..].copy_from_slice(&info.to_ne_bytes());
    fixed
}

impl Requests {
    /// Makes an intermediate functional block (`ifb`), up and without a transmit queue of its own: traffic that is
    /// redirected to it meets its queueing discipline and goes on from there. `EEXIST` when any link has the name,
    /// `EOPNOTSUPP` when the kernel has no such links.
    pub fn add_ifb(&mut self, name: LinkName, mac: MacAddr, mtu: u32) -> &mut Self {
        let mut message =
            self.batch.message(libc::RTM_NEWLINK, CREATE, &ifinfomsg(libc::AF_UNSPEC, 0, UP, UP));
        describe(&mut message, name, Some(mac), Some(mtu));
        message.u32(libc::IFLA_TXQLEN, 0);
        message.nested(libc::IFLA_LINKINFO).str(libc::IFLA_INFO_KIND, "ifb");
        drop(message);
        self
    }

    /// Puts a token bucket filter at the root of a link: what the link sends is held to the rate. `EEXIST` when one is
    /// there, `ENOENT` when the kernel has none (`CONFIG_NET_SCH_TBF`).
    pub fn add_tbf(&mut self, link: IfIndex, tbf: &Tbf) -> &mut Self {
        let mut message =
            self.batch.message(libc::RTM_NEWQDISC, CREATE, &tcmsg(link, ROOT_HANDLE, TC_H_ROOT, 0));
        message.str(TCA_KIND, "tbf");
        let mut options = message.nested(TCA_OPTIONS);
        options.bytes(TCA_TBF_PARMS, &tbf.parameters());
        if let Some(rate) = tbf.wide_rate() {
            options.bytes(TCA_TBF_RATE64, &rate.to_ne_bytes());
        }
        drop(options);
        drop(message);
        self
    }

    /// Takes the discipline at the root of a link away; the kernel's default comes back. `ENOENT` when that is what
    /// there is.
    pub fn delete_root(&mut self, link: IfIndex) -> &mut Self {
        drop(self.batch.message(libc::RTM_DELQDISC, 0, &tcmsg(link, 0, TC_H_ROOT, 0)));
        self
    }

    /// Makes the place where filters see what a link receives. `EEXIST` when it is there, `ENOENT` when the kernel has
    /// none (`CONFIG_NET_SCH_INGRESS`).
    pub fn add_ingress(&mut self, link: IfIndex) -> &mut Self {
        let fixed = tcmsg(link, INGRESS_HANDLE, TC_H_INGRESS, 0);
        self.batch.message(libc::RTM_NEWQDISC, CREATE, &fixed).str(TCA_KIND, "ingress");
        self
    }

    /// Takes that place away, with its filters.
    pub fn delete_ingress(&mut self, link: IfIndex) -> &mut Self {
        drop(self.batch.message(libc::RTM_DELQDISC, 0, &tcmsg(link, INGRESS_HANDLE, TC_H_INGRESS, 0)));
        self
    }

    /// Sends all that a link receives to another link's discipline for sending (`u32 match u32 0 0`, `mirred egress
    /// redirect`). Needs [`Requests::add_ingress`]. `ENOENT` when the kernel has no `u32` or no `mirred`
    /// (`CONFIG_NET_CLS_U32`, `CONFIG_NET_ACT_MIRRED`).
    pub fn add_redirect(&mut self, link: IfIndex, to: IfIndex) -> &mut Self {
        // Priority 1, all protocols, the latter in network byte order.
        let info = 1 << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
        let fixed = tcmsg(link, 0, INGRESS_HANDLE, info);
        let mut message = self.batch.message(libc::RTM_NEWTFILTER, CREATE, &fixed);
        message.str(TCA_KIND, "u32");
        let mut options = message.nested(TCA_OPTIONS);
        // struct tc_u32_sel with one key that is all zeros, so that anything matches.
        let mut selector = [0; 32];
        (selector[0], selector[2]) = (TC_U32_TERMINAL, 1);
        options.bytes(TCA_U32_SEL, &selector).u32(TCA_U32_CLASSID, ROOT_HANDLE | 1);
        let mut actions = options.nested(TCA_U32_ACT);
        let mut first = actions.nested(1);
        first.str(TCA_ACT_KIND, "mirred");
        // struct tc_mirred: index, capabilities, action, two counts, what to do, the link.
        let mut parameters = [0; 28];
        parameters[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
        parameters[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
        parameters[24..].copy_from_slice(&to.0.to_ne_bytes());
        first.nested(TCA_ACT_OPTIONS).bytes(TCA_MIRRED_PARMS, &parameters);
        drop(first);
        drop(actions);
        drop(options);
        drop(message);
        self
    }
}

impl Rtnl {
    /// The discipline at the root of a link. The kernel's own (`noqueue`) is shown by some kernels, and `None` by others.
    pub fn root_qdisc(&mut self, link: IfIndex) -> Result<Option<QdiscInfo>, NetlinkError> {
        self.qdisc(link, TC_H_ROOT)
    }

    /// Whether filters see what a link receives: `ingress` or `clsact`.
    pub fn has_ingress(&mut self, link: IfIndex) -> Result<bool, NetlinkError> {
        Ok(self.qdisc(link, TC_H_INGRESS)?.is_some())
    }

    /// One question, one answer: a dump would carry the disciplines of every pod of the node.
    fn qdisc(&mut self, link: IfIndex, parent: u32) -> Result<Option<QdiscInfo>, NetlinkError> {
        let mut batch = Batch::new();
        // Older kernels send the answer as a notification, to the asker only if it asks for an echo.
        drop(batch.message(libc::RTM_GETQDISC, libc::NLM_F_ECHO as u16, &tcmsg(link, 0, parent, 0)));
        let mut found = None;
        // None there; or there is, and it is built in and not shown, for which some kernels answer nothing at all.
        match self.socket.ask_acknowledged(&mut batch, |message| found = QdiscInfo::from_message(&message)) {
            Err(error) if ![libc::ENOENT, libc::EINVAL].contains(&error.errno()) => Err(error),
            _ => Ok(found),
        }
    }

    /// Makes an `ifb`; see [`Requests::add_ifb`].
    pub fn add_ifb(&mut self, name: LinkName, mac: MacAddr, mtu: u32) -> Result<(), NetlinkError> {
        self.one(|requests| requests.add_ifb(name, mac, mtu))
    }

    /// Deletes a link, if it is there. Returns whether it was.
    pub fn delete_if_there(&mut self, link: impl Into<LinkRef>) -> Result<bool, NetlinkError> {
        match self.delete_link(link) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == libc::ENODEV => Ok(false),
            Err(error) => Err(error),
        }
    }
}
