//! `cargo xtask bench`: the lab's benches, in release builds, one after the other so that none disturbs another.

use anyhow::{Result, bail};

use crate::artifacts::Profile;
use crate::{artifacts, peers, tools};

/// Runs the named benches, or all; words after `--` go to the benches.
pub fn run(words: &[&str]) -> Result<()> {
    let (names, arguments) = match words.iter().position(|word| *word == "--") {
        Some(at) => (&words[..at], &words[at..]),
        None => (words, &[][..]),
    };
    let there = tools::source_names(&tools::workspace().join("crates/lab/benches"))?;
    if let Some(unknown) = names.iter().find(|name| !there.iter().any(|bench| bench == *name)) {
        bail!("there is no bench {unknown:?}; there are: {}", there.join(", "));
    }
    let built = artifacts::build(Profile::Release)?;
    let peers = peers::prepare();
    for (name, why) in &peers.missing {
        println!("peer {name} can't be had: {why}");
    }
    for bench in there.iter().filter(|bench| names.is_empty() || names.contains(&bench.as_str())) {
        println!("\n== bench {bench}");
        let mut cargo = tools::cargo();
        built.export(&mut cargo);
        peers.export(&mut cargo);
        tools::run(
            cargo.args(["bench", "--quiet", "--package", "hopwise-lab", "--bench", bench]).args(arguments),
        )?;
    }
    Ok(())
}
