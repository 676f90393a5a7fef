//! The identity of a client by its certificate: the names in it that the operator gave a role.

use std::{str::FromStr, sync::Arc};

use http::Extensions;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::{
    auth::{KeyId, Principal, Role, Via},
    tls::certificate::{Validity, fingerprint},
};

/// The client of a connection, as far as its certificate says who it is. It is in the extensions of every request.
#[derive(Debug, Clone, Default)]
pub struct Peer(pub Option<Arc<Principal>>);

impl Peer {
    /// Returns the client behind a request, if a certificate names one that has a role.
    pub fn of(extensions: &Extensions) -> Option<&Arc<Principal>> {
        extensions.get::<Self>().and_then(|peer| peer.0.as_ref())
    }
}

/// A name of a client certificate, and the role of the clients that show one with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRole {
    name: Arc<str>,
    role: Role,
}

/// The error for a text that is no [`NamedRole`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotANamedRole {
    /// It has no role.
    #[error("it must be NAME=ROLE, such as spiffe://example/ns/chat/sa/backend=service")]
    Form,
    /// The name cannot be in a certificate, or would be a pattern.
    #[error("the name must be a URI or a DNS name of the certificate, in ASCII and without wildcards")]
    Name,
    /// Not a role of a certificate.
    #[error("the role must be directory, service or operator")]
    Role,
}

impl FromStr for NamedRole {
    type Err = NotANamedRole;

    fn from_str(text: &str) -> Result<Self, NotANamedRole> {
        // The last one: a URI may have others.
        let (name, role) = text.rsplit_once('=').ok_or(NotANamedRole::Form)?;
        if name.is_empty() || name.contains('*') || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotANamedRole::Name);
        }
        match Role::of_name(role) {
            // The subject of a user is its id, which no certificate has.
            None | Some(Role::User) => Err(NotANamedRole::Role),
            Some(role) => Ok(Self { name: name.into(), role }),
        }
    }
}

/// The roles of client certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientRoles(Vec<NamedRole>);

impl ClientRoles {
    /// Combines roles.
    ///
    /// # Errors
    /// A name that has two roles: clients with it would have none.
    pub fn new(roles: Vec<NamedRole>) -> Result<Self, Arc<str>> {
        let is_ambiguous =
            |one: &&NamedRole| roles.iter().any(|other| other.name == one.name && other.role != one.role);
        match roles.iter().find(is_ambiguous) {
            Some(ambiguous) => Err(Arc::clone(&ambiguous.name)),
            None => Ok(Self(roles)),
        }
    }

    /// Returns who shows this certificate, which was verified. URIs and DNS names in it are compared byte for byte; its
    /// subject (CN) counts for nothing. Names of two roles give none.
    pub(super) fn identify(&self, certificate: &CertificateDer<'_>) -> Peer {
        let Ok(names) = EndEntityCert::try_from(certificate) else { return Peer::default() };
        let names: Vec<&str> = names.valid_uri_names().chain(names.valid_dns_names()).collect();
        let mut found = self.0.iter().filter(|known| names.contains(&&*known.name));
        let Some(first) = found.next() else { return Peer::default() };
        let key = fingerprint(certificate);
        if let Some(second) = found.find(|other| other.role != first.role) {
            tracing::warn!(
                certificate = key,
                first = %first.name,
                second = %second.name,
                "a client certificate has names of two roles, so it gives none: issue it with one of them"
            );
            return Peer::default();
        }
        let Some(Validity { not_before, not_after }) = Validity::of(certificate) else { return Peer::default() };
        Peer(Some(Arc::new(Principal {
            subject: Arc::clone(&first.name),
            role: first.role,
            issued_at: not_before,
            expires_at: not_after,
            key: KeyId::new(key),
            jti: None,
            via: Via::Certificate,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_belongs_to_an_exact_name() {
        let parsed = |text: &str| text.parse::<NamedRole>().map(|named| (named.name.to_string(), named.role));
        let uri = "spiffe://example/ns/chat/sa/backend";
        assert_eq!(parsed(&format!("{uri}=service")), Ok((uri.to_owned(), Role::Service)));
        assert_eq!(parsed("urn:a=b=directory"), Ok(("urn:a=b".to_owned(), Role::Directory)));
        assert_eq!(parsed("backend.example=operator"), Ok(("backend.example".to_owned(), Role::Operator)));
        for (text, error) in [
            ("backend", NotANamedRole::Form),
            ("=service", NotANamedRole::Name),
            ("*.example=service", NotANamedRole::Name),
            ("bäckend=service", NotANamedRole::Name),
            ("back end=service", NotANamedRole::Name),
            ("backend=user", NotANamedRole::Role),
            ("backend=Service", NotANamedRole::Role),
            ("backend=", NotANamedRole::Role),
        ] {
            assert_eq!(parsed(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_name_with_two_roles_is_refused() {
        let roles = |texts: &[&str]| ClientRoles::new(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(roles(&["a=service", "b=operator", "a=directory"]).unwrap_err().as_ref(), "a");
        assert!(roles(&["a=service", "b=operator", "a=service"]).is_ok());
    }
}
