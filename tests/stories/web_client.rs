//! The web client of `parlance serve`, as a browser and as a stranger request it: the real binary, by raw HTTP.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, Serve, TestDatabase, WebCall};

/// Makes one request on a new connection; returns head and body of the response.
fn ask(address: SocketAddr, method: &str, path: &str, host: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(connection, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn a_browser_loads_the_web_client_and_the_service_addresses() {
    let database = TestDatabase::migrated().await;
    let mut serve = Serve::start(&database, &["--web-listen", "127.0.0.1:0"]);
    let page = serve.address("web client");
    let (users, messages) = (serve.address("user-service"), serve.address("message-service"));

    for (name, as_ip) in [("localhost", false), ("127.0.0.1", true)] {
        let host = format!("{name}:{}", page.port());
        let (head, body) = ask(page, "GET", "/config.json", &host);
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/json"), "{head}");
        let config: serde_json::Value = serde_json::from_str(&body).unwrap();
        let [user, message] = [users, messages].map(|service| format!("http://{name}:{}", service.port()));
        assert_eq!(
            (&config["user_service"], &config["message_service"]),
            (&user.clone().into(), &message.clone().into())
        );

        let (head, body) = ask(page, "GET", "/", &host);
        assert!(head.starts_with("http/1.1 200") && body.contains("/app.js"), "{head}\n{body}");
        let policy = format!("connect-src 'self' {user} {message};");
        for part in [
            &*policy,
            "default-src 'none'",
            "nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-cache",
            "etag: \"",
        ] {
            assert!(head.contains(part), "{part} is not in {head}");
        }

        // The services allow only this web client.
        let origin = format!("http://{host}");
        let health = "/grpc.health.v1.Health/Check";
        for service in [users, messages] {
            let asked = [("origin", &*origin), ("access-control-request-method", "POST")];
            let answer = WebCall::request(service, "OPTIONS", health, &asked, &[]).await.answer().await;
            assert_eq!(answer.headers.get("access-control-allow-origin"), Some(&origin), "as ip: {as_ip}");
            let asked = [("origin", "http://localhost:1"), ("access-control-request-method", "POST")];
            let answer = WebCall::request(service, "OPTIONS", health, &asked, &[]).await.answer().await;
            assert!(!answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
        }
    }

    let own = page.to_string();
    let (head, body) = ask(page, "HEAD", "/app.js", &own);
    let length: usize =
        head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap().parse().unwrap();
    assert!(head.contains("text/javascript") && length > 10_000 && body.is_empty(), "{head}");
    for (method, path, host, status) in [
        ("GET", "/none", &*own, "404"),
        ("GET", "/../Cargo.toml", &own, "404"),
        ("POST", "/", &own, "405"),
        ("GET", "/", "evil.example", "403"),
        ("GET", "/config.json", "evil.example:80", "403"),
    ] {
        let (head, _) = ask(page, method, path, host);
        assert!(
            head.starts_with(&format!("http/1.1 {status}")) && head.contains("content-security-policy"),
            "{path}: {head}"
        );
    }

    // A silent connection does not delay the end.
    let silent = TcpStream::connect(page).unwrap();
    assert_eq!(serve.stop().await, Some(0));
    drop(silent);
}

#[tokio::test]
async fn a_taken_port_disables_the_web_client_unless_the_port_was_requested() {
    // Another process that holds the port permanently will do as well; one about to end would free it for the web
    // client.
    let began = Instant::now();
    let _squatter = loop {
        match TcpListener::bind("127.0.0.1:8080") {
            Ok(squatter) => break Some(squatter),
            Err(_) if began.elapsed() > PATIENCE => break None,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let database = TestDatabase::migrated().await;
    let mut serve = Serve::start(&database, &[]);
    serve.wait_for_line("The web client is disabled: cannot listen on 127.0.0.1:8080");
    serve.wait_for_line("Parlance is ready.");
    serve.wait_for_line("Press Ctrl-C to stop.");
    assert!(!serve.lines.iter().any(|line| line.contains("  web client  ")), "{:#?}", serve.lines);
    assert_eq!(serve.stop().await, Some(0));

    let mut serve = Serve::start(&database, &["--web-listen", "127.0.0.1:8080"]);
    serve.wait_for_line("the web client cannot be served at 127.0.0.1:8080 (--web-listen)");
    assert_eq!(serve.ended().await, Some(1));

    let mut serve = Serve::start(&database, &["--no-web"]);
    serve.wait_for_line("Press Ctrl-C to stop.");
    assert!(!serve.lines.iter().any(|line| line.contains("web client")), "{:#?}", serve.lines);
    assert_eq!(serve.stop().await, Some(0));
}
