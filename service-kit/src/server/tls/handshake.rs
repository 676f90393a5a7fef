//! The handshake of one connection.

use std::{io, pin::pin, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::Tls;
use crate::{server::peer::Peer, tls::certificate::Validity};

/// The time after which a handshake gives its place to another one: its peer is slow, or silent on purpose.
const PLACE: Duration = Duration::from_secs(1);

/// A connection after its handshake.
pub(in crate::server) struct Secured<S> {
    pub(in crate::server) stream: TlsStream<S>,
    /// The client, by its certificate.
    pub(in crate::server) peer: Peer,
    /// Cancelled when the certificate of the client may not be good any more.
    pub(in crate::server) withdrawn: CancellationToken,
}

impl Tls {
    /// Shakes hands. The caller bounds the time.
    pub(in crate::server) async fn accept<S>(&self, stream: S) -> io::Result<Secured<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Without a place: whoever says nothing keeps nobody else waiting.
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        // Never closed, so always a place.
        let place = self.0.handshakes.acquire().await.ok();
        let current = self.current();
        let mut shaking = pin!(hello.into_stream(current.config.clone()));
        let stream = if let Ok(shaken) = timeout(PLACE, shaking.as_mut()).await {
            shaken?
        } else {
            drop(place);
            shaking.await?
        };

        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let (Some(certificate), Some(clients)) = (certificate, &self.0.settings.clients) else {
            return Ok(Secured { stream, peer: Peer::default(), withdrawn: CancellationToken::new() });
        };
        // A session that is resumed brings the certificate of its first handshake, which was verified then.
        if Validity::of(certificate).is_none_or(|validity| Validity::is_past(validity.not_after)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client certificate has expired"));
        }
        let peer = clients.roles.identify(certificate);
        Ok(Secured { peer, withdrawn: current.withdrawn.clone(), stream })
    }
}
