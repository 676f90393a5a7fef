use std::{io::Write, os::unix::fs::PermissionsExt};

use super::*;
use crate::auth::testing::{Files as TestFiles, SECRET, settings};

/// The lines that are logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Returns what is logged while something is done.
    fn of(act: impl FnOnce()) -> String {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, act);
        String::from_utf8(lock(&log.0).clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged while a source of one secret file of this mode is loaded.
fn logged_with(mode: u32) -> String {
    let files = TestFiles::new();
    let file = files.secret("a", SECRET);
    fs::set_permissions(&file.path, fs::Permissions::from_mode(mode)).unwrap();
    Log::of(|| {
        let sources = Source::all(&settings(vec![file]), Timing::default()).unwrap();
        sources[0].load().unwrap();
    })
}

#[test]
fn a_secret_that_everyone_can_read_is_a_warning_and_never_in_the_log() {
    let log = logged_with(0o644);
    assert!(log.contains("WARN") && log.contains("chmod 600"), "{log}");
    assert!(!log.contains(SECRET));
    assert_eq!(logged_with(0o600), "");
    assert_eq!(logged_with(0o640), "");
}

#[test]
fn a_broken_file_is_logged_once_and_the_keys_stay() {
    let files = TestFiles::new();
    let file = files.secret("a", SECRET);
    let source = Source::all(&settings(vec![file]), Timing::default()).unwrap().remove(0);
    source.load().unwrap();
    files.write("a", "short and secret");
    let log = Log::of(|| {
        assert!(!source.reload());
        assert!(!source.reload());
        assert_eq!(source.keys().set.len(), 1);
        files.write("a", SECRET);
        assert!(!source.reload(), "the old secret is back");
        files.write("a", "short and secret");
        assert!(!source.reload());
    });
    assert_eq!(log.matches("ERROR").count(), 2, "{log}");
    assert!(!log.contains("short and secret"), "{log}");
}
