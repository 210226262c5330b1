//! What is run in the guest, as the script that runs it and the marks by which its output is taken apart again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Stands at the start of marks, and in no text that a test prints.
const MARK: char = '\u{2}';

/// A command to be run in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// What it finds in its environment.
    pub environment: Vec<(String, String)>,
}

impl Job {
    /// The job that does in the guest what this command would do here, with the variables that were set for it.
    pub fn of(command: &Command) -> Result<Job> {
        let text = |word: &std::ffi::OsStr| word.to_str().map(str::to_owned).context("a word is not UTF-8");
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        Ok(Job {
            words: words.map(text).collect::<Result<_>>()?,
            folder: command.get_current_dir().unwrap_or(Path::new("/")).to_owned(),
            environment: set.map(|(name, value)| Ok((text(name)?, text(value)?))).collect::<Result<_>>()?,
        })
    }
}

/// The shell script that runs these jobs one after the other, whatever becomes of each, and marks where each ends.
pub fn script(jobs: &[Job]) -> String {
    let mut text = String::new();
    for job in jobs {
        let set: String = job
            .environment
            .iter()
            .map(|(name, value)| format!("export {name}={}; ", quoted(value)))
            .collect();
        let words: Vec<String> = job.words.iter().map(|word| quoted(word)).collect();
        let folder = quoted(&job.folder.to_string_lossy());
        text += &format!("(cd {folder}; {set}exec {})\n", words.join(" "));
        text += &format!("printf '{MARK}%d\\n' $?\n");
    }
    text
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a line of the guest's output holds: text of the running job, and its exit code if it ended here.
pub fn parse(line: &[u8]) -> (String, Option<i32>) {
    let text = String::from_utf8_lossy(line);
    match text.rsplit_once(MARK) {
        Some((before, code)) if code.parse::<i32>().is_ok() => (before.to_owned(), code.parse().ok()),
        _ => (text.into_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_gives_each_job_its_words_and_tells_their_ends() {
        let mut one = Command::new("printf");
        one.args(["%s,", "it's", "a b", "$HOME", ""]);
        let mut two = Command::new("sh");
        two.args(["-c", "echo $PWD $X; exit 3"]).current_dir("/").env("X", "*'").env_remove("Y");
        let missing = Command::new("no-such-program");
        let jobs: Vec<Job> = [one, two, missing].iter().map(|command| Job::of(command).unwrap()).collect();
        let output = Command::new("sh").args(["-c", &script(&jobs)]).output().unwrap();
        let lines: Vec<_> = output.stdout.split(|byte| *byte == b'\n').map(parse).collect();
        assert_eq!(
            lines,
            [
                ("it's,a b,$HOME,,".to_owned(), Some(0)),
                ("/ *'".to_owned(), None),
                (String::new(), Some(3)),
                (String::new(), Some(127)),
                (String::new(), None),
            ]
        );
    }

    #[test]
    fn only_marks_end_a_job() {
        assert_eq!(parse(b"test a ... ok"), ("test a ... ok".to_owned(), None));
        assert_eq!(parse(b"\x02x"), ("\u{2}x".to_owned(), None));
        assert_eq!(parse(b"partly\x02101"), ("partly".to_owned(), Some(101)));
        assert_eq!(parse(b"\xff\x020"), ("\u{fffd}".to_owned(), Some(0)));
    }
}
