//! The entry points of the fuzz targets of hints.

#![expect(clippy::expect_used, reason = "a broken law ends the fuzzer")]

use std::cell::LazyCell;

use super::{
    hint::{ConversationEntries, Hint},
    seal::Seal,
    wire,
};
use crate::domain::{epoch::Epoch, sequence::Position};

/// Decodes the plain form of a hint, as it is behind the seal.
///
/// # Panics
/// If a hint is accepted that is not in order, or that is encoded as another one.
pub fn hint(input: &[u8]) {
    let Some(hint) = wire::decode(input) else { return };
    for ConversationEntries { entries, .. } in &hint.entries {
        assert!((1..=4_096).contains(&entries.len()));
        assert!(entries.windows(2).all(|two| Position::from(two[0].sequence).next() == two[1].sequence));
    }
    let parts = wire::encode(hint, usize::MAX / 2);
    assert_eq!(parts.len(), 1, "it is one part");
    let again = wire::decode(&parts[0]).expect("what was accepted is accepted again");
    small_parts(wire::decode(&parts[0]).expect("as before"));
    assert_eq!(wire::encode(again, usize::MAX / 2), parts, "it is encoded as it was decoded");
}

/// Encodes a hint as PostgreSQL takes it, in small parts: all but entries that are too large arrive in order.
fn small_parts(hint: Hint) {
    const MOST: usize = 300;
    let (poll, ephemerals) = (hint.poll, hint.ephemerals.clone());
    let sent: usize = hint.entries.iter().map(|run| run.entries.len()).sum();
    let mut received = Hint::default();
    for part in wire::encode(hint, MOST) {
        assert!(part.len() <= MOST + 64, "{} bytes", part.len());
        let part = wire::decode(&part).expect("a part is accepted");
        received.poll |= part.poll;
        received.entries.extend(part.entries);
        received.ephemerals.extend(part.ephemerals);
    }
    let arrived: usize = received.entries.iter().map(|run| run.entries.len()).sum();
    assert_eq!(received.ephemerals, ephemerals);
    assert_eq!(received.poll, poll || arrived < sent, "{arrived} of {sent}");
}

thread_local! {
    static SEALS: LazyCell<[Seal; 2]> =
        LazyCell::new(|| [(); 2].map(|()| Seal::new(&[7; 32], || Some(Epoch::from_storage("one")))));
}

/// Opens the input as a sealed hint, and one that another replica has sealed, as it is and changed by the input.
///
/// # Panics
/// If anything but the sealed hint opens.
pub fn sealed_hint(input: &[u8]) {
    SEALS.with(|seals| {
        let [here, there] = &**seals;
        assert!(here.open("hints", input).is_err(), "a forged hint");
        let (change, plain) = input.split_at(input.len().min(4));
        let sealed = there.seal("hints", plain).expect("the epoch is known");
        if let [high, low, with, kind] = *change {
            let mut changed = sealed.clone();
            let at = usize::from(u16::from_be_bytes([high, low])) % changed.len();
            match kind % 4 {
                0 => changed[at] ^= with.max(1),
                1 => changed.truncate(at),
                2 => changed.insert(at, with),
                _ => drop(changed.remove(at)),
            }
            assert!(changed == sealed || here.open("hints", &changed).is_err(), "a changed hint");
        }
        assert!(here.open("other", &sealed).is_err(), "a hint of another channel");
        assert_eq!(here.open("hints", &sealed).as_deref(), Ok(plain), "a hint is opened as it was sealed");
        assert!(here.open("hints", &sealed).is_err(), "a repeated hint");
        hint(plain);
    });
}
