//! A row of a round: one message after another, each timed from sending to delivery.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use parlance::message::v1::{Event, event::Kind};
use parlance_client::{Client, Draft, Start, Update, Updates};

/// The longest pause between a delivery and the next message: several times the interval at which hints are batched, so that
/// some messages hit a batch and most do not.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The same without hints: longer than the poll interval of the outbox, so that messages fall anywhere within it.
pub(super) const PAUSE_WITHOUT_HINTS: Duration = Duration::from_millis(300);

/// Messages before the measurement, which fill connections, caches and plans.
const WARM_UP: usize = 30;

/// The time limit of a delivery, after which the benchmark fails.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

const TEXT_BYTES: usize = 100;

/// The parameters of a row.
pub(super) struct Pass<'a> {
    /// The user and the address of the replica.
    pub(super) sender: (&'a str, &'a str),
    pub(super) subscriber: (&'a str, &'a str),
    pub(super) conversation_id: &'a str,
    pub(super) messages: usize,
    pub(super) most_pause: Duration,
}

/// The times of a message, by one clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    sent: Instant,
    acknowledged: Instant,
    delivered: Instant,
}

impl Times {
    pub(super) fn sent_to_acknowledged(&self) -> f64 {
        self.after_sending(self.acknowledged)
    }

    pub(super) fn sent_to_delivered(&self) -> f64 {
        self.after_sending(self.delivered)
    }

    /// Negative if the delivery was faster than the answer.
    pub(super) fn acknowledged_to_delivered(&self) -> f64 {
        self.after_sending(self.delivered) - self.after_sending(self.acknowledged)
    }

    fn after_sending(&self, then: Instant) -> f64 {
        crate::figures::millis(then.duration_since(self.sent))
    }
}

impl Pass<'_> {
    pub(super) async fn run(&self) -> anyhow::Result<Vec<Times>> {
        let (sender, subscriber) = (Client::new([self.sender.1])?, Client::new([self.subscriber.1])?);
        let (session, _updates) = sender.session(self.sender.0).send_only().open();
        let (_subscription, mut updates) = subscriber.session(self.subscriber.0).start(Start::Now).open();
        until(&mut updates, |update| matches!(update, Update::AllCaughtUp))
            .await
            .context("opening the subscription")?;
        let text = "x".repeat(TEXT_BYTES);
        let mut times = Vec::with_capacity(self.messages);
        for n in 0..WARM_UP + self.messages {
            let request_id = format!("{}-{n}", fastrand::u64(..));
            let draft = Draft { request_id: Some(request_id.clone()), ..Draft::text(self.conversation_id, &text) };
            let matches = |update: &Update| match update {
                Update::Event(Event { kind: Some(Kind::MessageSent(message)), .. }) => message.request_id == request_id,
                _ => false,
            };
            let sent = Instant::now();
            let answer = async {
                session.send(draft).await?;
                Ok::<_, anyhow::Error>(Instant::now())
            };
            let (acknowledged, delivered) = tokio::try_join!(answer, until(&mut updates, matches))?;
            if n >= WARM_UP {
                times.push(Times { sent, acknowledged, delivered });
            }
            tokio::time::sleep(self.most_pause.mul_f64(fastrand::f64())).await;
        }
        Ok(times)
    }
}

/// Waits for an update, skips others, and returns the time of its arrival. A lost connection is an error, since it distorts
/// the times.
async fn until(updates: &mut Updates, matches: impl Fn(&Update) -> bool) -> anyhow::Result<Instant> {
    let waiting = async {
        loop {
            match updates.next().await {
                Some(update) if matches(&update) => return Ok(Instant::now()),
                Some(Update::Disconnected { cause, .. } | Update::Ended(cause)) => {
                    bail!("the session lost its connection: {cause}")
                }
                Some(_) => {}
                None => bail!("the session has ended"),
            }
        }
    };
    tokio::time::timeout(DELIVERY_TIMEOUT, waiting).await.context("a message was not delivered")?
}
