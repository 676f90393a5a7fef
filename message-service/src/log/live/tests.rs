use bytes::Bytes;

use super::*;
use crate::domain::sequence::Sequence;

const ENCODE: Encode = Encode { entry: |_| Bytes::new(), ephemeral: |_| Bytes::new() };

fn at(number: i64) -> Position {
    Position::new(number).unwrap()
}

fn entry(number: i64) -> EncodedEntry {
    let sequence = Sequence::new(number).unwrap();
    EncodedEntry { sequence, bytes: Bytes::from_static(b"entry"), ends_membership_of: None }
}

fn signal() -> Arc<Signal> {
    Arc::new(Signal::new("u".into()))
}

#[test]
fn an_idle_log_is_dropped_and_its_bytes_are_given_back() {
    let clock = Clock::manual();
    let logs = LiveLogs::new(ENCODE, 4000, clock.clone());
    let registration = logs.follow(&"c".into(), &signal());
    registration.advance_head(at(0));
    logs.append_committed(None, &"c".into(), at(1), || vec![entry(1)]);
    assert!(logs.shared.budget.used() > 0);
    drop(registration);
    clock.advance(IDLE / 2);
    logs.sweep_once(clock.now());
    assert_eq!(logs.conversation_ids(), ["c".into()]);
    clock.advance(IDLE / 2);
    logs.sweep_once(clock.now());
    assert!(logs.conversation_ids().is_empty() && !logs.is_followed());
    assert_eq!(logs.shared.budget.used(), 0);
}

#[test]
fn a_followed_log_stays_but_its_idle_ring_is_emptied() {
    let clock = Clock::manual();
    let logs = LiveLogs::new(ENCODE, 4000, clock.clone());
    let registration = logs.follow(&"c".into(), &signal());
    registration.advance_head(at(0));
    logs.append_committed(None, &"c".into(), at(1), || vec![entry(1)]);
    clock.advance(IDLE);
    logs.sweep_once(clock.now());
    assert_eq!((logs.shared.budget.used(), registration.head()), (0, Some(at(1))));
    assert!(matches!(registration.read_ring(at(0), 100), Ahead::InStorage));
}

#[test]
fn streams_go_on_in_an_epoch_only_if_every_known_head_survived() {
    let epoch = Epoch::from_storage;
    let logs = LiveLogs::new(ENCODE, 4000, Clock::manual());
    logs.enter(&epoch("first"));
    let (known, _unknown) = (logs.follow(&"c".into(), &signal()), logs.follow(&"d".into(), &signal()));
    known.advance_head(at(3));
    let mut open = logs.epoch();
    for heads in [vec![], vec![("c".into(), at(2))]] {
        assert!(!logs.continue_in(&epoch("second"), &HashMap::from_iter(heads)), "another head was looked at");
        assert!(!open.is_renamed() && !open.has_ended());
    }
    assert!(logs.continue_in(&epoch("second"), &logs.heads()));
    assert!(open.is_renamed() && !open.has_ended());
    assert_eq!((open.name(), open.latest_name()), (Some(&epoch("first")), logs.epoch_name()));
    open.take_name();
    assert!(!open.is_renamed() && open.name() == Some(&epoch("second")));
    // A commit of the first epoch is not one of the second.
    assert!(!logs.append_committed(Some(&epoch("first")), &"c".into(), at(4), Vec::new));
    assert!(logs.append_committed(Some(&epoch("second")), &"c".into(), at(4), || vec![entry(4)]));
    logs.enter(&epoch("third"));
    assert!(open.has_ended() && logs.conversation_ids().is_empty());
    assert_eq!(logs.epoch().name(), Some(&epoch("third")));
}

/// Wakes everybody who is due.
fn wake(logs: &LiveLogs) {
    while logs.shared.waker.wake_part().is_some() {}
}

#[test]
fn a_subscription_is_signalled_once_until_it_reads_the_ring() {
    let logs = LiveLogs::new(ENCODE, 4000, Clock::manual());
    let signal = signal();
    let moved = || {
        wake(&logs);
        signal.take().moved
    };
    let registration = logs.follow(&"c".into(), &signal);
    registration.advance_head(at(1));
    logs.advance_head_of(&"c".into(), at(2));
    assert_eq!(moved(), ["c".into()]);
    logs.advance_head_of(&"c".into(), at(3));
    assert!(moved().is_empty());
    registration.read_ring(at(3), 100);
    logs.advance_head_of(&"c".into(), at(3));
    assert!(moved().is_empty());
    logs.advance_head_of(&"c".into(), at(4));
    assert_eq!(moved(), ["c".into()]);
}

#[test]
fn a_commit_wakes_no_one_itself_and_many_subscribers_are_woken_in_parts() {
    let logs = LiveLogs::new(ENCODE, 4000, Clock::manual());
    let signals: Vec<_> = (0..3 * state::MAX_PART).map(|_| signal()).collect();
    let registrations: Vec<_> = signals.iter().map(|signal| logs.follow(&"c".into(), signal)).collect();
    registrations[0].advance_head(at(0));
    wake(&logs);
    for (signal, registration) in signals.iter().zip(&registrations) {
        signal.take();
        registration.read_ring(at(0), 100);
    }
    let woken = || signals.iter().filter(|signal| !signal.take().moved.is_empty()).count();
    logs.append_committed(None, &"c".into(), at(1), || vec![entry(1)]);
    assert_eq!(woken(), 0);
    assert_eq!(logs.shared.waker.wake_part(), Some(state::MAX_PART));
    // The first have read before the head moves again.
    registrations[0].read_ring(at(1), 100);
    logs.append_committed(None, &"c".into(), at(2), || vec![entry(2)]);
    assert_eq!(woken(), state::MAX_PART);
    wake(&logs);
    // All others, and the first one once more.
    assert_eq!(woken(), 2 * state::MAX_PART + 1);
}

#[test]
fn old_entries_and_idle_rings_make_room_for_others() {
    let clock = Clock::manual();
    let logs = LiveLogs::new(ENCODE, 100_000, clock.clone());
    let registrations: Vec<_> = ["idle", "busy"].map(|id| logs.follow(&id.into(), &signal())).into();
    let commit = |id: &str, number: i64| {
        let large = EncodedEntry { bytes: Bytes::from(vec![0; 30_000]), ..entry(number) };
        logs.append_committed(None, &id.into(), at(number), || vec![large]);
    };
    for registration in &registrations {
        registration.advance_head(at(0));
    }
    commit("idle", 1);
    clock.advance(SWEEP);
    logs.sweep_once(clock.now());
    // Not older than the interval.
    assert!(matches!(registrations[0].read_ring(at(0), 100), Ahead::Entries(_)));
    commit("busy", 1);
    commit("busy", 2);
    logs.make_room();
    assert!(matches!(registrations[0].read_ring(at(0), 100), Ahead::InStorage));
    assert!(matches!(registrations[1].read_ring(at(0), 100), Ahead::Entries(_)));
    clock.advance(SWEEP);
    logs.sweep_once(clock.now());
    commit("busy", 3);
    clock.advance(SWEEP);
    logs.sweep_once(clock.now());
    assert!(matches!(registrations[1].read_ring(at(1), 100), Ahead::InStorage));
    assert!(matches!(registrations[1].read_ring(at(2), 100), Ahead::Entries(_)));
}
