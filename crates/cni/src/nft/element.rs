//! Elements of sets and maps.

use hopwise_kernel::netlink::{Attributes, MessageWriter};
use hopwise_kernel::nft::abi::{self, data, elem};

/// What a map has for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: the element of a set.
    None,
    /// Bytes for registers.
    Value(Vec<u8>),
    /// The packet goes on in a chain, and does not come back.
    Goto(String),
}

/// `NFT_GOTO` (-4).
pub(super) const GOTO: u32 = -4_i32 as u32;

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key; parts of a concatenation are padded to four bytes each.
    pub key: Vec<u8>,
    /// What the key stands for.
    pub data: Data,
    /// Whose it is, see [`super::owner`].
    pub comment: String,
    /// What else is noted about it; nft does not show it. Left out where the kernel has no room for it.
    pub note: Vec<u8>,
}

impl Element {
    /// An element of a set or map, without a note.
    pub fn new(key: Vec<u8>, data: Data, comment: &str) -> Element {
        Element { key, data, comment: comment.to_owned(), note: Vec::new() }
    }

    pub(super) fn write(&self, list: &mut MessageWriter<'_>) {
        let mut element = list.nested(abi::LIST_ELEM);
        element.nested(elem::KEY).bytes(data::VALUE, &self.key);
        match &self.data {
            Data::None => {}
            Data::Value(value) => {
                element.nested(elem::DATA).bytes(data::VALUE, value);
            }
            Data::Goto(chain) => {
                let mut data = element.nested(elem::DATA);
                data.nested(data::VERDICT).be32(data::VERDICT_CODE, GOTO).str(data::VERDICT_CHAIN, chain);
            }
        }
        // How nft keeps a comment: type, length, text with its zero.
        let mut userdata = vec![elem::COMMENT, self.comment.len() as u8 + 1];
        userdata.extend_from_slice(self.comment.as_bytes());
        userdata.push(0);
        if !self.note.is_empty() && userdata.len() + 2 + self.note.len() <= elem::MAX_USERDATA {
            userdata.extend_from_slice(&[elem::NOTE, self.note.len() as u8]);
            userdata.extend_from_slice(&self.note);
        }
        element.bytes(elem::USERDATA, &userdata);
    }

    /// Reads one; `None` when it is of a kind that we don't write.
    pub(super) fn read(element: &Attributes<'_>) -> Option<Element> {
        let key = element.find(elem::KEY)?.nested().find(data::VALUE)?.payload.to_vec();
        let data = match element.find(elem::DATA) {
            None => Data::None,
            Some(data) => read_data(&data.nested())?,
        };
        let userdata = element.find(elem::USERDATA).map_or(&[][..], |userdata| userdata.payload);
        let text = field(userdata, elem::COMMENT).and_then(|text| text.strip_suffix(&[0]));
        let comment = text.and_then(|text| String::from_utf8(text.to_vec()).ok()).unwrap_or_default();
        let note = field(userdata, elem::NOTE).unwrap_or_default().to_vec();
        Some(Element { key, data, comment, note })
    }
}

fn read_data(data: &Attributes<'_>) -> Option<Data> {
    if let Some(value) = data.find(data::VALUE) {
        return Some(Data::Value(value.payload.to_vec()));
    }
    let verdict = data.find(data::VERDICT)?.nested();
    let chain = verdict.find(data::VERDICT_CHAIN)?.str()?;
    (verdict.find(data::VERDICT_CODE)?.be32()? == GOTO).then(|| Data::Goto(chain.to_owned()))
}

/// A field of user data: type, length, value, one after the other.
pub(super) fn field(mut userdata: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        let [kind, len, rest @ ..] = userdata else { return None };
        let value = rest.get(..usize::from(*len))?;
        if *kind == wanted {
            return Some(value);
        }
        userdata = &rest[value.len()..];
    }
}

#[cfg(test)]
mod tests {
    use hopwise_kernel::netlink::{Batch, Messages};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn round_trip(element: &Element) -> Option<Element> {
        let mut batch = Batch::new();
        element.write(&mut batch.message(0, 0, &[]));
        let message = Messages::new(batch.as_bytes()).next().unwrap();
        let list = message.attributes(0).find(abi::LIST_ELEM).unwrap();
        Element::read(&list.nested())
    }

    #[test]
    fn a_note_is_left_out_where_there_is_no_room() {
        let mut element = Element::new(vec![1; 16], Data::None, &"c".repeat(128));
        element.note = vec![7; 123];
        assert_eq!(round_trip(&element), Some(element.clone()));
        element.note.push(7);
        assert!(round_trip(&element).unwrap().note.is_empty());
    }

    proptest! {
        #[test]
        fn elements_are_read_as_they_were_written(
            key in vec(any::<u8>(), 1..24),
            data in prop_oneof![
                Just(Data::None),
                vec(any::<u8>(), 1..24).prop_map(Data::Value),
                "[a-z]{1,20}".prop_map(Data::Goto),
            ],
            comment in "[a-z ]{0,128}",
            note in vec(any::<u8>(), 0..100),
        ) {
            let element = Element { key, data, comment, note };
            prop_assert_eq!(round_trip(&element), Some(element));
        }

        #[test]
        fn nonsense_is_read_without_harm(userdata in vec(any::<u8>(), 0..40), wanted in any::<u8>()) {
            field(&userdata, wanted);
            Element::read(&Attributes::new(&userdata));
        }
    }
}
