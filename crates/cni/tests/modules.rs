//! Many plugins that want nftables at once, when the kernel has not loaded it yet: as for the first pods of a node that has
//! just booted. Where it is loaded or built in nothing is waited for. In the guest of `cargo xtask vm` loading takes longer
//! than the kernel has who wants a module wait for his turn.

use std::sync::Barrier;

use hopwise_cni::nft::{self, Table, Transaction};
use hopwise_kernel::netlink::{NetlinkError, Socket};
use hopwise_kernel::netns::in_new_namespace;

/// Half of them read first, half write. More than may load modules at a time, which are 50 (`MAX_KMOD_CONCURRENT`, Linux 6.1).
const MANY: usize = 70;

fn make_table(socket: &mut Socket) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new(Table::INET);
    transaction.add_table();
    transaction.commit(socket)
}

#[test]
fn who_comes_while_modules_are_loaded_is_served() {
    let ready = Barrier::new(MANY);
    let one = |number: usize| {
        in_new_namespace(|| {
            ready.wait();
            let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
            if number.is_multiple_of(2) {
                nft::chain_uses(&mut socket, Table::INET, &["postrouting"])?;
                nft::rules(&mut socket, Table::INET, "postrouting")?;
            }
            make_table(&mut socket)
        })
    };
    let outcomes: Vec<Result<(), NetlinkError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..MANY).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let refused: Vec<String> =
        outcomes.into_iter().filter_map(|outcome| Some(outcome.err()?.to_string())).collect();
    assert_eq!(refused, [""; 0]);
}
