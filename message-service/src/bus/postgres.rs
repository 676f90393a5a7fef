//! The bus over LISTEN/NOTIFY of PostgreSQL: an empty notification after a commit, and a second channel for ephemerals.
//! Each direction has its own connection.

use base64::{Engine, engine::general_purpose::STANDARD};
use service_kit::{
    database::{Database, Listener, Notifier, Settings},
    lifecycle::BoxError,
    telemetry::metrics::Counter,
};
use tokio::sync::Mutex;

use super::{
    hint::{Bus, Hint},
    metrics,
    seal::Seal,
    wire,
};

const COMMIT_CHANNEL: &str = "parlance_message";
const EPHEMERAL_CHANNEL: &str = "parlance_message_live";

/// The most bytes of ephemerals in one notification. A payload is limited to 8,000 bytes, and base64 adds a third.
const MAX_EPHEMERAL_BYTES: usize = 5_000;

/// The PostgreSQL bus of one replica.
pub(crate) struct PostgresBus {
    seal: Seal,
    refused: Counter,
    notifier: Notifier,
    listener_settings: Settings,
    listener: Mutex<Option<Listener>>,
}

impl PostgresBus {
    /// Creates the bus; it connects at the first use.
    pub(crate) fn new(database: &Database, seal: Seal) -> Self {
        let application_name = "parlance message-service listener";
        Self {
            seal,
            refused: metrics::refused(),
            notifier: database.notifier("parlance message-service bell"),
            listener_settings: Settings { application_name, ..database.settings().clone() },
            listener: Mutex::default(),
        }
    }
}

impl Bus for PostgresBus {
    async fn send(&self, hint: Hint) -> Result<(), BoxError> {
        // By itself and first: ephemerals that fail must not delay it.
        if hint.poll || !hint.entries.is_empty() {
            self.notifier.notify(&[(COMMIT_CHANNEL, "")]).await?;
        }
        if !hint.ephemerals.is_empty() {
            let ephemerals = Hint { ephemerals: hint.ephemerals, ..Hint::default() };
            let parts = wire::encode(ephemerals, MAX_EPHEMERAL_BYTES);
            let sealed = parts.iter().map(|part| self.seal.seal(EPHEMERAL_CHANNEL, part));
            let payloads: Vec<String> = sealed.flatten().map(|sealed| STANDARD.encode(sealed)).collect();
            let notifications: Vec<_> = payloads.iter().map(|payload| (EPHEMERAL_CHANNEL, payload.as_str())).collect();
            self.notifier.notify(&notifications).await?;
        }
        Ok(())
    }

    async fn receive(&self) -> Result<Hint, BoxError> {
        let mut kept = self.listener.lock().await;
        // Taken out, so that a listener that failed or was dropped in the middle of a call is replaced.
        let mut listener = match kept.take() {
            Some(listener) => listener,
            None => self.listener_settings.listen(&[COMMIT_CHANNEL, EPHEMERAL_CHANNEL]).await?,
        };
        let hint = loop {
            let notification = listener.next().await?;
            // Every replica receives what it sends itself.
            if notification.process_id == self.notifier.process_id() {
                continue;
            }
            if notification.channel == COMMIT_CHANNEL {
                break Hint { poll: true, ..Hint::default() };
            }
            let bytes = STANDARD.decode(&notification.payload).unwrap_or_default();
            match self.seal.open(EPHEMERAL_CHANNEL, &bytes) {
                Ok(hint) => {
                    if let Some(hint) = wire::decode(&hint) {
                        // Other fields have no place in this channel.
                        break Hint { ephemerals: hint.ephemerals, ..Hint::default() };
                    }
                }
                Err(_) => self.refused.increment(1),
            }
        };
        *kept = Some(listener);
        Ok(hint)
    }
}
