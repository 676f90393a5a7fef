//! Checks the files of certificates and keys that a connection string names.

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The name of a setting and its value: the path of a file, or the text of one.
type Setting = Option<(String, String)>;

/// Returns all that is wrong with the settings.
pub(super) fn problems(roots: Setting, certificate: Setting, key: Setting) -> Vec<String> {
    let are_a_pair = certificate.is_some() == key.is_some();
    let pair = (!are_a_pair).then(|| "has only one of sslcert and sslkey: set both, or none".to_owned());
    let files = [check(roots, are_usable), check(certificate, are_usable), check(key, is_key)];
    files.into_iter().flatten().chain(pair).collect()
}

fn check(setting: Setting, is_valid: fn(&[u8]) -> Result<(), String>) -> Option<String> {
    let (name, value) = setting?;
    if value.trim_start().starts_with("-----BEGIN") {
        return is_valid(value.as_bytes()).err().map(|cause| format!("has a {name} that {cause}"));
    }
    let checked = std::fs::read(&value).map_err(|error| format!("cannot be read: {error}"));
    let cause = checked.and_then(|text| is_valid(&text)).err()?;
    Some(format!("has {name}={value}, a file that {cause}"))
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("has no certificate in the format PEM".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is not in the format PEM: {error}")),
    }
}

fn are_usable(text: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let mut certificates = certificates(text)?.into_iter();
    certificates.try_for_each(|certificate| roots.add(certificate)).map_err(|error| format!("cannot be used: {error}"))
}

fn is_key(text: &[u8]) -> Result<(), String> {
    PrivateKeyDer::from_pem_slice(text).map(drop).map_err(|error| format!("has no private key: {error}"))
}
