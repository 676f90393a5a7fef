//! The pause between runs of a write that fails.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(10);
const LAST: Duration = Duration::from_millis(500);

/// A pause that doubles with every failure in a row, jittered.
#[derive(Default)]
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) async fn wait(&mut self) {
        self.0 = (self.0 * 2).clamp(FIRST, LAST);
        tokio::time::sleep(self.0.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}
