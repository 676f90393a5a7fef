//! The bus over NATS: it carries the entries themselves, so that replicas need not read them. Core NATS only: the server
//! stores nothing, and what is lost is delivered after the next poll of the outbox.

use std::{
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber, connection::State};
use futures_util::StreamExt;
use service_kit::{backoff, config::Secret, lifecycle::BoxError, telemetry::metrics::Counter};
use tokio::{sync, time::timeout};

use super::{
    exchange::Exchange,
    hint::{Bus, Hint},
    metrics,
    seal::Seal,
    wire,
};

/// The most bytes of one message, unless the server allows less.
const MAX_BYTES: usize = 256 * 1024;

/// The timeout of one call.
const LIMIT: Duration = Duration::from_secs(2);

/// The interval of keep-alive pings.
const PING_INTERVAL: Duration = Duration::from_secs(10);

const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Addresses of NATS servers, with credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers(Secret);

impl FromStr for Servers {
    type Err = ();

    /// Parses one or more addresses, separated by commas: `nats://[user:password@]host[:port]`, or `tls://…`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_one = |address: &str| {
            (address.starts_with("nats://") || address.starts_with("tls://"))
                && address.parse::<ServerAddr>().is_ok_and(|server| !server.host().is_empty())
        };
        if text.split(',').all(is_one) { Ok(Self(Secret::new(text))) } else { Err(()) }
    }
}

impl Servers {
    fn addresses(&self) -> Result<Vec<ServerAddr>, BoxError> {
        self.0.expose().split(',').map(|address| Ok(address.parse()?)).collect()
    }
}

/// The NATS bus of one replica.
pub(crate) struct Nats {
    servers: Servers,
    /// Shared by the replicas of one database.
    subject: String,
    seal: Seal,
    refused: Counter,
    exchange: Exchange,
    client: sync::Mutex<Option<Client>>,
    subscriber: sync::Mutex<Option<Subscriber>>,
}

impl Nats {
    /// Creates the bus; it connects at the first use. `installation` names the database, so that several can share a
    /// server.
    pub(crate) fn new(servers: Servers, installation: &str, seal: Seal, exchange: &Exchange) -> Self {
        Self {
            servers,
            subject: format!("parlance.{installation}.message"),
            seal,
            refused: metrics::refused(),
            exchange: exchange.clone(),
            client: sync::Mutex::default(),
            subscriber: sync::Mutex::default(),
        }
    }

    /// Returns the connection, which serves both directions and reconnects by itself.
    async fn client(&self) -> Result<Client, BoxError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let options = ConnectOptions::new()
            .name("parlance message-service")
            .no_echo()
            .retry_on_initial_connect()
            .connection_timeout(LIMIT)
            .ping_interval(PING_INTERVAL)
            .client_capacity(64)
            .subscription_capacity(1024)
            .reconnect_delay_callback(|attempts| {
                let delay = Duration::from_millis(100) * u32::try_from(attempts).unwrap_or(u32::MAX).clamp(1, 20);
                backoff::jittered(delay.min(MAX_RECONNECT_DELAY), 0.5..1.0)
            })
            .event_callback(on_event(self.exchange.clone()));
        let new = options.connect(self.servers.addresses()?).await?;
        *client = Some(new.clone());
        Ok(new)
    }
}

/// Logs each connect and disconnect once, with the cause of the first failure to connect again, and requests a poll whenever
/// hints may have been missed.
fn on_event(exchange: Exchange) -> impl Fn(Event) -> std::future::Ready<()> + Send + Sync + 'static {
    let (is_disconnected, has_cause) = (AtomicBool::new(false), AtomicBool::new(false));
    move |event| {
        match event {
            Event::Connected => {
                tracing::info!("NATS is connected");
                is_disconnected.store(false, Relaxed);
                has_cause.store(false, Relaxed);
                exchange.request_poll();
            }
            Event::Disconnected if !is_disconnected.swap(true, Relaxed) => {
                tracing::warn!("NATS is disconnected; commits of other replicas are found by polling");
            }
            Event::ClientError(cause) if !has_cause.swap(true, Relaxed) => {
                is_disconnected.store(true, Relaxed);
                tracing::warn!(%cause, "NATS cannot be reached; commits of other replicas are found by polling");
            }
            Event::SlowConsumer(_) => exchange.request_poll(),
            other => tracing::debug!(event = %other, "NATS"),
        }
        std::future::ready(())
    }
}

impl Bus for Nats {
    async fn send(&self, hint: Hint) -> Result<(), BoxError> {
        let client = self.client().await?;
        if client.connection_state() != State::Connected {
            // The client would buffer the hint, and a late hint is useless.
            return Err("NATS is disconnected".into());
        }
        let max_bytes = MAX_BYTES.min(client.max_payload().saturating_sub(1024));
        for part in wire::encode(hint, max_bytes) {
            let sealed = self.seal.seal(&self.subject, &part).ok_or("the epoch of the log is not known yet")?;
            timeout(LIMIT, client.publish(self.subject.clone(), sealed.into())).await??;
        }
        timeout(LIMIT, client.flush()).await??;
        Ok(())
    }

    async fn receive(&self) -> Result<Hint, BoxError> {
        let mut subscriber = self.subscriber.lock().await;
        if subscriber.is_none() {
            let client = self.client().await?;
            *subscriber = Some(timeout(LIMIT, client.subscribe(self.subject.clone())).await??);
        }
        while let Some(open) = &mut *subscriber {
            match open.next().await {
                Some(message) => match self.seal.open(&self.subject, &message.payload) {
                    Ok(hint) => {
                        if let Some(hint) = wire::decode(&hint) {
                            return Ok(hint);
                        }
                        tracing::debug!(bytes = hint.len(), "received a hint of another version");
                    }
                    Err(_) => self.refused.increment(1),
                },
                None => *subscriber = None,
            }
        }
        Err("the subscription has ended".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_and_their_passwords_are_never_printed() {
        for good in ["nats://localhost", "nats://ann:secret@host:4222", "nats://a:1,nats://b:2", "tls://host"] {
            assert!(good.parse::<Servers>().is_ok(), "{good}");
        }
        for bad in ["", "host", "http://host", "nats://", "nats://a:1,", "nats://a:x"] {
            assert!(bad.parse::<Servers>().is_err(), "{bad}");
        }
        let servers: Servers = "nats://ann:secret@host:4222".parse().unwrap();
        assert!(!format!("{servers:?}").contains("secret"));
    }
}
