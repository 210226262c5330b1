//! Writing our table: one transaction for every change.

use std::collections::{BTreeMap, BTreeSet};

use hopwise_core::cidr::Cidr;
use hopwise_core::diff::TableChange;
use hopwise_core::family::Family;
use hopwise_core::mark::NFT_TABLE;
use hopwise_core::netfilter::{Masquerade, SetName, Table};

use super::abi::{self, chain, msg, rule, set, table};
use super::elements::{self, Action};
use super::expr;
use super::observe::observe;
use crate::netlink::{Batch, MessageWriter, NetlinkError, Socket};

/// The name of our one chain.
pub(super) const CHAIN: &str = "postrouting";
/// Its type.
pub(super) const CHAIN_TYPE: &str = "nat";

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;

/// Applies a change of our table: all of it, or on an error nothing.
///
/// - [`TableChange::Replace`] makes the table what it shall be in one transaction, and connections keep the translation
///   that they have: it lives in conntrack. See below for new ones.
/// - [`TableChange::Elements`] removes before it adds, so that a network may give way to a wider or narrower one. To add
///   what is there changes nothing; to remove what isn't there is an error (`ENOENT`), as every change is worked out from
///   what was observed and this means that it has to be observed again.
/// - [`TableChange::Delete`] is content with no table.
///
/// A change of 60,000 elements is a message of 1 MB (IPv6: 1.7 MB); beyond `net.core.wmem_max` that takes CAP_NET_ADMIN
/// in the initial user namespace, else it fails with `EMSGSIZE`.
///
/// # New connections during a replacement
///
/// A transaction that deletes a table and makes it anew is atomic for rules but not quite for a packet on its way
/// through: the new chain is called before the old one, so a packet can meet the new one before the commit, when it is
/// still empty, and the old one after it, when it no longer is; its connection then stays without a translation. So a
/// table whose structure is ours is changed in place: the chain and the sets that stay are kept, and rules are exchanged
/// in them, which a packet sees from one side only. Only a table that was altered is deleted first.
pub fn apply(socket: &mut Socket, change: &TableChange) -> Result<(), NetlinkError> {
    match change {
        TableChange::Replace(table) => replace(socket, table),
        TableChange::Elements { add, remove } => transaction(socket, |batch| {
            write_elements(batch, Action::Remove, remove);
            write_elements(batch, Action::Add, add);
        }),
        TableChange::Delete => transaction(socket, write_absence),
    }
}

fn replace(socket: &mut Socket, value: &Table) -> Result<(), NetlinkError> {
    let observed = observe(socket)?.unwrap_or_default();
    if let Some(standing) = &observed.structure
        && can_change_in_place(standing, &value.masquerade)
        && transaction(socket, |batch| write_in_place(batch, standing, &observed.sets, value)).is_ok()
    {
        return Ok(());
    }
    transaction(socket, |batch| {
        write_absence(batch);
        write_table(batch, value);
    })
}

fn transaction(socket: &mut Socket, content: impl FnOnce(&mut Batch)) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    frame(&mut batch, abi::BATCH_BEGIN);
    content(&mut batch);
    frame(&mut batch, abi::BATCH_END);
    socket.transaction(&mut batch)
}

/// Starts an nf_tables message about our table.
pub(super) fn message(batch: &mut Batch, kind: u16, flags: u16) -> MessageWriter<'_> {
    family_message(batch, abi::INET, kind, flags)
}

/// Starts an nf_tables message about a family's tables.
pub(super) fn family_message(batch: &mut Batch, family: u8, kind: u16, flags: u16) -> MessageWriter<'_> {
    batch.message(abi::SUBSYSTEM << 8 | kind, flags, &[family, 0, 0, 0])
}

fn frame(batch: &mut Batch, kind: u16) {
    let [high, low] = abi::SUBSYSTEM.to_be_bytes();
    batch.message(kind, 0, &[libc::AF_UNSPEC as u8, 0, high, low]);
}

/// Makes sure that there is a table, so that deleting it can't fail.
fn write_absence(batch: &mut Batch) {
    message(batch, msg::NEWTABLE, CREATE).str(table::NAME, NFT_TABLE);
    message(batch, msg::DELTABLE, 0).str(table::NAME, NFT_TABLE);
}

fn write_table(batch: &mut Batch, value: &Table) {
    message(batch, msg::NEWTABLE, CREATE).str(table::NAME, NFT_TABLE).be32(table::FLAGS, 0);
    for (index, name) in value.set_names().enumerate() {
        write_set(batch, name, index as u32 + 1);
        let elements: Vec<Cidr> = value.elements(name).collect();
        elements::write(batch, Action::Add, name, &elements);
    }
    if !value.masquerade.is_empty() {
        write_chain(batch);
    }
    for masquerade in &value.masquerade {
        write_rule(batch, *masquerade);
    }
}

/// There must be a chain to keep, and new sets come last in a table: those of IPv4 can't be added before those of IPv6.
fn can_change_in_place(standing: &[Masquerade], wanted: &[Masquerade]) -> bool {
    let first = |list: &[Masquerade]| list.first().map(|masquerade| masquerade.family);
    let (standing, wanted) = (first(standing), first(wanted));
    standing.is_some() && wanted.is_some() && (standing == wanted || standing == Some(Family::V4))
}

/// Changes a table of ours without taking away what stays.
fn write_in_place(
    batch: &mut Batch,
    standing: &[Masquerade],
    elements: &BTreeMap<SetName, BTreeSet<Cidr>>,
    value: &Table,
) {
    message(batch, msg::DELRULE, 0).str(rule::TABLE, NFT_TABLE).str(rule::CHAIN, CHAIN);
    let wanted: BTreeSet<SetName> = value.set_names().collect();
    for masquerade in standing {
        for name in SetName::of_family(masquerade.family).filter(|name| !wanted.contains(name)) {
            message(batch, msg::DELSET, 0).str(set::TABLE, NFT_TABLE).str(set::NAME, name.as_str());
        }
    }
    for (index, name) in value.set_names().enumerate() {
        let want: BTreeSet<Cidr> = value.elements(name).collect();
        let have = elements.get(&name);
        if have.is_none() {
            write_set(batch, name, index as u32 + 1);
        }
        let none = BTreeSet::new();
        let have = have.unwrap_or(&none);
        let gone: Vec<Cidr> = have.difference(&want).copied().collect();
        let new: Vec<Cidr> = want.difference(have).copied().collect();
        elements::write(batch, Action::Remove, name, &gone);
        elements::write(batch, Action::Add, name, &new);
    }
    for masquerade in &value.masquerade {
        write_rule(batch, *masquerade);
    }
}

/// `id` only has to be different from other sets' in the transaction.
fn write_set(batch: &mut Batch, name: SetName, id: u32) {
    let SetDeclaration { flags, key_type, key_len } = SetDeclaration::of(name);
    message(batch, msg::NEWSET, CREATE)
        .str(set::TABLE, NFT_TABLE)
        .str(set::NAME, name.as_str())
        .be32(set::FLAGS, flags)
        .be32(set::KEY_TYPE, key_type)
        .be32(set::KEY_LEN, key_len)
        .be32(set::ID, id)
        .bytes(set::USERDATA, &set::USERDATA_BIG_ENDIAN);
}

/// What makes a set what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetDeclaration {
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_len: u32,
}

impl SetDeclaration {
    /// That of a set of ours.
    pub(super) fn of(name: SetName) -> SetDeclaration {
        let flags = if name.is_interval() { set::FLAG_INTERVAL } else { 0 };
        let key_type = match name.family {
            Family::V4 => set::TYPE_IPV4,
            Family::V6 => set::TYPE_IPV6,
        };
        SetDeclaration { flags, key_type, key_len: u32::from(name.family.bits() / 8) }
    }
}

fn write_chain(batch: &mut Batch) {
    let mut writer = message(batch, msg::NEWCHAIN, CREATE);
    writer
        .str(chain::TABLE, NFT_TABLE)
        .str(chain::NAME, CHAIN)
        .str(chain::TYPE, CHAIN_TYPE)
        .be32(chain::POLICY, abi::NF_ACCEPT);
    writer
        .nested(chain::HOOK)
        .be32(chain::HOOK_NUMBER, abi::HOOK_POSTROUTING)
        .be32(chain::HOOK_PRIORITY, abi::PRIORITY_SRCNAT);
}

fn write_rule(batch: &mut Batch, masquerade: Masquerade) {
    let mut writer = message(batch, msg::NEWRULE, CREATE | APPEND);
    writer.str(rule::TABLE, NFT_TABLE).str(rule::CHAIN, CHAIN);
    let mut list = writer.nested(rule::EXPRESSIONS);
    for expression in expr::masquerade_rule(masquerade) {
        expression.write(&mut list);
    }
}

fn write_elements(batch: &mut Batch, action: Action, elements: &[(SetName, Cidr)]) {
    let mut sets: Vec<SetName> = elements.iter().map(|(name, _)| *name).collect();
    sets.sort_unstable();
    sets.dedup();
    for name in sets {
        let of_set: Vec<Cidr> =
            elements.iter().filter(|(set, _)| *set == name).map(|(_, cidr)| *cidr).collect();
        elements::write(batch, action, name, &of_set);
    }
}
