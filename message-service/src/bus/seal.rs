//! Seals hints, so that only replicas of the same database can write and read them, and none can be repeated.
//!
//! A sealed hint is `run (16) ‖ counter (8) ‖ time (8) ‖ AES-256-GCM(hint)`. Its key is derived from the key that the database
//! holds, the epoch and the run, which is one life of one process; the counter is the nonce, and never repeats in a run. The
//! header and the channel are authenticated, too. A hint of another epoch does not open, so none survives a failover.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
};
use service_kit::sync::lock;
use uuid::Uuid;

use crate::domain::epoch::Epoch;

/// The version of the form and the purpose of the keys.
const PURPOSE: &[u8] = b"parlance bus v1";

const RUN_BYTES: usize = 16;
const HEADER_BYTES: usize = RUN_BYTES + 8 + 8;

/// A hint that was sealed longer ago, or by a clock that is further ahead, is refused. Replicas whose clocks differ by more
/// find each other's commits by polling.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The most runs whose counters are remembered.
const MAX_RUNS: usize = 1_024;

type Run = [u8; RUN_BYTES];

/// Seals the hints of this process and opens those of the other replicas.
pub(crate) struct Seal {
    key: Prk,
    /// Returns the current epoch, if it is known.
    epoch: Box<dyn Fn() -> Option<Epoch> + Send + Sync>,
    run: Run,
    counter: AtomicU64,
    /// The last hint of each run that was opened lately.
    opened: Mutex<HashMap<Run, Stamp>>,
}

/// The place of a hint in its run.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    counter: u64,
    /// In milliseconds since 1970, by the clock of the sender.
    sealed_at: u64,
}

/// A hint that is not one of another replica of this database in this epoch, is too old, or was received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hint of another replica")]
pub(crate) struct NotAHint;

impl Seal {
    /// `database_key` is the key that all replicas of the database read from it.
    pub(crate) fn new(database_key: &[u8; 32], epoch: impl Fn() -> Option<Epoch> + Send + Sync + 'static) -> Self {
        Self {
            key: Salt::new(HKDF_SHA256, PURPOSE).extract(database_key),
            epoch: Box::new(epoch),
            // Unique, which is all that the nonces need.
            run: Uuid::now_v7().into_bytes(),
            counter: AtomicU64::new(0),
            opened: Mutex::default(),
        }
    }

    /// Seals a hint for a channel. `None` while the epoch is unknown.
    pub(crate) fn seal(&self, channel: &str, hint: &[u8]) -> Option<Vec<u8>> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let header = header(self.run, Stamp { counter, sealed_at: millis(SystemTime::now()) });
        let mut sealed = hint.to_vec();
        let key = self.key(&(self.epoch)()?, &self.run)?;
        key.seal_in_place_append_tag(nonce(counter), associated(channel, &header), &mut sealed).ok()?;
        sealed.splice(0..0, header);
        Some(sealed)
    }

    /// Opens a hint of another replica.
    ///
    /// # Errors
    /// [`NotAHint`].
    pub(crate) fn open(&self, channel: &str, sealed: &[u8]) -> Result<Vec<u8>, NotAHint> {
        self.open_at(channel, sealed, SystemTime::now()).ok_or(NotAHint)
    }

    fn open_at(&self, channel: &str, sealed: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (header, sealed) = sealed.split_at_checked(HEADER_BYTES)?;
        let (run, stamp) = parse(header)?;
        let is_recent = u128::from(stamp.sealed_at.abs_diff(millis(now))) <= MAX_AGE.as_millis();
        if run == self.run || !is_recent {
            return None;
        }
        let mut hint = sealed.to_vec();
        let key = self.key(&(self.epoch)()?, &run)?;
        let length = key.open_in_place(nonce(stamp.counter), associated(channel, header), &mut hint).ok()?.len();
        hint.truncate(length);
        // Only now is it known to be genuine, so that others cannot fill the map.
        self.is_first(run, stamp, now).then_some(hint)
    }

    /// Remembers a hint. Returns false if it, or a later one of its run, was remembered before.
    fn is_first(&self, run: Run, stamp: Stamp, now: SystemTime) -> bool {
        let mut opened = lock(&self.opened);
        if opened.len() >= MAX_RUNS && !opened.contains_key(&run) {
            let now = millis(now);
            opened.retain(|_, last| u128::from(last.sealed_at.abs_diff(now)) <= MAX_AGE.as_millis());
            if opened.len() >= MAX_RUNS {
                return false;
            }
        }
        opened.insert(run, stamp).is_none_or(|last| {
            let is_later = stamp.counter > last.counter;
            if !is_later {
                opened.insert(run, last);
            }
            is_later
        })
    }

    fn key(&self, epoch: &Epoch, run: &Run) -> Option<LessSafeKey> {
        let info = [PURPOSE, epoch.as_str().as_bytes(), run];
        let key: UnboundKey = self.key.expand(&info, &AES_256_GCM).ok()?.into();
        Some(LessSafeKey::new(key))
    }
}

fn header(run: Run, Stamp { counter, sealed_at }: Stamp) -> Vec<u8> {
    [&run[..], &counter.to_be_bytes(), &sealed_at.to_be_bytes()].concat()
}

fn parse(header: &[u8]) -> Option<(Run, Stamp)> {
    let (run, rest) = header.split_first_chunk::<RUN_BYTES>()?;
    let (counter, sealed_at) = rest.split_first_chunk::<8>()?;
    let sealed_at = u64::from_be_bytes(sealed_at.try_into().ok()?);
    Some((*run, Stamp { counter: u64::from_be_bytes(*counter), sealed_at }))
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Returns what is authenticated beside the hint. The header has a fixed length, so no two channels have the same bytes.
fn associated(channel: &str, header: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([header, channel.as_bytes()].concat())
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seal(key: u8, epoch: &'static str) -> Seal {
        Seal::new(&[key; 32], move || Some(Epoch::from_storage(epoch)))
    }

    #[test]
    fn a_replica_opens_the_hints_of_another_once() {
        let (here, there) = (seal(1, "e"), seal(1, "e"));
        let [first, second] = [b"first", b"secon"].map(|hint| there.seal("c", hint).unwrap());
        assert_eq!(here.open("c", &first).unwrap(), b"first");
        assert_eq!(here.open("c", &first), Err(NotAHint), "a replay");
        assert_eq!(here.open("c", &second).unwrap(), b"secon");
        assert_eq!(here.open("c", &first), Err(NotAHint), "an old one");
        assert_eq!(there.open("c", &second), Err(NotAHint), "its own");
    }

    #[test]
    fn other_databases_epochs_channels_and_times_are_refused() {
        let sealed = || seal(1, "e").seal("c", b"hint").unwrap();
        assert!(seal(1, "e").open("c", &sealed()).is_ok());
        assert!(seal(2, "e").open("c", &sealed()).is_err(), "another database");
        assert!(seal(1, "f").open("c", &sealed()).is_err(), "another epoch");
        assert!(seal(1, "e").open("d", &sealed()).is_err(), "another channel");
        let later = SystemTime::now() + MAX_AGE + Duration::from_secs(1);
        assert!(seal(1, "e").open_at("c", &sealed(), later).is_none(), "too old");
        let earlier = SystemTime::now() - MAX_AGE - Duration::from_secs(1);
        assert!(seal(1, "e").open_at("c", &sealed(), earlier).is_none(), "of the future");
        assert!(Seal::new(&[1; 32], || None).seal("c", b"hint").is_none(), "no epoch is known");
    }

    #[test]
    fn the_memory_of_runs_is_bounded_and_forgets_old_ones() {
        let here = seal(1, "e");
        for _ in 0..MAX_RUNS {
            assert!(here.open("c", &seal(1, "e").seal("c", b"hint").unwrap()).is_ok());
        }
        assert!(here.open("c", &seal(1, "e").seal("c", b"hint").unwrap()).is_err());
        for stamp in lock(&here.opened).values_mut() {
            stamp.sealed_at -= 60_000;
        }
        assert!(here.open("c", &seal(1, "e").seal("c", b"hint").unwrap()).is_ok());
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), with in 1..=255_u8) {
            let mut sealed = seal(1, "e").seal("c", b"a hint").unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= with;
            prop_assert_eq!(seal(1, "e").open("c", &sealed), Err(NotAHint));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(seal(1, "e").open("c", &bytes), Err(NotAHint));
        }
    }
}
