//! `cargo xtask demo`: builds, then runs `hopwise lab demo`, which does the rest and takes everything down.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::artifacts::Profile;
use crate::{artifacts, tools};

/// Builds and shows.
pub fn run() -> Result<()> {
    if !tools::is_root() && !tools::user_namespaces_work() {
        bail!(
            "the demo makes network namespaces: this user may not make any here, neither directly nor in a user \
             namespace; try: sudo --preserve-env=PATH cargo xtask demo"
        );
    }
    let start = Instant::now();
    println!("building (the first time takes a few minutes)");
    let built = artifacts::build(Profile::Lab)?;
    println!("built in {:.1} s\n", start.elapsed().as_secs_f64());
    let mut demo = Command::new(&built.hopwise);
    built.export(&mut demo);
    tools::run(demo.args(["lab", "demo"]))
}
