//! The limit of open files, each connection being one.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// The files that are no client connections: those of the database, of the bus, of metrics, of the runtime. At most a
/// quarter of a low limit.
const RESERVE: rlim_t = 1_024;

/// Raises the soft limit to the hard limit and logs it. Many systems start a process with 1,024, for programs that use
/// `select`.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| tracing::info!(soft, hard, "open files"))
    });
    if let Err(cause) = raised {
        tracing::warn!(%cause, "the limit of open files cannot be raised");
    }
}

/// Returns the number of client connections that the limit leaves room for, at most `wanted`. The others are refused: beyond
/// the limit they would wait unanswered, and the database could not be reached either.
pub(crate) fn connections(wanted: usize) -> usize {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let room = room(limit);
    if room < wanted {
        tracing::warn!(wanted, room, limit, "the limit of open files is lower than --max-connections needs");
    }
    wanted.min(room)
}

fn room(limit: rlim_t) -> usize {
    usize::try_from(limit - RESERVE.min(limit / 4)).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_leaves_room_for_other_files() {
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        assert_eq!(connections(1), 1);
        assert_eq!((room(0), room(1_024), room(65_536)), (1, 768, 64_512));
    }
}
