use proptest::prelude::*;

use super::*;
use crate::netlink::{Batch, Messages};

proptest! {
    /// Whatever is said, about links known or unknown: no panic, and at most one event about the host.
    #[test]
    fn any_notifications_are_taken_in(notifications in proptest::collection::vec(
        (
            prop_oneof![16_u16..30, Just(32), Just(33), Just(80), Just(104), Just(105)],
            prop_oneof![Just(0_u8), Just(2), Just(10), Just(7)],
            proptest::collection::vec(0_u8..4, 7..15),
            proptest::collection::vec(
                (0_u16..35, prop_oneof![
                    proptest::collection::vec(0_u8..4, 0..17),
                    Just(b"hopwise:\0".to_vec()),
                    Just(b"up0\0".to_vec()),
                ]),
                0..8,
            ),
        ),
        0..30,
    )) {
        let mut batch = Batch::new();
        for (kind, family, fixed, attributes) in &notifications {
            let mut message = batch.message(*kind, 0, &[&[*family][..], fixed].concat());
            for (kind, value) in attributes {
                message.bytes(*kind, value);
            }
        }
        let mut state = State::default();
        let mut events = Vec::new();
        for message in Messages::new(batch.as_bytes()) {
            state.routing(&message, &mut events);
        }
        state.finish(&mut events);
        let hosts = events.iter().filter(|event| matches!(event, Event::Host { .. })).count();
        prop_assert!(hosts <= 1);
        let before = events.len();
        state.finish(&mut events);
        prop_assert_eq!(events.len(), before);
    }
}
