//! Any view, written and read again, and how long a large one takes.

use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;

use crate::arbitrary;
use crate::inventory::{parse, render};

proptest! {
    #[test]
    fn what_is_written_reads_as_the_same_view(view in arbitrary::cluster_view()) {
        let text = render(&view);
        prop_assert_eq!(parse(&text, Path::new("x")).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?, view);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-a-z:\\[\\]{}\",&*#|>!%@` \n0-9.]{0,200}") {
        if let Err(error) = parse(&text, Path::new("x")) {
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
    }
}

/// Prints what it takes: `cargo test --release -p hopwise-api large -- --nocapture`.
#[test]
fn a_large_cluster_is_within_the_limits() {
    let sizes: &[usize] = if cfg!(debug_assertions) { &[5_000] } else { &[5_000, 60_000] };
    for n_nodes in sizes {
        let text = arbitrary::large_inventory(*n_nodes);
        let start = Instant::now();
        let view = parse(&text, Path::new("x")).unwrap();
        eprintln!("{n_nodes} nodes, {} bytes: parsed in {:?}", text.len(), start.elapsed());
        assert_eq!(view.nodes.len(), *n_nodes);
    }
}
