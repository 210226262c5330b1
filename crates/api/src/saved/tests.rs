//! Every way a saved view can be wrong, told apart; any view there and back; how long a large one takes.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{decode, encode};
use crate::arbitrary;

const INVENTORY: &str =
    "networks: {pods: [10.244.0.0/16]}\nnodes:\n  - {name: a, podCIDRs: [10.244.1.0/24]}\n";

fn bytes() -> Vec<u8> {
    let mut view = crate::inventory::parse(INVENTORY, Path::new("x")).unwrap();
    let mut node = (*view.nodes.values().next().unwrap()).as_ref().clone();
    node.pod_cidrs[0].since = 7;
    view.nodes.insert(node.name.clone(), node.into());
    encode(&view)
}

fn check(bytes: &[u8], expected: &Expect) {
    let error = decode(bytes).unwrap_err();
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    expected.assert_eq(&format!("{error}{source}"));
}

fn with_header(payload: &str, version: u32) -> Vec<u8> {
    let checksum = crc32fast::hash(payload.as_bytes());
    format!("hopwise-view {version} {} {checksum:08x}\n{payload}", payload.len()).into_bytes()
}

#[test]
fn the_format_is_this() {
    expect![[r#"
        hopwise-view 1 163 e2c45f2a
        {"networks":{"pods":["10.244.0.0/16"],"services":[],"nodes":[],"fabric":[]},"nodes":[{"name":"a","addresses":[],"podCIDRs":[{"value":"10.244.1.0/24","since":7}]}]}"#]].assert_eq(&String::from_utf8(bytes()).unwrap());
}

#[test]
fn what_is_wrong_is_told_apart() {
    let good = bytes();
    check(b"", &expect!["it is torn: it ends after 0 bytes, within its first line"]);
    check(b"hopw", &expect!["it is torn: it ends after 4 bytes, within its first line"]);
    check(b"hopwise-view 1 2", &expect!["it is torn: it ends after 16 bytes, within its first line"]);
    check(&good[..good.len() - 1], &expect!["it is torn: 190 bytes of 191 are there"]);
    check(&[&good[..], b"\n"].concat(), &expect!["there are 1 bytes too many after its end"]);
    check(
        b"{\"kind\": \"NodeList\"}",
        &expect![[
            r#"it is not a saved view of Hopwise's: its first line is not "hopwise-view VERSION LENGTH CRC32""#
        ]],
    );
    check(
        b"hopwise-views are nice\n",
        &expect![[
            r#"it is not a saved view of Hopwise's: its first line is not "hopwise-view VERSION LENGTH CRC32""#
        ]],
    );
    check(
        &[b"hopwise-view 1 ".as_slice(), &[b'9'; 100]].concat(),
        &expect![[
            r#"it is not a saved view of Hopwise's: its first line is not "hopwise-view VERSION LENGTH CRC32""#
        ]],
    );
    check(
        b"hopwise-view 0 2 00000000\n{}",
        &expect![[
            r#"it is not a saved view of Hopwise's: its first line is not "hopwise-view VERSION LENGTH CRC32""#
        ]],
    );
    check(
        b"hopwise-view 2 some other header\nand content",
        &expect!["its format is version 2, newer than 1, the newest that this Hopwise reads"],
    );
    let mut zeroed = good.clone();
    let middle = zeroed.len() / 2;
    zeroed[middle..].fill(0);
    check(
        &zeroed,
        &expect!["its checksum is 6c0e1896, not e2c45f2a: it was altered or its blocks were lost"],
    );
    check(
        &with_header("{}", 1),
        &expect!["its content can't be read: missing field `networks` at line 1 column 2"],
    );
    let text = String::from_utf8(good).unwrap();
    let payload = text.split_once('\n').unwrap().1;
    check(
        &with_header(&payload.replace("10.244.1.0/24", "10.244.1.1/24"), 1),
        &expect![
            "its content can't be read: 10.244.1.1/24 has host bits set; did you mean 10.244.1.0/24? at line 1 column 148"
        ],
    );
    check(
        &with_header(&payload.replace("\"a\"", "\"A\""), 1),
        &expect![[
            r#"a value in it can't be used: nodes[0]: "A" is not a node name: use lower-case letters, digits, '-' and '.', at most 253 characters; delete the file"#
        ]],
    );
    check(
        &with_header(&payload.replace("\"nodes\"", "\"settings\":{\"mtu\":1},\"nodes\""), 1),
        &expect![
            "its content can't be read: unknown field `settings`, expected one of `pods`, `services`, `nodes`, `fabric` at line 1 column 62"
        ],
    );
}

proptest! {
    #[test]
    fn what_is_kept_comes_back(view in arbitrary::cluster_view()) {
        prop_assert_eq!(decode(&encode(&view)).unwrap(), view);
    }

    #[test]
    fn a_changed_byte_never_goes_unseen(
        view in arbitrary::cluster_view(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = encode(&view);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // The case of a hexadecimal digit in the header's checksum says nothing.
        if let Ok(decoded) = decode(&bytes) {
            prop_assert!(decoded == view && at < super::LONGEST_HEADER);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
        let _ = decode(&[b"hopwise-view ".as_slice(), &bytes].concat());
    }
}

#[test]
fn a_large_view_loads_quickly() {
    let text = arbitrary::large_inventory(5_000);
    let view = crate::inventory::parse(&text, Path::new("x")).unwrap();
    let start = Instant::now();
    let bytes = encode(&view);
    let encoded = start.elapsed();
    let start = Instant::now();
    assert_eq!(decode(&bytes).unwrap().nodes.len(), 5_000);
    eprintln!("5000 nodes, {} bytes: encoded in {encoded:?}, decoded in {:?}", bytes.len(), start.elapsed());
}
