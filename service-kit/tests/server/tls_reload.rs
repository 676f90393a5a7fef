//! Certificates, keys and revocation lists that are replaced while the server runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rustls::{ClientConfig, client::Resumption};
use service_kit::server::tls::{ClientAuth, Settings as TlsSettings};
use tonic::Request;

use crate::{
    certificates::{BACKEND, Files, Identity, Name},
    support::{PATIENCE, Server, eventually, flow, unary, within},
    tls::{client, connect, connect_to, load, serve, shake},
};

/// Returns the certificate that a new connection is shown. One that resumes a session would be shown none.
async fn shown(server: &Server, config: &ClientConfig) -> Vec<u8> {
    let mut config = config.clone();
    config.resumption = Resumption::disabled();
    let stream = shake(server, config).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_certificate_is_replaced_under_load_without_a_lost_call() {
    let files = Files::new();
    let tls = load(files.settings());
    let server = serve(&tls).await;
    let config = files.authority.client(None);
    let before = shown(&server, &config).await;

    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for number in 0..4 {
        let (mut channel, config) = (connect(&server, config.clone()).await.unwrap(), config.clone());
        let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), server.address);
        callers.push(tokio::spawn(async move {
            while !stop.load(SeqCst) {
                within(unary(&channel, "hello")).await.unwrap();
                done.fetch_add(1, SeqCst);
                // Half of them connect anew for each call.
                if number % 2 == 0 {
                    channel = connect_to(address, config.clone()).await.unwrap();
                }
            }
        }));
    }
    let mut old = before;
    for serial in 10..15 {
        let calls = done.load(SeqCst);
        files.write_pair(&files.server(serial));
        tls.reload().await;
        let new = shown(&server, &config).await;
        assert_ne!(new, old);
        old = new;
        eventually(|| done.load(SeqCst), |now| *now >= calls + 8).await;
    }
    stop.store(true, SeqCst);
    for caller in callers {
        within(caller).await.unwrap();
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_certificate_in_force() {
    let files = Files::new();
    let tls = load(files.settings());
    let server = serve(&tls).await;
    let config = files.authority.client(None);
    let before = shown(&server, &config).await;
    let (next, other): (Identity, Identity) = (files.server(2), files.server(3));
    let whole = &next.certificate;

    // The key of another certificate.
    files.write("cert.pem", whole);
    tls.reload().await;
    assert_eq!(shown(&server, &config).await, before);
    files.write("key.pem", &other.key);
    tls.reload().await;
    assert_eq!(shown(&server, &config).await, before);
    // Half-written.
    files.write("key.pem", &next.key);
    files.write("cert.pem", &whole[..whole.len() / 2]);
    tls.reload().await;
    assert_eq!(shown(&server, &config).await, before);
    // Deleted.
    std::fs::remove_file(files.path("cert.pem")).unwrap();
    tls.reload().await;
    assert_eq!(shown(&server, &config).await, before);
    // Whole again.
    files.write("cert.pem", whole);
    tls.reload().await;
    assert_ne!(shown(&server, &config).await, before);
}

#[tokio::test]
async fn files_are_read_again_by_themselves() {
    let files = Files::new();
    let reload_interval = Duration::from_millis(20);
    let server = serve(&load(TlsSettings { reload_interval, ..files.settings() })).await;
    let config = files.authority.client(None);
    let before = shown(&server, &config).await;
    files.write_pair(&files.server(2));
    let started = std::time::Instant::now();
    while shown(&server, &config).await == before {
        assert!(started.elapsed() < PATIENCE, "the new certificate is never used");
    }
}

#[tokio::test]
async fn a_client_whose_certificate_is_revoked_is_sent_away_and_stays_away() {
    let files = Files::new();
    let tls = load(files.mutual(ClientAuth::Optional, &[&format!("{BACKEND}=service")]));
    let server = serve(&tls).await;
    let identity = files.authority.issue(&[Name::Uri(BACKEND)], 3);
    // One configuration, and so one store of tickets.
    let config = files.authority.client(Some(&identity));
    let channel = connect(&server, config.clone()).await.unwrap();
    let bystander = connect(&server, files.authority.client(None)).await.unwrap();
    let mut ticks = flow(&bystander, Request::new("tick".to_owned())).await.unwrap();
    assert_eq!(within(unary(&channel, "client")).await.unwrap().into_inner(), format!("{BACKEND} as service"));

    // What does not change sends nobody away.
    tls.reload().await;
    within(unary(&channel, "client")).await.unwrap();
    // Nor does a list that cannot be used.
    files.write("crl.pem", "none");
    tls.reload().await;
    within(unary(&channel, "client")).await.unwrap();

    files.write("crl.pem", &files.authority.revoke(&[3]));
    tls.reload().await;
    let started = std::time::Instant::now();
    // The channel reconnects by itself, is refused, and has no ticket that would help.
    while within(unary(&channel, "client")).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "a revoked certificate is still good");
    }
    client(&server, config).await.unwrap_err();
    within(ticks.message()).await.unwrap().unwrap();
}
