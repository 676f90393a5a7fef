//! The side of a client: connections by TLS to another service, for tonic's channels.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use super::{
    files::{self, MAX_FILE_BYTES, PairError},
    provider,
};
use crate::config::Problems;

/// The files of a client. They are read again for each connection, so they can be replaced while the process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificates of the authorities of servers; `None`: those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// The certificate of this client and its key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The names of the settings of [`ClientFiles`], for problems.
#[derive(Debug, Clone, Copy)]
pub struct ClientFlags {
    /// The authorities.
    pub authorities: &'static str,
    /// The certificate.
    pub certificate: &'static str,
    /// The key.
    pub key: &'static str,
}

impl ClientFiles {
    /// Reads the files and adds a problem for each that cannot be used. Blocks.
    pub fn check(&self, flags: ClientFlags, problems: &mut Problems) {
        if let Some(path) = &self.authorities
            && let Err(cause) = authorities(path)
        {
            problems.add(format!("{}: the file {} {cause}", flags.authorities, path.display()));
        }
        match self.identity() {
            Ok(_) => {}
            Err((path, PairError::Certificate(cause))) => {
                problems.add(format!("{}: the file {} {cause}", flags.certificate, path.display()));
            }
            Err((path, PairError::Key(cause))) => {
                problems.add(format!("{}: the file {} {cause}", flags.key, path.display()));
            }
        }
    }

    fn identity(&self) -> Result<Option<CertifiedKey>, (&Path, PairError)> {
        let Some((certificate, key)) = &self.identity else { return Ok(None) };
        let read = files::pair(certificate, key, &provider());
        read.map(|(certified, _)| Some(certified)).map_err(|error| match error {
            PairError::Certificate(_) => (certificate.as_path(), error),
            PairError::Key(_) => (key.as_path(), error),
        })
    }

    /// Blocks.
    fn config(&self) -> io::Result<ClientConfig> {
        let unusable = |path: &Path, cause: &str| io::Error::other(format!("the file {} {cause}", path.display()));
        let roots = match &self.authorities {
            Some(path) => authorities(path).map_err(|cause| unusable(path, &cause))?,
            None => of_system(),
        };
        let identity = self
            .identity()
            .map_err(|(path, PairError::Certificate(cause) | PairError::Key(cause))| unusable(path, &cause))?;
        Ok(finished(builder()?.with_root_certificates(roots), identity))
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    files::authorities(&files::read(path, MAX_FILE_BYTES)?)
}

fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // A system has a few that no library takes.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn builder() -> io::Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(io::Error::other)
}

fn finished(
    builder: rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<CertifiedKey>,
) -> ClientConfig {
    let mut config = match identity {
        Some(certified) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Whom a [`Connector`] trusts.
#[derive(Debug, Clone)]
enum Trust {
    Files(Arc<ClientFiles>),
    /// Any certificate.
    Anybody,
}

/// Connects by TLS, for [`tonic::transport::Endpoint::connect_with_connector_lazy`]. The URI of the endpoint must say `http`
/// all the same: it is this that adds TLS.
#[derive(Debug, Clone)]
pub struct Connector {
    host: Arc<str>,
    port: u16,
    /// `None`: the name is resolved for each connection.
    socket: Option<SocketAddr>,
    trust: Trust,
}

impl Connector {
    /// Connects to `socket`, or where `host` is, and accepts a server whose certificate is for `host`, a DNS name or an IP
    /// address.
    pub fn new(host: &str, port: u16, socket: Option<SocketAddr>, files: ClientFiles) -> Self {
        Self { host: host.into(), port, socket, trust: Trust::Files(Arc::new(files)) }
    }

    /// Connects to an address of this machine, and accepts any certificate. For checks of its own health, where nothing
    /// is sent that anybody may not know.
    pub(crate) fn unverified(socket: SocketAddr) -> Self {
        let host = socket.ip().to_string().into();
        Self { host, port: socket.port(), socket: Some(socket), trust: Trust::Anybody }
    }

    async fn connect(self) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.host.to_string()).map_err(io::Error::other)?;
        let config = match self.trust {
            Trust::Files(files) => spawn_blocking(move || files.config()).await.map_err(io::Error::other)??,
            Trust::Anybody => {
                let verifier = Arc::new(Anybody(provider().signature_verification_algorithms));
                finished(builder()?.dangerous().with_custom_certificate_verifier(verifier), None)
            }
        };
        let tcp = match self.socket {
            Some(socket) => TcpStream::connect(socket).await?,
            None => TcpStream::connect((&*self.host, self.port)).await?,
        };
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

/// Accepts any certificate of whoever has its key.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
