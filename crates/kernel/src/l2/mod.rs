//! The uplink on the bridge: reading what [`hopwise_core::l2`] plans from, doing its steps, and finding out whether
//! somebody still answers.

mod echo;
mod events;
mod probe;
mod read;
mod suspects;
mod write;

use std::collections::BTreeMap;

use hopwise_core::l2::step::Step;
use hopwise_core::l2::value::{Observed, SYSCTLS, Wanted};
use hopwise_core::name::LinkName;

use crate::netlink::{Batch, NetlinkError, Socket};

pub use events::Events;
pub use suspects::suspects;

/// A socket into one network namespace, that of the thread that opens it. The thread has to stay there: sysctls follow the
/// thread.
#[derive(Debug)]
pub struct L2 {
    socket: Socket,
}

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
#[error("can't do `{command}`")]
pub struct StepError {
    /// The step, as a command.
    pub command: String,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

impl L2 {
    /// Opens a socket into the calling thread's network namespace.
    pub fn open() -> Result<L2, NetlinkError> {
        let socket = Socket::open(libc::NETLINK_ROUTE)?;
        socket.set_receive_buffer(1 << 20);
        Ok(L2 { socket })
    }

    /// Reads what there is.
    pub fn observe(&mut self, wanted: Wanted) -> Result<Observed, NetlinkError> {
        read::observe(&mut self.socket, wanted)
    }

    /// Does steps in order; what can go in one datagram does. `before` is called before each datagram or other change,
    /// with the first of its steps; with `one_by_one` every step is a datagram of its own, which is for tests that stop in
    /// between.
    ///
    /// What is there already needs no adding, what is gone no deleting. Whatever else the kernel refuses is returned; all other steps are done.
    pub fn apply(
        &mut self,
        steps: &[Step],
        one_by_one: bool,
        before: &mut dyn FnMut(&Step),
    ) -> Result<Vec<StepError>, NetlinkError> {
        let mut errors = Vec::new();
        let mut links = read::indices(&mut self.socket)?;
        let mut rest = steps;
        while let Some(first) = rest.first() {
            let together =
                if one_by_one { 1 } else { rest.iter().take_while(|step| step.batches()).count().max(1) };
            let (now, later) = rest.split_at(together);
            before(first);
            match first {
                Step::SetSysctl(link, sysctl, value) => {
                    let written = crate::sysctl::write_path(&sysctl.path(*link), value);
                    errors.extend(written.err().filter(missed).map(|source| error(first, source)));
                }
                _ => errors.extend(self.send(now, &links)?),
            }
            if let Step::MakeBridge { .. } | Step::DeleteBridge(_) = first {
                links = read::indices(&mut self.socket)?;
            }
            rest = later;
        }
        Ok(errors)
    }

    fn send(
        &mut self,
        steps: &[Step],
        links: &BTreeMap<LinkName, u32>,
    ) -> Result<Vec<StepError>, NetlinkError> {
        let mut errors = Vec::new();
        let mut batch = Batch::new();
        // A step can be more than one message.
        let mut sources = Vec::new();
        for step in steps {
            match write::step(&mut batch, step, links) {
                Ok(()) => sources.resize(batch.len(), step),
                Err(link) => errors.push(error(
                    step,
                    std::io::Error::new(std::io::ErrorKind::NotFound, format!("there is no link {link}")),
                )),
            }
        }
        let verdicts = self.socket.execute(&mut batch)?;
        for (step, verdict) in sources.into_iter().zip(verdicts) {
            if let Err(refused) = verdict
                && !done_already(step, refused.errno())
            {
                errors.push(error(step, std::io::Error::other(refused)));
            }
        }
        Ok(errors)
    }
}

fn error(step: &Step, source: std::io::Error) -> StepError {
    StepError { command: step.to_string(), source }
}

/// A sysctl that isn't there belongs to a family or a kernel that needs none.
fn missed(error: &std::io::Error) -> bool {
    error.kind() != std::io::ErrorKind::NotFound
}

fn done_already(step: &Step, errno: i32) -> bool {
    match step {
        // A router's advertisement made it meanwhile, or somebody else just the same one.
        Step::AddAddress(..) | Step::AddRoute(..) => errno == libc::EEXIST,
        Step::DeleteAddress(..) => errno == libc::EADDRNOTAVAIL,
        Step::DeleteRoute(_) => errno == libc::ESRCH,
        Step::DeleteNeighbour(..) => errno == libc::ENOENT,
        Step::DeleteBridge(_) => errno == libc::ENODEV,
        // Without IPv6 nothing has to be kept from making itself an address.
        Step::MakeBridge { .. } => errno == libc::EAFNOSUPPORT,
        _ => false,
    }
}

/// The present values of the sysctls of a link.
fn sysctls(link: LinkName) -> BTreeMap<hopwise_core::l2::value::Sysctl, String> {
    let value = |sysctl: &hopwise_core::l2::value::Sysctl| {
        Some((*sysctl, crate::sysctl::read_path(&sysctl.path(link))?))
    };
    SYSCTLS.iter().filter_map(value).collect()
}
