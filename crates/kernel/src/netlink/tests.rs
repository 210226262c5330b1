use proptest::prelude::*;

use super::{Attributes, Batch, Messages};

#[test]
fn strings_numbers_and_nests_come_back() {
    let mut batch = Batch::new();
    {
        let mut message = batch.message(16, 0, &[7; 5]);
        message.str(1, "up0").be16(2, 4789).be32(3, 1).be64(4, 2).flag(5);
        message.nested(6).u8(1, 9).nested(2).u32(3, 0xdead_beef);
        message.u16(7, 3);
    }
    let message = Messages::new(batch.as_bytes()).next().unwrap();
    assert_eq!(message.fixed::<5>(), Some([7; 5]));
    assert_eq!(message.fixed::<200>(), None);
    let attributes = message.attributes(5);
    let find = |kind| attributes.find(kind).unwrap();
    assert_eq!(find(1).str(), Some("up0"));
    assert_eq!((find(2).be16(), find(3).be32(), find(4).be64()), (Some(4789), Some(1), Some(2)));
    assert_eq!((find(5).payload.len(), find(7).u16()), (0, Some(3)));
    let nest = find(6).nested();
    assert_eq!(nest.find(1).unwrap().u8(), Some(9));
    assert_eq!(nest.find(2).unwrap().nested().find(3).unwrap().u32(), Some(0xdead_beef));
    assert_eq!(attributes.count(), 7);
}

proptest! {
    #[test]
    fn anything_can_be_walked(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        for message in Messages::new(&bytes) {
            prop_assert!(message.payload.len() + 16 <= bytes.len());
            for attribute in message.attributes(4) {
                let _ = (attribute.ip(), attribute.mac(), attribute.str(), attribute.nested().count());
            }
        }
        prop_assert!(Attributes::new(&bytes).count() <= bytes.len() / 4 + 1);
    }

    #[test]
    fn messages_come_back_whole(messages in proptest::collection::vec(
        (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40),
            proptest::collection::vec((0_u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..5)),
        0..10,
    )) {
        let mut batch = Batch::new();
        for (kind, fixed, attributes) in &messages {
            let mut message = batch.message(*kind, 0, fixed);
            for (kind, value) in attributes {
                message.bytes(*kind, value);
            }
        }
        prop_assert_eq!(batch.len(), messages.len());
        let read: Vec<_> = Messages::new(batch.as_bytes()).collect();
        prop_assert_eq!(read.len(), messages.len());
        for (read, (kind, fixed, attributes)) in read.iter().zip(&messages) {
            prop_assert_eq!(read.kind, *kind);
            prop_assert_eq!(&read.payload[..fixed.len()], &fixed[..]);
            let found: Vec<_> =
                read.attributes(fixed.len()).map(|found| (found.kind, found.payload.to_vec())).collect();
            prop_assert_eq!(&found, attributes);
        }
    }
}
