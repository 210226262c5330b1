//! What `docs/inventory.md` shows is so.

use std::path::Path;

use crate::inventory::parse;
use crate::{node_data, settings};

const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/inventory.md"));

fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let start = format!("```{language}\n");
    DOCUMENT.split("```\n").filter_map(move |part| Some(part.rsplit_once(&start)?.1))
}

#[test]
fn every_example_is_right() {
    let mut n_examples = 0;
    for example in blocks("yaml") {
        parse(example, Path::new("docs/inventory.md")).unwrap_or_else(|error| panic!("{error}\n{example}"));
        n_examples += 1;
    }
    assert_eq!(n_examples, 4);
    let data = blocks("json").next().unwrap();
    node_data::decode(data.as_bytes(), &"node1".parse().unwrap()).unwrap();
}

#[test]
fn every_setting_is_described() {
    let all = serde_json::to_value(settings::tests::every_setting()).unwrap();
    for key in all.as_object().unwrap().keys() {
        assert!(DOCUMENT.contains(&format!("\n| `{key}` |")), "{key} is not in docs/inventory.md");
    }
}
