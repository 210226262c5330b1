//! Writing our accepts, with iptables' own tools.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use hopwise_core::family::Family;
use hopwise_core::host::{IptablesBackend, IptablesChain};
use hopwise_core::mark::IPTABLES_COMMENT;
use hopwise_core::observed::AcceptRule;

use super::legacy;
use crate::netlink::NetlinkError;

/// Seconds to wait for the lock that legacy iptables programs share.
const LOCK_WAIT: &str = "5";
/// How often a chain is listed and written: between the two, others may take out a rule of ours.
const ATTEMPTS: usize = 3;

/// Why an iptables chain could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// The chain could not be read.
    #[error("can't read iptables chains")]
    Read(#[source] NetlinkError),
    /// The program isn't there.
    #[error(
        "neither {program} nor an iptables of the same back end is installed, but its filter FORWARD chain drops pods' \
         packets; install iptables, or accept them in that chain yourself and set forwardAccept to false"
    )]
    Missing {
        /// The program.
        program: &'static str,
    },
    /// The program could not be started.
    #[error("can't run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// The program, with its arguments.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
}

/// Makes our rules in a chain these, first and in this order; none: takes ours out. Everything else in it stays.
///
/// Works in the network namespace of the calling thread. Old rules go and new ones come in one transaction: no packet
/// meets a chain without either.
pub fn apply(chain: IptablesChain, rules: &[AcceptRule]) -> Result<(), IptablesError> {
    let tool = Tool::find(chain)?;
    let mut attempt = 1;
    loop {
        let listing = tool.run("", &["-w", LOCK_WAIT, "-S", "FORWARD"], "")?;
        let script = script(&listing, rules);
        match tool.run("-restore", &["-w", LOCK_WAIT, "--noflush"], &script) {
            Err(IptablesError::Failed { .. }) if attempt < ATTEMPTS => attempt += 1,
            other => return other.map(drop),
        }
    }
}

/// Whether a `nat` table of the legacy back end has a chain, in the network namespace of the calling thread.
///
/// # Errors
///
/// When the table can't be read.
pub fn has_legacy_nat_chain(family: Family, chain: &str) -> Result<bool, IptablesError> {
    legacy::has_chain(family, "nat", chain).map_err(IptablesError::Read)
}

/// Removes a chain of a `nat` table of the legacy back end, and the rules of other chains that jump to it. No such chain
/// is no error, and no program runs then.
///
/// Works in the network namespace of the calling thread.
///
/// # Errors
///
/// When the table can't be read, or iptables is missing or fails.
pub fn remove_legacy_nat_chain(family: Family, chain: &str, parents: &[&str]) -> Result<(), IptablesError> {
    if !has_legacy_nat_chain(family, chain)? {
        return Ok(());
    }
    let place = IptablesChain { backend: IptablesBackend::Legacy, family };
    let tool = Tool::find(place).map_err(|_| IptablesError::Run {
        program: place.command().to_owned(),
        source: io::ErrorKind::NotFound.into(),
    })?;
    let mut attempt = 1;
    loop {
        let mut script = "*nat\n".to_owned();
        for parent in parents {
            // A parent that isn't there has nothing that leads anywhere.
            let listing = tool.run("", &["-w", LOCK_WAIT, "-t", "nat", "-S", parent], "").unwrap_or_default();
            let jump = format!(" -j {chain}");
            for rule in listing.lines().filter(|line| line.ends_with(&jump)) {
                let _ = writeln!(script, "{}", rule.replacen("-A ", "-D ", 1));
            }
        }
        let _ = write!(script, "-F {chain}\n-X {chain}\nCOMMIT\n");
        match tool.run("-restore", &["-w", LOCK_WAIT, "--noflush"], &script) {
            Err(IptablesError::Failed { .. }) if attempt < ATTEMPTS => attempt += 1,
            other => return other.map(drop),
        }
    }
}

/// What `iptables-restore` reads: takes out each rule of ours that `iptables -S` lists, whatever it looks like, and puts
/// the new ones in front.
fn script(listing: &str, rules: &[AcceptRule]) -> String {
    let comment = format!("--comment \"{IPTABLES_COMMENT}\"");
    let mut script = "*filter\n".to_owned();
    for line in listing.lines().filter(|line| line.contains(&comment)) {
        if let Some(rule) = line.strip_prefix("-A ") {
            let _ = writeln!(script, "-D {rule}");
        }
    }
    for (index, AcceptRule { cidr, destination }) in rules.iter().enumerate() {
        let side = if *destination { "-d" } else { "-s" };
        let _ = writeln!(script, "-I FORWARD {} {side} {cidr} -m comment {comment} -j ACCEPT", index + 1);
    }
    script.push_str("COMMIT\n");
    script
}

/// The iptables of a back end and family, which comes as a family of programs.
#[derive(Debug, PartialEq, Eq)]
struct Tool {
    name: &'static str,
}

impl Tool {
    fn find(chain: IptablesChain) -> Result<Tool, IptablesError> {
        Tool::choose(chain, |name| {
            let output = Command::new(name).arg("--version").output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }

    /// Distributions install both back ends under names of their own, or one of them as plain `iptables`.
    fn choose(
        chain: IptablesChain,
        version: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Tool, IptablesError> {
        let named = chain.command();
        let plain = match chain.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        if version(named).is_some() {
            return Ok(Tool { name: named });
        }
        // `iptables v1.8.9 (nf_tables)`; before 1.8 there was only the legacy one, which didn't say so.
        let is_nft = version(plain).map(|version| version.contains("nf_tables"));
        if is_nft == Some(chain.backend == IptablesBackend::Nft) {
            return Ok(Tool { name: plain });
        }
        Err(IptablesError::Missing { program: named })
    }

    fn run(&self, suffix: &str, arguments: &[&str], input: &str) -> Result<String, IptablesError> {
        let program = format!("{}{suffix}", self.name);
        let output = feed(Command::new(&program).args(arguments), input)
            .map_err(|source| IptablesError::Run { program: program.clone(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(IptablesError::Failed {
            program: format!("{program} {}", arguments.join(" ")),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

fn feed(command: &mut Command, input: &str) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It ended without reading: its status and words tell more.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn old_rules_of_ours_go_and_new_ones_come_first() {
        let listing = "-P FORWARD DROP\n\
                       -A FORWARD -j DOCKER-USER\n\
                       -A FORWARD -s 10.1.0.0/16 -m comment --comment \"hopwise pod forwarding\" -j ACCEPT\n\
                       -A FORWARD -s 10.2.0.0/16 -m comment --comment other -j ACCEPT\n";
        let accept = |text: &str, destination| AcceptRule { cidr: text.parse().unwrap(), destination };
        let rules = [accept("10.244.0.0/16", false), accept("10.244.0.0/16", true)];
        expect![[r#"
            *filter
            -D FORWARD -s 10.1.0.0/16 -m comment --comment "hopwise pod forwarding" -j ACCEPT
            -I FORWARD 1 -s 10.244.0.0/16 -m comment --comment "hopwise pod forwarding" -j ACCEPT
            -I FORWARD 2 -d 10.244.0.0/16 -m comment --comment "hopwise pod forwarding" -j ACCEPT
            COMMIT
        "#]]
        .assert_eq(&script(listing, &rules));
    }

    #[test]
    fn the_program_is_that_of_the_back_end() {
        let chain = |backend| IptablesChain { backend, family: Family::V6 };
        let (nft, legacy) = (chain(IptablesBackend::Nft), chain(IptablesBackend::Legacy));
        let choose = |chain, installed: &[(&str, &str)]| {
            let find = |name| installed.iter().find(|(installed, _)| *installed == name);
            Tool::choose(chain, |name| find(name).map(|(_, version)| (*version).to_owned()))
                .map(|tool| tool.name)
                .map_err(|error| error.to_string())
        };
        let both = [("ip6tables-nft", "v1.8.9 (nf_tables)"), ("ip6tables-legacy", "v1.8.9 (legacy)")];
        assert_eq!(choose(nft, &both), Ok("ip6tables-nft"));
        assert_eq!(choose(legacy, &both), Ok("ip6tables-legacy"));
        assert_eq!(choose(nft, &[("ip6tables", "v1.8.9 (nf_tables)")]), Ok("ip6tables"));
        assert_eq!(choose(legacy, &[("ip6tables", "v1.6.2")]), Ok("ip6tables"));
        expect![[r#"
            "neither ip6tables-nft nor an iptables of the same back end is installed, but its filter FORWARD chain drops pods' packets; install iptables, or accept them in that chain yourself and set forwardAccept to false"
        "#]]
        .assert_debug_eq(&choose(nft, &[("ip6tables", "v1.8.9 (legacy)")]).unwrap_err());
    }
}
