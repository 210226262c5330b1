//! Numbers of `linux/netfilter/nf_tables.h`, `nfnetlink.h` and `netfilter.h`, as far as the plugins use them. Integers in
//! attributes are in network byte order.

pub(super) const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub(super) const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub(super) const APPEND: u16 = libc::NLM_F_APPEND as u16;

/// `NFNL_SUBSYS_NFTABLES`: the upper half of every message type.
pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;
/// `NFNL_BATCH_GENID`, in the message that begins a batch.
pub(super) const BATCH_GENERATION: u16 = 1;

/// The size of `struct nfgenmsg`.
pub(super) const NFGENMSG: usize = 4;

/// Message types, the lower half.
pub(super) mod msg {
    pub const NEWTABLE: u16 = 0;
    pub const NEWCHAIN: u16 = 3;
    pub const GETCHAIN: u16 = 4;
    pub const DELCHAIN: u16 = 5;
    pub const NEWRULE: u16 = 6;
    pub const GETRULE: u16 = 7;
    pub const DELRULE: u16 = 8;
    pub const NEWSET: u16 = 9;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const DELSETELEM: u16 = 14;
    pub const NEWGEN: u16 = 15;
    pub const GETGEN: u16 = 16;
}

/// `NFTA_LIST_ELEM`: a member of any list.
pub(super) const LIST_ELEM: u16 = 1;
/// The name of the table is attribute 1 of every message.
pub(super) const TABLE: u16 = 1;
/// `NFTA_GEN_ID`.
pub(super) const GEN_ID: u16 = 1;

pub(super) mod chain {
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const POLICY: u16 = 5;
    /// How many rules are in it, and lead to it. Nothing can lead to a chain with a hook.
    pub const USE: u16 = 6;
    pub const TYPE: u16 = 7;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
}

pub(super) mod rule {
    pub const CHAIN: u16 = 2;
    pub const HANDLE: u16 = 3;
    pub const EXPRESSIONS: u16 = 4;
    pub const USERDATA: u16 = 7;
}

pub(super) mod set {
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LEN: u16 = 5;
    pub const DATA_TYPE: u16 = 6;
    pub const DATA_LEN: u16 = 7;
    pub const ID: u16 = 10;
    pub const USERDATA: u16 = 13;
    /// nft's number for `ifname`.
    pub const TYPE_IFNAME: u32 = 41;
    /// What nft itself notes on a set of names, without which it lists them backwards: `NFTNL_UDATA_SET_KEYBYTEORDER` =
    /// `BYTEORDER_HOST_ENDIAN`, in host byte order.
    pub const USERDATA_HOST_ENDIAN: [u8; 6] = {
        let [a, b, c, d] = 1_u32.to_ne_bytes();
        [0, 4, a, b, c, d]
    };
    /// `NFT_SET_MAP`.
    pub const FLAG_MAP: u32 = 8;
    /// `NFT_DATA_VERDICT`.
    pub const TYPE_VERDICT: u32 = 0xffff_ff00;
}

pub(super) mod elem {
    pub const SET: u16 = 2;
    pub const ELEMENTS: u16 = 3;
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
    pub const USERDATA: u16 = 6;
    /// What the kernel takes at most (`NFT_USERDATA_MAXLEN`).
    pub const MAX_USERDATA: usize = 256;
    /// `NFTNL_UDATA_SET_ELEM_COMMENT`, and of rules `NFTNL_UDATA_RULE_COMMENT`.
    pub const COMMENT: u8 = 0;
    /// Ours. nft passes over what it doesn't know.
    pub const NOTE: u8 = 0x80;
}

pub(super) mod data {
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
    pub const VERDICT_CHAIN: u16 = 2;
}

pub(super) mod expr {
    pub const NAME: u16 = 1;
    pub const DATA: u16 = 2;
    /// `NFTA_IMMEDIATE_DREG`, `NFTA_IMMEDIATE_DATA`.
    pub const IMMEDIATE_REGISTER: u16 = 1;
    pub const IMMEDIATE_DATA: u16 = 2;
    /// `NFTA_TARGET_NAME`, `NFTA_MATCH_NAME` and their `INFO` of the xtables compatibility expressions.
    pub const COMPAT_NAME: u16 = 1;
    pub const COMPAT_INFO: u16 = 3;
}
