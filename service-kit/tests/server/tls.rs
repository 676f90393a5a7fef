//! TLS on real sockets: certificates of clients, certificates that are replaced, and peers that shake no hands.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use service_kit::{
    healthcheck::{Over, Problem, ask_over},
    server::{
        Settings,
        tls::{ClientAuth, MinVersion, Settings as TlsSettings, Tls},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{
    certificates::{Authority, BACKEND, Files, Name},
    support::{PATIENCE, Server, settings, start, unary, within},
};

pub(crate) fn load(settings: TlsSettings) -> Tls {
    Tls::load(settings).unwrap()
}

pub(crate) async fn serve(tls: &Tls) -> Server {
    start(Settings { tls: Some(tls.clone()), ..settings() }).await
}

pub(crate) async fn shake(server: &Server, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, server.tcp().await)).await
}

pub(crate) async fn connect(server: &Server, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
    within(connect_to(server.address, config)).await
}

pub(crate) async fn connect_to(address: SocketAddr, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
    let connector = TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_: Uri| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(dial).await
}

/// Returns who the server takes a client for, or the error of its first call. In TLS 1.3 a client learns only then that its
/// certificate was refused.
pub(crate) async fn client(server: &Server, config: ClientConfig) -> Result<String, String> {
    let channel = connect(server, config).await.map_err(|error| format!("{error:?}"))?;
    let answer = within(unary(&channel, "client")).await;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{status:?}"))
}

#[tokio::test]
async fn a_call_over_tls_is_answered_and_plain_text_is_not() {
    let files = Files::new();
    let server = serve(&load(files.settings())).await;
    let channel = connect(&server, files.authority.client(None)).await.unwrap();
    assert_eq!(within(unary(&channel, "hello")).await.unwrap().into_inner(), "you said hello");
    let plain = Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect_lazy();
    within(unary(&plain, "hello")).await.unwrap_err();
}

#[tokio::test]
async fn a_good_client_certificate_gives_its_role() {
    let files = Files::new();
    let roles = [&*format!("{BACKEND}=service"), "directory.example=directory"];
    let server = serve(&load(files.mutual(ClientAuth::Required, &roles))).await;
    for (names, expected) in [
        (&[Name::Uri(BACKEND)][..], format!("{BACKEND} as service")),
        (&[Name::Dns("directory.example")], "directory.example as directory".to_owned()),
        (&[Name::Dns("other.example"), Name::Uri(BACKEND)], format!("{BACKEND} as service")),
    ] {
        let identity = files.authority.issue(names, 2);
        assert_eq!(client(&server, files.authority.client(Some(&identity))).await, Ok(expected));
    }
}

#[tokio::test]
async fn a_certificate_without_one_known_name_gives_no_rights() {
    let files = Files::new();
    let roles = [&*format!("{BACKEND}=service"), "directory.example=directory", "backend=operator"];
    let server = serve(&load(files.mutual(ClientAuth::Required, &roles))).await;
    for names in [
        // Not mapped, in another spelling, and with more behind it.
        &[Name::Uri("spiffe://example/ns/chat/sa/other")][..],
        &[Name::Uri("spiffe://example/ns/chat/sa/Backend")],
        &[Name::Uri("spiffe://example/ns/chat/sa/backend/x")],
        &[Name::Dns("*.example")],
        // The right text in the wrong place.
        &[Name::Common("backend")],
        &[Name::Common("directory.example")],
        // Two roles.
        &[Name::Uri(BACKEND), Name::Dns("directory.example")],
    ] {
        let identity = files.authority.issue(names, 2);
        assert_eq!(client(&server, files.authority.client(Some(&identity))).await, Ok(String::new()));
    }
}

#[tokio::test]
async fn a_bad_client_certificate_ends_the_handshake() {
    let files = Files::new();
    files.write("crl.pem", &files.authority.revoke(&[3]));
    let server = serve(&load(files.mutual(ClientAuth::Required, &[&format!("{BACKEND}=service")]))).await;
    let foreign = Authority::new("another authority").issue(&[Name::Uri(BACKEND)], 2);
    // Of the same name as the real one.
    let forged = Authority::new("the authority").issue(&[Name::Uri(BACKEND)], 2);
    let expired = files.authority.issue_expired(&[Name::Uri(BACKEND)]);
    let revoked = files.authority.issue(&[Name::Uri(BACKEND)], 3);
    for (case, identity) in [
        ("none", None),
        ("foreign", Some(&foreign)),
        ("forged", Some(&forged)),
        ("expired", Some(&expired)),
        ("revoked", Some(&revoked)),
    ] {
        let error = client(&server, files.authority.client(identity)).await.expect_err(case);
        assert!(error.contains("alert"), "{case}: {error}");
    }
    let good = files.authority.issue(&[Name::Uri(BACKEND)], 4);
    client(&server, files.authority.client(Some(&good))).await.unwrap();
}

#[tokio::test]
async fn an_optional_client_certificate_may_be_left_out_but_not_be_bad() {
    let files = Files::new();
    let server = serve(&load(files.mutual(ClientAuth::Optional, &[&format!("{BACKEND}=service")]))).await;
    assert_eq!(client(&server, files.authority.client(None)).await, Ok(String::new()));
    let foreign = Authority::new("another authority").issue(&[Name::Uri(BACKEND)], 2);
    client(&server, files.authority.client(Some(&foreign))).await.unwrap_err();
    let good = files.authority.issue(&[Name::Uri(BACKEND)], 2);
    assert_eq!(client(&server, files.authority.client(Some(&good))).await, Ok(format!("{BACKEND} as service")));
}

#[tokio::test]
async fn alpn_is_not_needed_and_both_versions_of_http_are_offered() {
    let files = Files::new();
    let server = serve(&load(files.settings())).await;
    for (offered, chosen) in
        [(&[][..], None), (&["h2"], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&["http/1.1", "h2"], Some("h2"))]
    {
        let mut config = files.authority.client(None);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = shake(&server, config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes), "{offered:?}");
        if chosen != Some("http/1.1") {
            assert_eq!(client(&server, config).await, Ok(String::new()), "{offered:?}");
        }
    }
}

/// A greeting of a client that offers no version beyond this one.
fn hello(version: [u8; 2]) -> Vec<u8> {
    // One cipher suite of those days, no compression.
    let body = [&version[..], &[7; 32], &[0], &[0, 2, 0xc0, 0x13], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let files = Files::new();
    let server = serve(&load(files.settings())).await;
    for version in [[3, 1], [3, 2]] {
        let mut tcp = server.tcp().await;
        tcp.write_all(&hello(version)).await.unwrap();
        let mut answer = Vec::new();
        within(tcp.read_to_end(&mut answer)).await.unwrap();
        // A fatal alert and nothing else: protocol_version or handshake_failure.
        assert_eq!((answer[0], answer[5], answer.len()), (0x15, 2, 7), "{answer:?}");
    }
}

#[tokio::test]
async fn the_oldest_version_can_be_set() {
    let files = Files::new();
    let only_1_2 = || {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(files.authority.pem.as_bytes()).unwrap()).unwrap();
        builder.unwrap().with_root_certificates(roots).with_no_client_auth()
    };
    let server = serve(&load(files.settings())).await;
    assert_eq!(client(&server, only_1_2()).await, Ok(String::new()));
    let strict = serve(&load(TlsSettings { min_version: MinVersion::Tls13, ..files.settings() })).await;
    client(&strict, only_1_2()).await.unwrap_err();
    client(&strict, files.authority.client(None)).await.unwrap();
}

#[tokio::test]
async fn silent_clients_are_dropped_and_others_are_served_meanwhile() {
    service_kit::files::raise_limit();
    let files = Files::new();
    let server = serve(&load(files.settings())).await;
    let config = Arc::new(files.authority.client(None));
    let mut silent = Vec::new();
    for number in 0..1_000 {
        let mut tcp = server.tcp().await;
        // One half says nothing at all, the other half begins.
        if number % 2 == 0 {
            let name = ServerName::try_from("localhost").unwrap();
            let mut greeting = Vec::new();
            rustls::ClientConnection::new(Arc::clone(&config), name).unwrap().write_tls(&mut greeting).unwrap();
            tcp.write_all(&greeting).await.unwrap();
        }
        silent.push(tcp);
    }
    client(&server, files.authority.client(None)).await.unwrap();
    for mut tcp in silent {
        let _ = within(tcp.read_to_end(&mut Vec::new())).await;
    }
    client(&server, files.authority.client(None)).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_reads_nothing_over_tls_is_dropped() {
    let files = Files::new();
    let tls = Some(load(files.settings()));
    let brief = Duration::from_millis(300);
    let server = start(Settings { tls, stall_timeout: brief, response_timeout: PATIENCE * 10, ..settings() }).await;
    let mut stream = shake(&server, files.authority.client(None)).await.unwrap();
    // Window for everything, and the socket is never read: the kernel's buffers fill up.
    let window = crate::raw::encode(crate::raw::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let more = crate::raw::encode(crate::raw::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let head = crate::raw::request_headers(crate::subject::FLOW, &[]);
    let head = crate::raw::encode(crate::raw::HEADERS, crate::raw::END_HEADERS, 1, &head);
    let call = crate::raw::encode(crate::raw::DATA, crate::raw::END_STREAM, 1, &crate::raw::message("flood"));
    stream.write_all(&[crate::raw::PREFACE, &window, &more, &head, &call].concat()).await.unwrap();
    stream.flush().await.unwrap();
    let hanging = || server.subject.hanging.load(SeqCst);
    crate::support::eventually(hanging, |open| *open == 1).await;
    crate::support::eventually(hanging, |open| *open == 0).await;
}

#[tokio::test]
async fn a_client_that_stops_within_the_handshake_is_dropped() {
    let files = Files::new();
    let tls = Some(load(files.settings()));
    let server = start(Settings { tls, handshake_timeout: Duration::from_millis(500), ..settings() }).await;
    crate::raw::closed_after_sending(server.tcp().await, b"").await;
    crate::raw::closed_after_sending(server.tcp().await, &[0x16, 3, 1, 0x02]).await;
    // Hands shaken, and then no preface.
    let mut stream = shake(&server, files.authority.client(None)).await.unwrap();
    let _ = within(stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn a_health_check_needs_no_name_of_the_certificate() {
    let files = Files::new();
    // For another name than the one it is asked by.
    files.write_pair(&files.authority.issue(&[Name::Dns("chat.example")], 2));
    let server = serve(&load(files.settings())).await;
    server.health.set_started();
    assert!(matches!(ask_over(Over::Tls, server.address).await, Err(Problem::NotServing { .. })));
    server.health.set_ready(true);
    ask_over(Over::Tls, server.address).await.unwrap();
    ask_over(Over::Plain, server.address).await.unwrap_err();
}
