//! A queue that is taken in batches: while one is handled, the next one gathers.

use service_kit::lifecycle::Lifecycle;
use tokio::sync::mpsc::UnboundedReceiver;

/// Waits for something in the queue, and takes up to `most` of it. On closing the queue accepts nothing more, and what waits in
/// it is still taken; after that, returns nothing.
pub(super) async fn take<T>(queue: &mut UnboundedReceiver<T>, most: usize, lifecycle: &Lifecycle) -> Vec<T> {
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = queue.recv_many(&mut taken, most) => return taken,
            () = lifecycle.closing().cancelled(), if !queue.is_closed() => queue.close(),
        }
    }
}
