//! The bus over a server of NATS that is there anyway: carries the entries themselves, so that replicas need not read them.
//! Core NATS only: nothing is kept there, and what is lost comes with the next look at the outbox.

use std::{str::FromStr, sync::Mutex, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber, connection::State};
use futures_util::StreamExt;
use service_kit::{config::Secret, lifecycle::BoxError};
use tokio::{sync, time::timeout};

use super::{Bus, Exchange, Hint, ReplicaId, wire};

/// The most bytes of one message, where the server allows that.
const MAX_BYTES: usize = 256 * 1024;

/// The longest that one call may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How often the server is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(10);

const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(2);

/// Addresses of servers, with what it takes to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers(Secret);

impl FromStr for Servers {
    type Err = ();

    /// One or more, separated by commas: `nats://[user:password@]host[:port]`, or `tls://…`.
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

/// The bus of one replica.
pub(crate) struct Nats {
    servers: Servers,
    /// Replicas of the same database, and nobody else.
    subject: String,
    from: ReplicaId,
    exchange: Exchange,
    client: sync::Mutex<Option<Client>>,
    subscriber: sync::Mutex<Option<Subscriber>>,
}

impl Nats {
    /// Connects when it is first used. `installation` names the database, so that several can share a server.
    pub(crate) fn new(servers: Servers, installation: &str, exchange: &Exchange) -> Self {
        Self {
            servers,
            subject: format!("parlance.{installation}.message"),
            from: fastrand::u64(..),
            exchange: exchange.clone(),
            client: sync::Mutex::default(),
            subscriber: sync::Mutex::default(),
        }
    }

    /// One connection for both directions, which comes back by itself.
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
            .ping_interval(PING_EVERY)
            .client_capacity(64)
            .subscription_capacity(1024)
            .reconnect_delay_callback(|attempts| {
                let pause = Duration::from_millis(100) * u32::try_from(attempts).unwrap_or(u32::MAX).clamp(1, 20);
                pause.min(MAX_RECONNECT_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
            })
            .event_callback(watch(self.exchange.clone()));
        let new = options.connect(self.servers.addresses()?).await?;
        *client = Some(new.clone());
        Ok(new)
    }
}

/// One line when the server is there and one when it is not; after an absence others have been missed, so look.
fn watch(exchange: Exchange) -> impl Fn(Event) -> std::future::Ready<()> + Send + Sync + 'static {
    let is_away = Mutex::new(false);
    move |event| {
        let mut is_away = is_away.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Event::Connected => {
                tracing::info!("NATS is connected");
                *is_away = false;
                exchange.request_poll();
            }
            Event::Disconnected | Event::ClientError(_) if !std::mem::replace(&mut *is_away, true) => {
                tracing::warn!(%event, "NATS is away; other replicas are heard of through the outbox");
            }
            Event::SlowConsumer(_) => exchange.request_poll(),
            other => tracing::debug!(event = %other, "NATS"),
        }
        std::future::ready(())
    }
}

impl Bus for Nats {
    async fn tell(&self, hint: Hint) -> Result<(), BoxError> {
        let client = self.client().await?;
        if client.connection_state() != State::Connected {
            // What is told late is of no use.
            return Err("NATS is away".into());
        }
        let max_bytes = MAX_BYTES.min(client.max_payload().saturating_sub(1024));
        for part in wire::encode(self.from, hint, max_bytes) {
            timeout(LIMIT, client.publish(self.subject.clone(), part)).await??;
        }
        timeout(LIMIT, client.flush()).await??;
        Ok(())
    }

    async fn hear(&self) -> Result<Hint, BoxError> {
        let mut subscriber = self.subscriber.lock().await;
        if subscriber.is_none() {
            let client = self.client().await?;
            *subscriber = Some(timeout(LIMIT, client.subscribe(self.subject.clone())).await??);
        }
        while let Some(open) = &mut *subscriber {
            match open.next().await {
                Some(message) => {
                    if let Some(hint) = wire::decode(self.from, &message.payload) {
                        return Ok(hint);
                    }
                    tracing::debug!(bytes = message.payload.len(), "something on the bus makes no sense");
                }
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
