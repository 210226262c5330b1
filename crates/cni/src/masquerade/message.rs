//! nf_tables messages for the table of masqueraded pods.
//!
//! Numbers are from `linux/netfilter/nf_tables.h`; integers are in network byte order.

use std::net::IpAddr;

use hopwise_core::cidr::Cidr;
use hopwise_core::family::Family;
use hopwise_kernel::netlink::{Attributes, Batch, Message, MessageWriter, NetlinkError, Socket};

/// The table, family `inet`.
pub const TABLE: &str = "hopwise_cni";
const POSTROUTING: &str = "postrouting";

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;

const SUBSYSTEM: u16 = 10;
const NFPROTO_INET: u8 = 1;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = 0;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

/// `NFTA_LIST_ELEM`.
const LIST_ELEM: u16 = 1;
/// `NFT_GOTO` (-4), `NFT_RETURN` (-5).
const GOTO: u32 = -4_i32 as u32;
const RETURN: u32 = -5_i32 as u32;
/// `NFT_SET_MAP`.
const SET_MAP: u32 = 8;
/// `NFT_DATA_VERDICT`.
const DATA_VERDICT: u32 = 0xffff_ff00;
/// `NFT_REG_1`, `NFT_REG_VERDICT`.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;

/// A transaction being written: all of it takes effect, or nothing.
pub struct Transaction {
    batch: Batch,
}

impl Transaction {
    /// An empty one.
    pub fn new() -> Transaction {
        let mut transaction = Transaction { batch: Batch::new() };
        transaction.frame(BATCH_BEGIN);
        transaction
    }

    /// Sends it.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        self.frame(BATCH_END);
        socket.transaction(&mut self.batch)
    }

    fn frame(&mut self, kind: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        drop(self.batch.message(kind, 0, &[libc::AF_UNSPEC as u8, 0, high, low]));
    }

    fn message(&mut self, kind: u16, flags: u16) -> MessageWriter<'_> {
        let mut message = start(&mut self.batch, kind, flags);
        // Attribute 1 is the table's name in every message.
        message.str(1, TABLE);
        message
    }

    /// The table with its maps and its base chain, made or put right.
    pub fn add_table(&mut self) {
        drop(self.message(NEWTABLE, CREATE));
        for (id, family) in [(1, Family::V4), (2, Family::V6)] {
            // nft's own numbers for its types, which the kernel only keeps: ipv4_addr, ipv6_addr.
            let (key_type, key_len) = if family == Family::V4 { (7, 4) } else { (8, 16) };
            let mut set = self.message(NEWSET, CREATE);
            set.str(2, map_name(family)).be32(3, SET_MAP).be32(4, key_type).be32(5, key_len);
            set.be32(6, DATA_VERDICT).be32(10, id);
        }
        let mut chain = self.message(NEWCHAIN, CREATE);
        chain.str(3, POSTROUTING);
        // NF_INET_POST_ROUTING at priority srcnat.
        chain.nested(4).be32(1, 4).be32(2, 100);
        chain.be32(5, 1).str(7, "nat");
        drop(chain);
        self.flush(POSTROUTING);
        for family in Family::BOTH {
            self.rule(POSTROUTING, |rule| {
                rule.protocol(family);
                rule.source(family);
                rule.expression("lookup", |data| {
                    data.str(1, map_name(family)).be32(2, REGISTER).be32(3, VERDICT_REGISTER);
                });
            });
        }
    }

    /// The chain of a network, made or put right.
    pub fn add_network(&mut self, network: Cidr) {
        let name = chain_name(network);
        self.message(NEWCHAIN, CREATE).str(3, &name);
        self.flush(&name);
        let multicast = match network.family() {
            Family::V4 => Cidr::containing([224, 0, 0, 0].into(), 4),
            Family::V6 => Cidr::containing([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8),
        };
        for untouched in std::iter::once(network).chain(multicast) {
            self.rule(&name, |rule| {
                rule.destination_in(untouched);
                rule.expression("immediate", |data| {
                    data.be32(1, VERDICT_REGISTER);
                    data.nested(2).nested(2).be32(1, RETURN);
                });
            });
        }
        self.rule(&name, |rule| rule.expression("masq", |_| {}));
    }

    /// An element: packets from the address go to the chain of its network.
    pub fn add_element(&mut self, address: IpAddr, network: Cidr, comment: &str) {
        let mut message = self.message(NEWSETELEM, CREATE | EXCLUSIVE);
        message.str(2, map_name(Family::of(address)));
        let mut list = message.nested(3);
        let mut element = list.nested(LIST_ELEM);
        element.nested(1).ip(1, address);
        element.nested(2).nested(2).be32(1, GOTO).str(2, &chain_name(network));
        // How nft keeps a comment: type 0, length, text with its zero.
        let mut userdata = vec![0, comment.len() as u8 + 1];
        userdata.extend_from_slice(comment.as_bytes());
        userdata.push(0);
        element.bytes(6, &userdata);
    }

    /// Removes the element of an address; `ENOENT` when there is none.
    pub fn remove_element(&mut self, address: IpAddr) {
        let mut message = self.message(DELSETELEM, 0);
        write_key(&mut message, address);
    }

    fn flush(&mut self, chain: &str) {
        self.message(DELRULE, 0).str(2, chain);
    }

    fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Rule<'_, '_>)) {
        let mut message = self.message(NEWRULE, CREATE | APPEND);
        message.str(2, chain);
        let mut list = message.nested(4);
        write(&mut Rule { list: &mut list });
    }
}

/// The expressions of a rule being written.
struct Rule<'a, 'b> {
    list: &'a mut MessageWriter<'b>,
}

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut MessageWriter<'_>)) {
        let mut element = self.list.nested(LIST_ELEM);
        element.str(1, name);
        data(&mut element.nested(2));
    }

    fn compare(&mut self, value: &[u8]) {
        self.expression("cmp", |data| {
            data.be32(1, REGISTER).be32(2, 0);
            data.nested(3).bytes(1, value);
        });
    }

    fn protocol(&mut self, family: Family) {
        // NFT_META_NFPROTO; NFPROTO_IPV4, NFPROTO_IPV6.
        self.expression("meta", |data| {
            data.be32(1, REGISTER).be32(2, 15);
        });
        self.compare(&[if family == Family::V4 { 2 } else { 10 }]);
    }

    fn header(&mut self, offset: u32, len: u32) {
        // NFT_PAYLOAD_NETWORK_HEADER.
        self.expression("payload", |data| {
            data.be32(1, REGISTER).be32(2, 1).be32(3, offset).be32(4, len);
        });
    }

    fn source(&mut self, family: Family) {
        let (offset, len) = if family == Family::V4 { (12, 4) } else { (8, 16) };
        self.header(offset, len);
    }

    /// With the protocol, though only packets of the family come here: nft lists the rule by its name then.
    fn destination_in(&mut self, network: Cidr) {
        self.protocol(network.family());
        let (offset, len) = if network.family() == Family::V4 { (16, 4) } else { (24, 16) };
        self.header(offset, len);
        let ones = u128::MAX.checked_shl(128 - u32::from(network.prefix_len())).unwrap_or(0).to_be_bytes();
        self.expression("bitwise", |data| {
            data.be32(1, REGISTER).be32(2, REGISTER).be32(3, len);
            data.nested(4).bytes(1, &ones[..len as usize]);
            data.nested(5).bytes(1, &[0; 16][..len as usize]);
        });
        match network.address() {
            IpAddr::V4(address) => self.compare(&address.octets()),
            IpAddr::V6(address) => self.compare(&address.octets()),
        }
    }
}

fn start(batch: &mut Batch, kind: u16, flags: u16) -> MessageWriter<'_> {
    batch.message(SUBSYSTEM << 8 | kind, flags, &[NFPROTO_INET, 0, 0, 0])
}

fn write_key(message: &mut MessageWriter<'_>, address: IpAddr) {
    message.str(2, map_name(Family::of(address)));
    message.nested(3).nested(LIST_ELEM).nested(1).ip(1, address);
}

fn map_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "pods_v4",
        Family::V6 => "pods_v6",
    }
}

/// nft takes no colon in a name.
fn chain_name(network: Cidr) -> String {
    format!("net_{network}").replace(':', "_")
}

/// The comment of an address's element; `None` when there is no element.
pub fn comment_of(socket: &mut Socket, address: IpAddr) -> Result<Option<String>, NetlinkError> {
    let mut batch = Batch::new();
    let mut message = start(&mut batch, GETSETELEM, 0);
    message.str(1, TABLE);
    write_key(&mut message, address);
    drop(message);
    let mut found = Ok(None);
    socket.ask(&mut batch, |_, answer| {
        found = match answer {
            Ok(message) => Ok(read_elements(&message).into_iter().map(|(_, comment)| comment).next()),
            Err(error) if error.errno() == libc::ENOENT => Ok(None),
            Err(error) => Err(error),
        };
    })?;
    found
}

/// All elements of a family with their comments.
pub fn elements(socket: &mut Socket, family: Family) -> Result<Vec<(IpAddr, String)>, NetlinkError> {
    let mut batch = Batch::new();
    start(&mut batch, GETSETELEM, 0).str(1, TABLE).str(2, map_name(family));
    let mut found = Vec::new();
    let dumped = socket.dump(&mut batch, &mut found, Vec::clear, |found, message| {
        found.extend(read_elements(&message));
    });
    match dumped {
        Err(error) if error.errno() != libc::ENOENT => Err(error),
        _ => Ok(found),
    }
}

fn read_elements(message: &Message<'_>) -> Vec<(IpAddr, String)> {
    let list = message.attributes(4).find(3).map(|list| list.nested());
    list.into_iter().flatten().filter_map(|element| read_element(&element.nested())).collect()
}

fn read_element(element: &Attributes<'_>) -> Option<(IpAddr, String)> {
    let address = element.find(1)?.nested().find(1)?.ip()?;
    let comment = element.find(6).and_then(|userdata| {
        let [0, _, text @ ..] = userdata.payload else { return None };
        String::from_utf8(text.strip_suffix(&[0])?.to_vec()).ok()
    });
    Some((address, comment.unwrap_or_default()))
}
