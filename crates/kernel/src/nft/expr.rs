//! The expressions of our rules, as values: written to the kernel and recognised in what it lists.

use hopwise_core::family::Family;
use hopwise_core::netfilter::{Masquerade, SetName, SetRole};

use super::abi::{self, data, expr};
use crate::netlink::{Attributes, MessageWriter};

/// One expression. All work on register 1, which is how nft compiles such rules too: a table that was loaded from
/// [`hopwise_core::netfilter::Table::render`]'s text by nft is recognised as ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// `meta nfproto`.
    Nfproto,
    /// Goes on if the register equals (or, inverted, differs from) the bytes.
    Compare { equal: bool, value: Vec<u8> },
    /// Loads bytes of the network header.
    Header { offset: u32, len: u32 },
    /// Keeps the bits of the mask.
    Mask(Vec<u8>),
    /// Goes on if the register is (inverted: is not) in the set.
    Lookup { set: &'static str, inverted: bool },
    /// Source NAT to the address of the link that the packet leaves by.
    Masquerade { fully_random: bool },
}

/// The rule of a family.
pub(super) fn masquerade_rule(masquerade: Masquerade) -> Vec<Expression> {
    let Masquerade { family, fully_random } = masquerade;
    let [local_pods, exempt, nodes] = SetRole::ALL.map(|role| SetName { role, family }.as_str());
    let (nfproto, source, destination, len) = match family {
        Family::V4 => (abi::IPV4, 12, 16, 4),
        Family::V6 => (abi::IPV6, 8, 24, 16),
    };
    let load = |offset| Expression::Header { offset, len };
    let mut rule = vec![
        Expression::Nfproto,
        Expression::Compare { equal: true, value: vec![nfproto] },
        load(source),
        Expression::Lookup { set: local_pods, inverted: false },
    ];
    // Multicast. nft reads just the first byte where a prefix ends on a byte's boundary.
    match family {
        Family::V4 => rule.extend([
            load(destination),
            Expression::Mask(vec![0xf0, 0, 0, 0]),
            Expression::Compare { equal: false, value: vec![224, 0, 0, 0] },
        ]),
        Family::V6 => rule.extend([
            Expression::Header { offset: destination, len: 1 },
            Expression::Compare { equal: false, value: vec![0xff] },
        ]),
    }
    for set in [exempt, nodes] {
        rule.extend([load(destination), Expression::Lookup { set, inverted: true }]);
    }
    rule.push(Expression::Masquerade { fully_random });
    rule
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Expression::Nfproto => "meta",
            Expression::Compare { .. } => "cmp",
            Expression::Header { .. } => "payload",
            Expression::Mask(_) => "bitwise",
            Expression::Lookup { .. } => "lookup",
            Expression::Masquerade { .. } => "masq",
        }
    }

    /// Appends the expression to a rule's list.
    pub(super) fn write(&self, list: &mut MessageWriter<'_>) {
        let mut element = list.nested(abi::LIST_ELEM);
        element.str(expr::NAME, self.name());
        let mut body = element.nested(expr::DATA);
        match self {
            Expression::Nfproto => {
                body.be32(expr::META_KEY, expr::META_NFPROTO).be32(expr::META_DREG, expr::REG_1);
            }
            Expression::Compare { equal, value } => {
                let operator = if *equal { expr::CMP_EQ } else { expr::CMP_NEQ };
                body.be32(expr::CMP_SREG, expr::REG_1).be32(expr::CMP_OP, operator);
                body.nested(expr::CMP_DATA).bytes(data::VALUE, value);
            }
            Expression::Header { offset, len } => {
                body.be32(expr::PAYLOAD_DREG, expr::REG_1)
                    .be32(expr::PAYLOAD_BASE, expr::NETWORK_HEADER)
                    .be32(expr::PAYLOAD_OFFSET, *offset)
                    .be32(expr::PAYLOAD_LEN, *len);
            }
            Expression::Mask(mask) => {
                body.be32(expr::BITWISE_SREG, expr::REG_1)
                    .be32(expr::BITWISE_DREG, expr::REG_1)
                    .be32(expr::BITWISE_LEN, mask.len() as u32);
                body.nested(expr::BITWISE_MASK).bytes(data::VALUE, mask);
                body.nested(expr::BITWISE_XOR).bytes(data::VALUE, &vec![0; mask.len()]);
            }
            Expression::Lookup { set, inverted } => {
                body.str(expr::LOOKUP_SET, set).be32(expr::LOOKUP_SREG, expr::REG_1);
                if *inverted {
                    body.be32(expr::LOOKUP_FLAGS, expr::LOOKUP_INVERT);
                }
            }
            Expression::Masquerade { fully_random } => {
                if *fully_random {
                    body.be32(expr::MASQ_FLAGS, expr::RANDOM_FULLY);
                }
            }
        }
    }

    /// Reads one expression; `None` when it is not exactly of a kind that we write. Attributes that we don't know, and
    /// other values of those that we do, make it another expression.
    pub(super) fn read(element: &Attributes<'_>) -> Option<Expression> {
        let name = element.find(expr::NAME)?.str()?;
        let fields = Fields(element.find(expr::DATA)?.nested());
        match name {
            "meta" => {
                fields.only(&[expr::META_DREG, expr::META_KEY])?;
                fields.expect(expr::META_DREG, expr::REG_1)?;
                fields.expect(expr::META_KEY, expr::META_NFPROTO)?;
                Some(Expression::Nfproto)
            }
            "cmp" => {
                fields.only(&[expr::CMP_SREG, expr::CMP_OP, expr::CMP_DATA])?;
                fields.expect(expr::CMP_SREG, expr::REG_1)?;
                let equal = match fields.number(expr::CMP_OP)? {
                    expr::CMP_EQ => true,
                    expr::CMP_NEQ => false,
                    _ => return None,
                };
                Some(Expression::Compare { equal, value: fields.value(expr::CMP_DATA)?.to_vec() })
            }
            "payload" => {
                fields.only(&[
                    expr::PAYLOAD_DREG,
                    expr::PAYLOAD_BASE,
                    expr::PAYLOAD_OFFSET,
                    expr::PAYLOAD_LEN,
                ])?;
                fields.expect(expr::PAYLOAD_DREG, expr::REG_1)?;
                fields.expect(expr::PAYLOAD_BASE, expr::NETWORK_HEADER)?;
                Some(Expression::Header {
                    offset: fields.number(expr::PAYLOAD_OFFSET)?,
                    len: fields.number(expr::PAYLOAD_LEN)?,
                })
            }
            "bitwise" => fields.mask(),
            "lookup" => {
                fields.only(&[expr::LOOKUP_SET, expr::LOOKUP_SREG, expr::LOOKUP_FLAGS])?;
                fields.expect(expr::LOOKUP_SREG, expr::REG_1)?;
                let set = SetName::find(fields.0.find(expr::LOOKUP_SET)?.str()?)?.as_str();
                let inverted = match fields.number_or_zero(expr::LOOKUP_FLAGS)? {
                    0 => false,
                    expr::LOOKUP_INVERT => true,
                    _ => return None,
                };
                Some(Expression::Lookup { set, inverted })
            }
            "masq" => {
                fields.only(&[expr::MASQ_FLAGS])?;
                let fully_random = match fields.number_or_zero(expr::MASQ_FLAGS)? {
                    0 => false,
                    expr::RANDOM_FULLY => true,
                    _ => return None,
                };
                Some(Expression::Masquerade { fully_random })
            }
            _ => None,
        }
    }
}

/// The attributes of one expression, read strictly.
struct Fields<'a>(Attributes<'a>);

impl<'a> Fields<'a> {
    fn only(&self, known: &[u16]) -> Option<()> {
        self.0.clone().all(|attribute| known.contains(&attribute.kind)).then_some(())
    }

    fn number(&self, kind: u16) -> Option<u32> {
        self.0.find(kind)?.be32()
    }

    /// The kernel leaves out some numbers that are zero.
    fn number_or_zero(&self, kind: u16) -> Option<u32> {
        self.0.find(kind).map_or(Some(0), |attribute| attribute.be32())
    }

    fn expect(&self, kind: u16, value: u32) -> Option<()> {
        (self.number(kind)? == value).then_some(())
    }

    fn value(&self, kind: u16) -> Option<&'a [u8]> {
        Some(self.0.find(kind)?.nested().find(data::VALUE)?.payload)
    }

    fn mask(&self) -> Option<Expression> {
        self.only(&[
            expr::BITWISE_SREG,
            expr::BITWISE_DREG,
            expr::BITWISE_LEN,
            expr::BITWISE_MASK,
            expr::BITWISE_XOR,
            expr::BITWISE_OP,
        ])?;
        self.expect(expr::BITWISE_SREG, expr::REG_1)?;
        self.expect(expr::BITWISE_DREG, expr::REG_1)?;
        // Listed since Linux 5.6: 0 is the mask and xor that there always was.
        (self.number_or_zero(expr::BITWISE_OP)? == 0).then_some(())?;
        let mask = self.value(expr::BITWISE_MASK)?;
        self.expect(expr::BITWISE_LEN, mask.len() as u32)?;
        let flipped = self.value(expr::BITWISE_XOR)?.iter().any(|byte| *byte != 0);
        (!flipped).then(|| Expression::Mask(mask.to_vec()))
    }
}
