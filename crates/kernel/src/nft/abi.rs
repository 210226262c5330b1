//! Numbers of `linux/netfilter/nf_tables.h`, `nfnetlink.h` and `netfilter.h`, as far as they are used here and by the plugins.
//!
//! Integers in nf_tables attributes are in network byte order.
#![allow(missing_docs, reason = "most are the header's names, without the prefix that the module stands for")]

/// `NFNL_SUBSYS_NFTABLES`: the upper half of every message type.
pub const SUBSYSTEM: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN`.
pub const BATCH_BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
pub const BATCH_END: u16 = 0x11;

/// `NFNL_BATCH_GENID`, in the message that begins a batch.
pub const BATCH_GENERATION: u16 = 1;
/// `NLM_F_CREATE`, `NLM_F_EXCL` and `NLM_F_APPEND` of a message that makes something.
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;

/// The size of `struct nfgenmsg`: family, version, and 16 bits that are the ruleset's generation in answers.
pub const NFGENMSG: usize = 4;

/// `NFPROTO_INET`: both IP families.
pub const INET: u8 = 1;
/// `NFPROTO_IPV4`.
pub const IPV4: u8 = 2;
/// `NFPROTO_IPV6`.
pub const IPV6: u8 = 10;

/// `NF_DROP`, as a verdict and as a chain's policy.
pub const NF_DROP: u32 = 0;
/// `NF_ACCEPT`.
pub const NF_ACCEPT: u32 = 1;
/// `NFT_JUMP` (-3).
pub const NFT_JUMP: u32 = -3_i32 as u32;
/// `NFT_RETURN` (-5).
pub const NFT_RETURN: u32 = -5_i32 as u32;
/// `NFT_GOTO` (-4).
pub const NFT_GOTO: u32 = -4_i32 as u32;
/// `NF_INET_FORWARD`.
pub const HOOK_FORWARD: u32 = 2;
/// `NF_INET_POST_ROUTING`.
pub const HOOK_POSTROUTING: u32 = 4;
/// `NF_IP_PRI_NAT_SRC`: what nft calls `srcnat`.
pub const PRIORITY_SRCNAT: u32 = 100;

/// Message types, the lower half.
pub mod msg {
    pub const NEWTABLE: u16 = 0;
    pub const GETTABLE: u16 = 1;
    pub const DELTABLE: u16 = 2;
    pub const NEWCHAIN: u16 = 3;
    pub const GETCHAIN: u16 = 4;
    pub const DELCHAIN: u16 = 5;
    pub const NEWRULE: u16 = 6;
    pub const GETRULE: u16 = 7;
    pub const DELRULE: u16 = 8;
    pub const NEWSET: u16 = 9;
    pub const GETSET: u16 = 10;
    pub const DELSET: u16 = 11;
    pub const NEWSETELEM: u16 = 12;
    pub const GETSETELEM: u16 = 13;
    pub const DELSETELEM: u16 = 14;
    pub const NEWGEN: u16 = 15;
    pub const GETGEN: u16 = 16;
}

/// `NFTA_LIST_ELEM`: a member of any list.
pub const LIST_ELEM: u16 = 1;
/// The name of the table is attribute 1 of every message.
pub const TABLE: u16 = 1;
/// `NFTA_GEN_ID`.
pub const GEN_ID: u16 = 1;

pub mod table {
    pub const NAME: u16 = 1;
    pub const FLAGS: u16 = 2;
    /// How many chains, sets, objects and flowtables are in it.
    pub const USE: u16 = 3;
}

pub mod chain {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const POLICY: u16 = 5;
    /// How many rules are in it, and lead to it. Nothing can lead to a chain with a hook.
    pub const USE: u16 = 6;
    pub const TYPE: u16 = 7;
    pub const FLAGS: u16 = 10;
    /// `NFT_CHAIN_BASE`: what the kernel says of every chain with a hook.
    pub const FLAG_BASE: u32 = 1;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
}

pub mod rule {
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const HANDLE: u16 = 3;
    pub const EXPRESSIONS: u16 = 4;
    pub const USERDATA: u16 = 7;
}

pub mod set {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LEN: u16 = 5;
    pub const DATA_TYPE: u16 = 6;
    pub const DATA_LEN: u16 = 7;
    pub const ID: u16 = 10;
    pub const TIMEOUT: u16 = 11;
    pub const GC_INTERVAL: u16 = 12;
    pub const USERDATA: u16 = 13;
    pub const EXPR: u16 = 17;
    pub const EXPRESSIONS: u16 = 18;
    /// `NFT_SET_MAP`.
    pub const FLAG_MAP: u32 = 8;
    /// `NFT_SET_INTERVAL`.
    pub const FLAG_INTERVAL: u32 = 4;
    /// nft's number for `ipv4_addr`; the kernel only keeps it.
    pub const TYPE_IPV4: u32 = 7;
    /// nft's number for `ipv6_addr`.
    pub const TYPE_IPV6: u32 = 8;
    /// nft's number for `ifname`.
    pub const TYPE_IFNAME: u32 = 41;
    /// `NFT_DATA_VERDICT`.
    pub const TYPE_VERDICT: u32 = 0xffff_ff00;
    /// What nft notes on a set of names, without which it lists them backwards: `NFTNL_UDATA_SET_KEYBYTEORDER` =
    /// `BYTEORDER_HOST_ENDIAN`, in host byte order.
    pub const USERDATA_HOST_ENDIAN: [u8; 6] = {
        let [a, b, c, d] = 1_u32.to_ne_bytes();
        [0, 4, a, b, c, d]
    };
    /// What nft itself notes on its sets: `NFTNL_UDATA_SET_KEYBYTEORDER` = `BYTEORDER_BIG_ENDIAN`, in host byte order.
    pub const USERDATA_BIG_ENDIAN: [u8; 6] = {
        let [a, b, c, d] = 2_u32.to_ne_bytes();
        [0, 4, a, b, c, d]
    };
}

pub mod elem {
    /// `NFTA_SET_ELEM_LIST_*`.
    pub const TABLE: u16 = 1;
    pub const SET: u16 = 2;
    pub const ELEMENTS: u16 = 3;
    /// `NFTA_SET_ELEM_*`.
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const USERDATA: u16 = 6;
    /// What the kernel takes at most (`NFT_USERDATA_MAXLEN`).
    pub const MAX_USERDATA: usize = 256;
    /// `NFTNL_UDATA_SET_ELEM_COMMENT`, and of rules `NFTNL_UDATA_RULE_COMMENT`.
    pub const COMMENT: u8 = 0;
    /// Ours. nft passes over what it doesn't know.
    pub const NOTE: u8 = 0x80;
    /// `NFT_SET_ELEM_INTERVAL_END`: the first address after an interval.
    pub const FLAG_INTERVAL_END: u32 = 1;
    /// What nft notes on an interval without an end: `NFTNL_UDATA_SET_ELEM_FLAGS` = `SET_ELEM_F_INTERVAL_OPEN`.
    pub const USERDATA_OPEN: [u8; 6] = {
        let [a, b, c, d] = 1_u32.to_ne_bytes();
        [1, 4, a, b, c, d]
    };
}

/// `NFTA_DATA_*`.
pub mod data {
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
    pub const VERDICT_CHAIN: u16 = 2;
}

pub mod expr {
    pub const NAME: u16 = 1;
    pub const DATA: u16 = 2;
    /// `NFT_REG_1`, as a register to read or to write.
    pub const REG_1: u32 = 1;

    pub const META_DREG: u16 = 1;
    pub const META_KEY: u16 = 2;
    /// `NFT_META_NFPROTO`.
    pub const META_NFPROTO: u32 = 15;

    pub const CMP_SREG: u16 = 1;
    pub const CMP_OP: u16 = 2;
    pub const CMP_DATA: u16 = 3;
    pub const CMP_EQ: u32 = 0;
    pub const CMP_NEQ: u32 = 1;

    pub const PAYLOAD_DREG: u16 = 1;
    pub const PAYLOAD_BASE: u16 = 2;
    pub const PAYLOAD_OFFSET: u16 = 3;
    pub const PAYLOAD_LEN: u16 = 4;
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    pub const NETWORK_HEADER: u32 = 1;

    pub const BITWISE_SREG: u16 = 1;
    pub const BITWISE_DREG: u16 = 2;
    pub const BITWISE_LEN: u16 = 3;
    pub const BITWISE_MASK: u16 = 4;
    pub const BITWISE_XOR: u16 = 5;
    pub const BITWISE_OP: u16 = 6;

    pub const LOOKUP_SET: u16 = 1;
    pub const LOOKUP_SREG: u16 = 2;
    pub const LOOKUP_FLAGS: u16 = 5;
    pub const LOOKUP_INVERT: u32 = 1;

    pub const MASQ_FLAGS: u16 = 1;
    /// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
    pub const RANDOM_FULLY: u32 = 0x10;

    /// `NFTA_IMMEDIATE_DREG`.
    pub const IMMEDIATE_REGISTER: u16 = 1;
    pub const IMMEDIATE_DATA: u16 = 2;
    /// `NFTA_TARGET_NAME` and `NFTA_MATCH_NAME` of the xtables compatibility expressions.
    pub const COMPAT_NAME: u16 = 1;
    /// `NFTA_TARGET_INFO` and `NFTA_MATCH_INFO`: the extension's own structure. `comment`'s is a string.
    pub const COMPAT_INFO: u16 = 3;
}
