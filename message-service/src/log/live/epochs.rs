//! The epoch of all live logs.

use std::collections::HashMap;

use service_kit::sync::lock;

use super::LiveLogs;
use crate::{
    domain::{epoch::Epoch, ids::ConversationId, sequence::Position},
    log::epoch::{CurrentEpoch, OpenEpoch},
};

impl LiveLogs {
    /// Opens the current epoch for a stream: before it follows anything, and it ends with it.
    pub(crate) fn epoch(&self) -> OpenEpoch {
        lock(&self.shared.logs).epoch.open()
    }

    /// Returns the name of the current epoch, if it is known.
    pub(crate) fn epoch_name(&self) -> Option<Epoch> {
        lock(&self.shared.logs).epoch.name()
    }

    /// Enters an epoch. If it is another one, all logs are forgotten, since what was committed last may be lost, and all
    /// streams end: their clients come back with their positions and the epoch of these.
    pub(crate) fn enter(&self, epoch: &Epoch) {
        let (ended, forgotten) = {
            let mut logs = lock(&self.shared.logs);
            if logs.epoch.is(Some(epoch)) {
                return;
            }
            let next = CurrentEpoch::new(Some(epoch.clone()));
            (std::mem::replace(&mut logs.epoch, next), std::mem::take(&mut logs.of))
        };
        ended.end(epoch);
        // A log that is still followed lives on with its last subscriber, and receives nothing.
        drop(forgotten);
    }

    /// Enters an epoch in which everything up to these heads survived: streams go on, and learn its name before anything that
    /// was committed in it. Returns false, and changes nothing, if a known head is not among them.
    pub(in crate::log) fn continue_in(&self, epoch: &Epoch, survived: &HashMap<ConversationId, Position>) -> bool {
        let logs = lock(&self.shared.logs);
        let continues = logs.of.iter().all(|(id, log)| {
            let head = log.lock().ring.head();
            head.is_none_or(|head| survived.get(id) == Some(&head))
        });
        if continues {
            logs.epoch.rename(epoch.clone());
        }
        continues
    }

    /// Returns the heads of all followed conversations that are known.
    pub(in crate::log) fn heads(&self) -> HashMap<ConversationId, Position> {
        let logs = lock(&self.shared.logs);
        logs.of.iter().filter_map(|(id, log)| Some((id.clone(), log.lock().ring.head()?))).collect()
    }
}
