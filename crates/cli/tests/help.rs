//! What `--help` says, for every command: `tests/help/*.txt`. UPDATE_EXPECT=1 writes them anew.

use std::process::Command;

const COMMANDS: [&str; 21] = [
    "",
    "agent",
    "routes",
    "plan",
    "status",
    "cleanup",
    "cni",
    "cni install",
    "cni uninstall",
    "l2",
    "l2 slices",
    "l2 persist",
    "lab",
    "lab up",
    "lab check",
    "lab exec",
    "lab status",
    "lab down",
    "lab demo",
    "version",
    "completion",
];

#[test]
fn help_is_what_it_was() {
    for command in COMMANDS {
        let output = Command::new(env!("CARGO_BIN_EXE_hopwise"))
            .args(command.split_whitespace())
            .arg("--help")
            // No terminal, no width: the width of the reader must not be in the golden files.
            .env("COLUMNS", "110")
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}");
        let file = match command {
            "" => "hopwise".to_owned(),
            command => command.replace(' ', "-"),
        };
        let path = format!("{}/tests/help/{file}.txt", env!("CARGO_MANIFEST_DIR"));
        expect_test::expect_file![path].assert_eq(&String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn completion_knows_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_hopwise")).args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("cleanup"), "{shell}");
    }
}
