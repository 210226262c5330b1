//! Network namespaces: making, naming, entering.
//!
//! `setns(2)` changes one thread, so whatever runs inside a namespace runs on a thread of its own that ends with it: no
//! thread is ever left in the wrong namespace, not by an early return and not by a panic. Sockets stay in the namespace in
//! which they were opened, whichever thread uses them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use nix::sys::stat::fstat;

use crate::netlink::{Batch, NetlinkError, Socket};

/// `linux/sockios.h`: a descriptor of the network namespace that a socket is in (Linux 4.9).
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// Where `ip netns` keeps named namespaces: one bind mount each.
pub const NAMED_DIR: &str = "/run/netns";

/// A network namespace held open by a file descriptor. One without a name ends with its last descriptor and process.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
}

/// Why something with a namespace could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A new network namespace was refused.
    #[error(
        "can't make a network namespace; be root, or in a user namespace of your own \
         (`unshare --user --map-root-user --net`)"
    )]
    Create(#[source] io::Error),
    /// A namespace file could not be made, opened, mounted or removed.
    #[error("network namespace {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Loopback could not be brought up.
    #[error("can't bring up the loopback link of a new network namespace")]
    Loopback(#[source] NetlinkError),
}

impl Namespace {
    /// Makes a namespace without a name. Its loopback link is up.
    pub fn new() -> Result<Namespace, NamespaceError> {
        on_thread(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| NamespaceError::Create(errno.into()))?;
            loopback_up().map_err(NamespaceError::Loopback)?;
            Namespace::current()
        })
    }

    /// Makes a namespace that `ip netns` shows under this name. Its loopback link is up. Fails if the name is taken.
    pub fn named(name: &str) -> Result<Namespace, NamespaceError> {
        let path = Path::new(NAMED_DIR).join(name);
        let at = |source: io::Error| NamespaceError::File { path: path.clone(), source };
        std::fs::create_dir_all(NAMED_DIR).map_err(at)?;
        File::options().write(true).create_new(true).open(&path).map_err(at)?;
        let bound = Namespace::new().and_then(|namespace| {
            namespace.run(|| {
                let here = thread_namespace_path();
                nix::mount::mount(Some(&here), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                    .map_err(|errno| at(errno.into()))
            })??;
            Ok(namespace)
        });
        if bound.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        bound
    }

    /// Opens a named namespace.
    pub fn open_named(name: &str) -> Result<Namespace, NamespaceError> {
        Namespace::open(&Path::new(NAMED_DIR).join(name))
    }

    /// Opens a namespace by its file, such as `CNI_NETNS` or `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Namespace, NamespaceError> {
        match File::open(path) {
            Ok(file) => Ok(Namespace { fd: file.into() }),
            Err(source) => Err(NamespaceError::File { path: path.to_owned(), source }),
        }
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Namespace, NamespaceError> {
        Namespace::open(&thread_namespace_path())
    }

    /// The namespace that a socket is in; for a new one that of the calling thread. Only with
    /// CAP_NET_ADMIN there. Half of what [`Namespace::current`] takes (12 us of 25) where a process looks into /proc for the
    /// first time; later it takes a little longer.
    pub fn of_socket(socket: BorrowedFd<'_>) -> io::Result<Namespace> {
        // SAFETY: the request takes no argument and gives a new descriptor, or fails.
        let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        Ok(Namespace { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// What tells it from all others that exist now: device and inode of its file.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        let stat = fstat(&self.fd)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Takes a name away; the namespace itself ends when nothing uses it any more. A name that isn't there is no error.
    pub fn remove_named(name: &str) -> Result<(), NamespaceError> {
        let path = Path::new(NAMED_DIR).join(name);
        // EINVAL: not a mount point, left behind by a crash between making the file and mounting.
        let _ = nix::mount::umount2(&path, MntFlags::MNT_DETACH);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(NamespaceError::File { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Runs a function inside, on a thread of its own, and waits for it. A panic inside goes on outside.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_thread(|| {
            self.enter()?;
            Ok(inside())
        })
    }

    /// Moves the calling thread inside, for good: for threads and processes that live there.
    pub fn enter(&self) -> Result<(), NamespaceError> {
        nix::sched::setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::File {
            path: PathBuf::from("(open descriptor)"),
            source: errno.into(),
        })
    }

    /// Opens the same namespace once more.
    pub fn try_clone(&self) -> io::Result<Namespace> {
        Ok(Namespace { fd: self.fd.try_clone()? })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs a test body in a new namespace with loopback up.
///
/// # Panics
///
/// When no namespace can be made: a test that can't run fails.
pub fn in_new_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    match Namespace::new().and_then(|namespace| namespace.run(body)) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    }
}

fn on_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(body).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn thread_namespace_path() -> PathBuf {
    PathBuf::from("/proc/thread-self/ns/net")
}

fn loopback_up() -> Result<(), NetlinkError> {
    let mut socket = Socket::open(libc::NETLINK_ROUTE)?;
    let mut batch = Batch::new();
    // struct ifinfomsg: loopback is always the first link; set IFF_UP, and nothing else.
    let mut ifinfomsg = [0; 16];
    ifinfomsg[4..8].copy_from_slice(&1_i32.to_ne_bytes());
    ifinfomsg[8..12].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    ifinfomsg[12..16].copy_from_slice(&(libc::IFF_UP as u32).to_ne_bytes());
    batch.message(libc::RTM_NEWLINK, 0, &ifinfomsg);
    socket.execute_one(&mut batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_entered_by_one_thread_only() {
        let outside = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let inside = in_new_namespace(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        assert_ne!(inside, outside);
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), outside);
    }

    #[test]
    fn a_socket_tells_its_namespace_wherever_the_thread_is() {
        let identity = |namespace: &Namespace| namespace.identity().unwrap();
        in_new_namespace(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let home = identity(&Namespace::current().unwrap());
            in_new_namespace(|| {
                assert_eq!(identity(&Namespace::of_socket(socket.as_fd()).unwrap()), home);
                assert_ne!(identity(&Namespace::current().unwrap()), home);
            });
        });
    }

    #[test]
    fn loopback_is_up() {
        in_new_namespace(|| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        });
    }

    #[test]
    fn a_name_is_taken_once_and_removed_for_good() {
        let name = format!("hw-netns-test-{}", std::process::id());
        let namespace = Namespace::named(&name).unwrap();
        assert!(matches!(Namespace::named(&name), Err(NamespaceError::File { .. })));
        let path = namespace.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        let again = Namespace::open_named(&name).unwrap();
        assert_eq!(again.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap(), path);
        Namespace::remove_named(&name).unwrap();
        Namespace::remove_named(&name).unwrap();
        assert!(Namespace::open_named(&name).is_err());
    }

    #[test]
    fn a_panic_inside_goes_on_outside() {
        let result = std::panic::catch_unwind(|| in_new_namespace(|| panic!("inside")));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "inside");
    }
}
