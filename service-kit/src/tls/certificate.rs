//! What a certificate says of itself: its fingerprint and the time for which it is valid.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, Error, KeyUsage};

/// The time for which a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Validity {
    /// Reads the validity of a certificate; `None` if it is none.
    ///
    /// webpki reads both times and returns them only in the errors of a verification before and after them. It looks at
    /// them before any issuer or signature, so nothing else is needed.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let error_at = |seconds: u64| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
        };
        let not_after = match error_at(u64::MAX)? {
            Error::CertExpired { not_after, .. } => seconds(not_after),
            _ => return None,
        };
        let not_before = match error_at(0)? {
            Error::CertNotValidYet { not_before, .. } => seconds(not_before),
            // Valid since 1970.
            _ => 0,
        };
        Some(Self { not_before, not_after })
    }

    /// True if a time, in seconds since 1970, has passed.
    pub(crate) fn is_past(time: i64) -> bool {
        let elapsed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        i64::try_from(elapsed.as_secs()).is_ok_and(|now| time < now)
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Returns the SHA-256 of a certificate in hex, as `openssl x509 -fingerprint -sha256` shows it, without colons.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
