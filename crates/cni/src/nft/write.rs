//! Writing a transaction.

use hopwise_kernel::netlink::{Batch, MessageWriter, NetlinkError, Socket};
use hopwise_kernel::nft::abi::{self, chain, elem, msg, rule, set};

use super::{Element, Rule, Table};

/// A set or map.
#[derive(Clone, Copy, Debug)]
pub struct SetSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// nft's number for the type of its keys, which the kernel only keeps, and their length in bytes.
    pub key: (u32, u32),
    /// The same for a map's values; `None` for a set.
    pub data: Option<(u32, u32)>,
}

impl SetSpec<'_> {
    /// The values of a map to verdicts.
    pub const VERDICT: (u32, u32) = (set::TYPE_VERDICT, 0);
    /// nft's number for the type of links' names, of 16 bytes.
    pub const IFNAME: u32 = set::TYPE_IFNAME;
}

/// A chain that the kernel calls.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain<'a> {
    /// Its name.
    pub name: &'a str,
    /// `filter` or `nat`.
    pub kind: &'a str,
    /// `NF_INET_*` or `NF_BR_*`.
    pub hook: u32,
    /// Its place among the chains of the hook.
    pub priority: i32,
}

/// A transaction being written: all of it takes effect, or nothing.
pub struct Transaction {
    table: Table,
    batch: Batch,
    n_sets: u32,
}

impl Transaction {
    /// An empty one for a table.
    pub fn new(table: Table) -> Transaction {
        Transaction::begin(table, None)
    }

    /// One that takes effect only in this generation of the rule set; `ERESTART` in another.
    pub fn at(table: Table, generation: u32) -> Transaction {
        Transaction::begin(table, Some(generation))
    }

    fn begin(table: Table, generation: Option<u32>) -> Transaction {
        let mut batch = Batch::new();
        let mut begin = frame(&mut batch, abi::BATCH_BEGIN);
        if let Some(generation) = generation {
            begin.be32(abi::BATCH_GENERATION, generation);
        }
        drop(begin);
        Transaction { table, batch, n_sets: 0 }
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.batch.len() == 1
    }

    /// Sends it.
    ///
    /// # Errors
    ///
    /// The first message's that the kernel refuses.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        drop(frame(&mut self.batch, abi::BATCH_END));
        socket.transaction(&mut self.batch)
    }

    fn message(&mut self, kind: u16, flags: u16) -> MessageWriter<'_> {
        let mut message =
            self.batch.message(abi::SUBSYSTEM << 8 | kind, flags, &[self.table.family, 0, 0, 0]);
        message.str(abi::TABLE, self.table.name);
        message
    }

    /// The table, made unless it is there.
    pub fn add_table(&mut self) {
        drop(self.message(msg::NEWTABLE, abi::CREATE));
    }

    /// A set or map, made unless it is there.
    pub fn add_set(&mut self, spec: &SetSpec<'_>) {
        self.n_sets += 1;
        let id = self.n_sets;
        let flags = if spec.data.is_some() { set::FLAG_MAP } else { 0 };
        let mut message = self.message(msg::NEWSET, abi::CREATE);
        message.str(set::NAME, spec.name).be32(set::FLAGS, flags);
        message.be32(set::KEY_TYPE, spec.key.0).be32(set::KEY_LEN, spec.key.1);
        if let Some((kind, len)) = spec.data {
            message.be32(set::DATA_TYPE, kind);
            if len > 0 {
                message.be32(set::DATA_LEN, len);
            }
        }
        message.be32(set::ID, id);
        if spec.key.0 == set::TYPE_IFNAME {
            message.bytes(set::USERDATA, &set::USERDATA_HOST_ENDIAN);
        }
    }

    /// A chain, made unless it is there, its rules removed.
    pub fn reset_chain(&mut self, name: &str) {
        self.message(msg::NEWCHAIN, abi::CREATE).str(chain::NAME, name);
        self.flush(name);
    }

    /// The same for one that the kernel calls; what it lets through is accepted.
    pub fn reset_base_chain(&mut self, spec: &BaseChain<'_>) {
        let mut message = self.message(msg::NEWCHAIN, abi::CREATE);
        message.str(chain::NAME, spec.name);
        message
            .nested(chain::HOOK)
            .be32(chain::HOOK_NUMBER, spec.hook)
            .be32(chain::HOOK_PRIORITY, spec.priority as u32);
        // NF_ACCEPT.
        message.be32(chain::POLICY, 1).str(chain::TYPE, spec.kind);
        drop(message);
        self.flush(spec.name);
    }

    /// Removes all rules of a chain.
    pub fn flush(&mut self, chain: &str) {
        self.message(msg::DELRULE, 0).str(rule::CHAIN, chain);
    }

    /// Deletes a chain, which must be empty and which nothing may lead to.
    pub fn delete_chain(&mut self, chain: &str) {
        self.message(msg::DELCHAIN, 0).str(chain::NAME, chain);
    }

    /// Deletes a rule.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.message(msg::DELRULE, 0).str(rule::CHAIN, chain).be64(rule::HANDLE, handle);
    }

    /// Appends a rule to a chain.
    pub fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Rule<'_, '_>)) {
        let mut message = self.message(msg::NEWRULE, abi::CREATE | abi::APPEND);
        message.str(rule::CHAIN, chain);
        let mut list = message.nested(rule::EXPRESSIONS);
        write(&mut Rule::new(&mut list));
    }

    /// An element; `EEXIST` when the set has the key, `ENOENT` when there is no such set, or no such chain to go to.
    pub fn add_element(&mut self, set: &str, element: &Element) {
        let mut message = self.message(msg::NEWSETELEM, abi::CREATE | abi::EXCLUSIVE);
        message.str(elem::SET, set);
        element.write(&mut message.nested(elem::ELEMENTS));
    }

    /// Removes an element by its key; `ENOENT` when there is none.
    pub fn remove_element(&mut self, set: &str, key: &[u8]) {
        let mut message = self.message(msg::DELSETELEM, 0);
        message.str(elem::SET, set);
        super::read::write_key(&mut message, key);
    }
}

fn frame(batch: &mut Batch, kind: u16) -> MessageWriter<'_> {
    let [high, low] = abi::SUBSYSTEM.to_be_bytes();
    batch.message(kind, 0, &[libc::AF_UNSPEC as u8, 0, high, low])
}
