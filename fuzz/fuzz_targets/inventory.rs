//! Feeds texts to the inventory parser: it may refuse anything and panic at nothing, an error has a place in the text, and
//! what it takes is written and read again as the same view. The same bytes as a saved view and as a peer's data, which
//! come from disks and from other nodes.
#![no_main]

use std::path::Path;

use hopwise_api::{inventory, node_data, saved};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = saved::decode(bytes);
    let _ = node_data::decode(bytes, &"node1".parse().expect("a node name"));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match inventory::parse(text, Path::new("inventory.yaml")) {
        Ok(view) => {
            let written = inventory::render(&view);
            let again = inventory::parse(&written, Path::new("written.yaml"));
            assert_eq!(again.as_ref(), Ok(&view), "{written}");
            assert_eq!(saved::decode(&saved::encode(&view)).expect("what was encoded"), view);
        }
        Err(error) => assert!(error.line >= 1 && error.column >= 1, "{error}"),
    }
});
