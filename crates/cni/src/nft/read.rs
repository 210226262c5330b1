//! Reading: single elements and chains by name, and whole sets and chains where names don't lead to what is looked for.

use hopwise_kernel::netlink::{Attributes, Batch, Message, MessageWriter, NetlinkError, Socket};
use hopwise_kernel::nft::abi::{self, chain, data, elem, expr, msg, rule};

use super::{Element, Table, element};

fn request(batch: &mut Batch, table: Table, kind: u16) -> MessageWriter<'_> {
    let mut message = batch.message(abi::SUBSYSTEM << 8 | kind, 0, &[table.family, 0, 0, 0]);
    message.str(abi::TABLE, table.name);
    message
}

pub(super) fn write_key(message: &mut MessageWriter<'_>, key: &[u8]) {
    let mut list = message.nested(elem::ELEMENTS);
    list.nested(abi::LIST_ELEM).nested(elem::KEY).bytes(data::VALUE, key);
}

/// Asks once more what the kernel has called invalid: so it does, too, when its module is not loaded yet and this process
/// did not get its turn to have it loaded (see [`Socket::open`]).
fn once_loaded<T>(mut question: impl FnMut() -> Result<T, NetlinkError>) -> Result<T, NetlinkError> {
    match question() {
        Err(error) if error.errno() == libc::EINVAL => question(),
        outcome => outcome,
    }
}

/// The generation of the rule set, which every change of it in this namespace counts up.
///
/// # Errors
///
/// `EINVAL` when the kernel has no nf_tables.
pub fn generation(socket: &mut Socket) -> Result<u32, NetlinkError> {
    let mut batch = Batch::new();
    drop(batch.message(abi::SUBSYSTEM << 8 | msg::GETGEN, 0, &[libc::AF_UNSPEC as u8, 0, 0, 0]));
    once_loaded(|| {
        let mut found = Ok(0);
        socket.ask(&mut batch, |_, answer| {
            found = answer.map(|message| {
                let id = message.attributes(abi::NFGENMSG).find(abi::GEN_ID).and_then(|id| id.be32());
                id.filter(|_| message.kind & 0xff == msg::NEWGEN).unwrap_or(0)
            });
        })?;
        found
    })
}

/// Asks many questions at once; what isn't there is `None`.
fn ask<T>(
    socket: &mut Socket,
    mut batch: Batch,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> Result<Vec<Option<T>>, NetlinkError> {
    once_loaded(|| {
        let mut found: Vec<Option<T>> = Vec::new();
        found.resize_with(batch.len(), || None);
        let mut refused = Ok(());
        socket.ask(&mut batch, |index, answer| match answer {
            Ok(message) => found[index] = read(&message),
            Err(error) if error.errno() == libc::ENOENT => {}
            Err(error) => refused = Err(error),
        })?;
        refused.map(|()| found)
    })
}

/// The elements of some keys, each of a set of its own.
///
/// # Errors
///
/// When the kernel refuses to say.
pub fn elements_at(
    socket: &mut Socket,
    table: Table,
    keys: &[(&str, Vec<u8>)],
) -> Result<Vec<Option<Element>>, NetlinkError> {
    let mut batch = Batch::new();
    for (set, key) in keys {
        let mut message = request(&mut batch, table, msg::GETSETELEM);
        message.str(elem::SET, set);
        write_key(&mut message, key);
    }
    ask(socket, batch, |message| read_elements(message).into_iter().next())
}

/// For each chain the number of its rules and of those that lead to it; `None` when it isn't there.
///
/// # Errors
///
/// When the kernel refuses to say.
pub fn chain_uses(
    socket: &mut Socket,
    table: Table,
    chains: &[&str],
) -> Result<Vec<Option<u32>>, NetlinkError> {
    let mut batch = Batch::new();
    for name in chains {
        request(&mut batch, table, msg::GETCHAIN).str(chain::NAME, name);
    }
    ask(socket, batch, |message| message.attributes(abi::NFGENMSG).find(chain::USE)?.be32())
}

/// Runs a dump; one of something that isn't there has nothing to say.
fn dump<T>(
    socket: &mut Socket,
    mut batch: Batch,
    each: impl Fn(&mut Vec<T>, &Message<'_>),
) -> Result<Vec<T>, NetlinkError> {
    let mut found = Vec::new();
    let mut attempt =
        || socket.dump(&mut batch, &mut found, Vec::clear, |found, message| each(found, &message));
    match once_loaded(&mut attempt) {
        Err(error) if error.errno() != libc::ENOENT => Err(error),
        _ => Ok(found),
    }
}

/// All elements of a set; none when it isn't there.
///
/// # Errors
///
/// When the kernel refuses to say.
pub fn elements(socket: &mut Socket, table: Table, set: &str) -> Result<Vec<Element>, NetlinkError> {
    let mut batch = Batch::new();
    request(&mut batch, table, msg::GETSETELEM).str(elem::SET, set);
    dump(socket, batch, |found, message| found.extend(read_elements(message)))
}

fn read_elements(message: &Message<'_>) -> Vec<Element> {
    let list = message.attributes(abi::NFGENMSG).find(elem::ELEMENTS).map(|list| list.nested());
    list.into_iter().flatten().filter_map(|element| Element::read(&element.nested())).collect()
}

/// What identifies a rule that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// Its handle.
    pub handle: u64,
    /// Its comment, or empty: nft's, or that of the `comment` match of iptables.
    pub comment: String,
    /// The chain that it jumps or goes to.
    pub target: Option<String>,
}

/// The rules of a chain, in order; none when it isn't there.
///
/// # Errors
///
/// When the kernel refuses to say.
pub fn rules(socket: &mut Socket, table: Table, chain: &str) -> Result<Vec<RuleInfo>, NetlinkError> {
    let mut batch = Batch::new();
    request(&mut batch, table, msg::GETRULE).str(rule::CHAIN, chain);
    dump(socket, batch, |found, message| found.extend(read_rule(&message.attributes(abi::NFGENMSG))))
}

fn read_rule(attributes: &Attributes<'_>) -> Option<RuleInfo> {
    let handle = attributes.find(rule::HANDLE)?.be64()?;
    let userdata = attributes.find(rule::USERDATA).map_or(&[][..], |userdata| userdata.payload);
    let mut comment = element::field(userdata, elem::COMMENT).and_then(text);
    let mut target = None;
    for expression in attributes.find(rule::EXPRESSIONS).map(|list| list.nested()).into_iter().flatten() {
        let expression = expression.nested();
        let name = expression.find(expr::NAME).and_then(|name| name.str()).unwrap_or_default();
        let fields = expression.find(expr::DATA).map_or(Attributes::new(&[]), |fields| fields.nested());
        if name == "immediate" {
            target = chain_of_verdict(&fields).or(target);
        } else if name == "match"
            && fields.find(expr::COMPAT_NAME).and_then(|name| name.str()) == Some("comment")
        {
            comment = fields.find(expr::COMPAT_INFO).and_then(|info| text(info.payload)).or(comment);
        }
    }
    Some(RuleInfo { handle, comment: comment.unwrap_or_default(), target })
}

fn chain_of_verdict(immediate: &Attributes<'_>) -> Option<String> {
    let verdict = immediate.find(expr::IMMEDIATE_DATA)?.nested().find(data::VERDICT)?.nested();
    verdict.find(data::VERDICT_CHAIN)?.str().map(str::to_owned)
}

/// Up to the first zero.
fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.split(|byte| *byte == 0).next()?.to_vec()).ok()
}
