//! Authorities, certificates and their files, made for one test.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, Error, IsCa, Issuer, KeyIdMethod,
    KeyPair, RevokedCertParams, SanType, SerialNumber,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use service_kit::server::tls::{ClientAuth, ClientRoles, Clients, MinVersion, Settings};
use tempfile::TempDir;

/// The URI of the backend in client certificates.
pub(crate) const BACKEND: &str = "spiffe://example/ns/chat/sa/backend";

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A name in a certificate.
#[derive(Clone, Copy)]
pub(crate) enum Name {
    Uri(&'static str),
    Dns(&'static str),
    Common(&'static str),
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Issues a certificate of these names.
    pub(crate) fn issue(&self, names: &[Name], serial: u64) -> Identity {
        self.issue_until(names, serial, Duration::from_hours(24))
    }

    /// Issues one that has expired.
    pub(crate) fn issue_expired(&self, names: &[Name]) -> Identity {
        self.issue_until(names, 7, Duration::ZERO)
    }

    fn issue_until(&self, names: &[Name], serial: u64, left: Duration) -> Identity {
        let mut params = CertificateParams::default();
        let hour = Duration::from_hours(1);
        params.not_before = (SystemTime::now() - hour * 2).into();
        params.not_after = (SystemTime::now() - hour + left).into();
        params.serial_number = Some(SerialNumber::from(serial));
        for name in names {
            match *name {
                Name::Uri(uri) => params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap())),
                Name::Dns(dns) => params.subject_alt_names.push(SanType::DnsName(dns.try_into().unwrap())),
                Name::Common(name) => params.distinguished_name.push(DnType::CommonName, name),
            }
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// Returns the list of the certificates with these serial numbers as revoked.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let (now, hour) = (SystemTime::now(), Duration::from_hours(1));
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + hour).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).unwrap_or_else(|error: Error| panic!("{error}"))
    }

    /// Returns a client that trusts this authority, and shows a certificate if it has one.
    pub(crate) fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// The files of a server, in a folder that goes with it.
pub(crate) struct Files {
    folder: TempDir,
    pub(crate) authority: Authority,
}

impl Files {
    /// Writes a certificate for `localhost`, and its authority's for clients.
    pub(crate) fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new("the authority") };
        files.write_pair(&files.server(1));
        files.write("ca.pem", &files.authority.pem);
        files.write("crl.pem", &files.authority.revoke(&[]));
        files
    }

    /// Issues a certificate of a server.
    pub(crate) fn server(&self, serial: u64) -> Identity {
        self.authority.issue(&[Name::Dns("localhost")], serial)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file as a whole.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("next"), text).unwrap();
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    pub(crate) fn write_pair(&self, identity: &Identity) {
        self.write("key.pem", &identity.key);
        self.write("cert.pem", &identity.certificate);
    }

    /// Returns settings without client certificates, whose files are read again only on request.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            certificate: self.path("cert.pem"),
            key: self.path("key.pem"),
            min_version: MinVersion::default(),
            clients: None,
            reload_interval: Duration::from_hours(1),
        }
    }

    /// Returns settings with client certificates of these roles.
    pub(crate) fn mutual(&self, auth: ClientAuth, roles: &[&str]) -> Settings {
        let roles = ClientRoles::new(roles.iter().map(|role| role.parse().unwrap()).collect()).unwrap();
        let (authorities, revocation_lists) = (self.path("ca.pem"), Some(self.path("crl.pem")));
        let clients = Some(Clients { authorities, revocation_lists, auth, roles });
        Settings { clients, ..self.settings() }
    }
}
