//! TLS between the services: message-service shows a certificate to a user-service that requires one.

use std::net::{SocketAddr, TcpListener};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use service_kit::{
    healthcheck::{Over, ask_over},
    tls::client::{ClientFiles, Connector},
};
use tempfile::TempDir;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::support::{
    PATIENCE, RunningMessageService, RunningUserService, TestDatabase, create_user, eventually, group,
    message_service_config, user_service_config,
};

/// Certificates of one authority, for `localhost` and for a client.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        let key = KeyPair::generate().unwrap();
        std::fs::write(files.path("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (file, name) in [("server", "localhost"), ("client", "message-service.example")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap().pem();
            std::fs::write(files.path(&format!("{file}.pem")), certificate).unwrap();
            std::fs::write(files.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
        }
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Connects to user-service as message-service does.
    fn channel(&self, address: SocketAddr) -> Channel {
        let identity = Some((self.path("client.pem").into(), self.path("client.key").into()));
        let files = ClientFiles { authorities: Some(self.path("ca.pem").into()), identity };
        let connector = Connector::new("localhost", address.port(), Some(address), files);
        Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
    }
}

#[tokio::test]
async fn message_service_reaches_user_service_by_mutual_tls() {
    let (certificates, database) = (Certificates::new(), TestDatabase::migrated().await);
    let [ca, server, server_key] = ["ca.pem", "server.pem", "server.key"].map(|name| certificates.path(name));
    let [client, client_key] = ["client.pem", "client.key"].map(|name| certificates.path(name));
    let health = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let health_listen = health.to_string();
    let flags = ["--tls-cert-file", &server, "--tls-key-file", &server_key, "--tls-client-ca-file", &ca];
    let flags = [&flags[..], &["--health-listen", &health_listen]].concat();
    let users = RunningUserService::launch(user_service_config(&database.url(), &flags)).await;
    eventually(PATIENCE, || ask_over(Over::Plain, health)).await;
    let created = create_user(
        parlance::user::v1::user_service_client::UserServiceClient::new(certificates.channel(users.address())),
        "ann",
    )
    .await;
    assert_eq!(created.user_id, "ann");
    // The port for health checks has nothing else.
    let plain = Endpoint::from_shared(format!("http://{health}")).unwrap().connect_lazy();
    let mut client_of_health_port = parlance::user::v1::user_service_client::UserServiceClient::new(plain);
    let refusal = client_of_health_port.get_user(parlance::user::v1::GetUserRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented, "{refusal:?}");

    let port = users.address().port();
    let certified = ["--user-service-client-cert-file", &*client, "--user-service-client-key-file", &client_key];
    // `localhost` is resolved by the connector, `LOCALHOST` into one channel for each address.
    for (host, flags, is_reached) in [
        ("localhost", &certified[..], true),
        ("LOCALHOST", &certified, true),
        // Without a client certificate, and by a name that is not in the certificate of the server.
        ("localhost", &[], false),
        ("127.0.0.1", &certified, false),
    ] {
        let url = format!("https://{host}:{port}");
        let flags = [&["--user-service-url", &url, "--user-service-ca-file", &ca], flags].concat();
        let config = message_service_config(&database.url(), "unused:1", &flags);
        let messages = RunningMessageService::start(config).await;
        let id = format!("{}{}", host.replace('.', "-"), flags.len());
        let outcome = messages.conversations().create_conversation(group(&id, "ann", &[])).await;
        match outcome {
            Ok(_) => assert!(is_reached, "{host} {}", flags.len()),
            Err(status) => {
                assert!(!is_reached, "{host}: {status:?}");
                assert_eq!(status.code(), Code::Unavailable, "{host}: {status:?}");
            }
        }
        messages.stop().await.unwrap();
    }
    users.stop().await.unwrap();
}
