//! The multi-call plugin binary.

use std::io::{stderr, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use hopwise_cni::arena::Arena;

#[global_allocator]
static MEMORY: Arena = Arena::new();

fn main() -> ExitCode {
    let path = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let environment = |name: &str| std::env::var(name).ok();
    ExitCode::from(hopwise_cni::plugin::run(
        &called,
        &environment,
        &mut stdin().lock(),
        &mut stdout().lock(),
        &mut stderr().lock(),
    ))
}
