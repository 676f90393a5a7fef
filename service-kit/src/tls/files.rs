//! Reads files of certificates, keys and revocation lists. Errors complete a sentence about the file, such as "cannot be
//! read", and never repeat what is in it.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

/// The largest file of certificates or of a key, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The largest file of revocation lists, in bytes.
pub(crate) const MAX_CRL_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Reads a file of at most `limit` bytes. Blocks.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    // A pipe could block for ever.
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > limit {
        return Err(format!("is larger than {limit} bytes"));
    }
    Ok(text)
}

/// Reads the certificates in a text: one at least.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    all(CertificateDer::pem_slice_iter(text), "certificate")
}

/// Reads the revocation lists in a text: one at least.
pub(crate) fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    all(CertificateRevocationListDer::pem_slice_iter(text), "revocation list")
}

fn all<T>(found: impl Iterator<Item = Result<T, pem::Error>>, noun: &str) -> Result<Vec<T>, String> {
    match found.collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err(format!("has no {noun} in the format PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("is not in the format PEM: {error}")),
    }
}

/// Reads the certificates in a text as those of authorities.
pub(crate) fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text)? {
        roots.add(certificate).map_err(|error| format!("has a certificate that cannot be used: {error}"))?;
    }
    Ok(roots)
}

/// Reads a certificate with its chain, and its key. Both belong together: a key of another certificate is an error.
pub(crate) fn pair(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, [Vec<u8>; 2]), PairError> {
    let of_certificate = PairError::Certificate;
    let chain_text = read(certificate, MAX_FILE_BYTES).map_err(of_certificate)?;
    let key_text = read(key, MAX_FILE_BYTES).map_err(PairError::Key)?;
    let chain = certificates(&chain_text).map_err(of_certificate)?;
    let der = PrivateKeyDer::from_pem_slice(&key_text)
        .map_err(|error| PairError::Key(format!("has no private key in the format PEM: {error}")))?;
    let unusable = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => PairError::Key("is not the key of the first certificate".to_owned()),
        rustls::Error::InvalidCertificate(error) => {
            PairError::Certificate(format!("has a first certificate that cannot be used: {error:?}"))
        }
        error => PairError::Key(format!("has a private key that cannot be used: {error}")),
    };
    let certified = CertifiedKey::from_der(chain, der, provider).map_err(unusable)?;
    // Stricter than `from_der`, which lets a key pass that cannot be compared.
    certified.keys_match().map_err(unusable)?;
    Ok((certified, [chain_text, key_text]))
}

/// The file of a pair that is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PairError {
    Certificate(String),
    Key(String),
}
