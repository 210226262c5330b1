//! Deletes the links that plugins have taken out of use (`deferDeletion`): they see to it themselves, but a child of theirs may
//! be killed, and nothing else would come by on a node where no pod ends any more.

use std::time::Duration;

use hopwise_kernel::netlink::NetlinkError;
use hopwise_kernel::rtnl::Rtnl;
use tokio_util::sync::CancellationToken;

/// Looks at once and every so often, beside the reconciler, which must not wait for the kernel to delete links.
pub async fn keep_reaping(every: Duration, stop: CancellationToken) {
    let mut said = String::new();
    loop {
        // A thread of the runtime's pool is in the namespace of the thread that started it, which is the runtime's.
        let result = tokio::task::spawn_blocking(|| Rtnl::open()?.reap()).await;
        let problem = match result {
            Ok(Ok(0)) => String::new(),
            Ok(Ok(n)) => {
                tracing::info!("deleted {n} links that plugins had left for deletion");
                String::new()
            }
            Ok(Err(error)) => describe(&error),
            Err(error) => error.to_string(),
        };
        if !problem.is_empty() && problem != said {
            tracing::warn!("can't delete links that plugins left for deletion: {problem}");
        }
        said = problem;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

fn describe(error: &NetlinkError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
