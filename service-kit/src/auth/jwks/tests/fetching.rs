//! What is taken of an answer, and what is not.

use super::*;

#[tokio::test]
async fn each_kind_of_published_key_verifies() {
    let signers = [Signer::ps256(), Signer::es256(), Signer::es384(), Signer::ed25519()];
    let mut keys: Vec<Value> = signers.iter().map(|signer| signer.jwk(&format!("{:?}", signer.algorithm))).collect();
    let mut rsa = Signer::rsa().jwk("RS256");
    rsa.as_object_mut().unwrap().remove("alg");
    rsa.as_object_mut().unwrap().remove("use");
    keys.push(rsa);
    let verifier = Provider::new(&keys).await.verifier().await;
    assert!(verifier.is_ready());
    for signer in signers.iter().chain([Signer::rsa()]) {
        assert_eq!(verify(&verifier, signer, &format!("{:?}", signer.algorithm)).await, Ok(()));
    }
    // The same RSA key under both names, each with its own algorithm.
    assert!(is_invalid(&verify(&verifier, Signer::rsa(), "PS256").await));
    assert!(is_invalid(&verify(&verifier, &Signer::ps256(), "RS256").await));
}

#[tokio::test]
async fn the_table_gives_a_subject_its_role_and_no_other() {
    let signer = Signer::es256();
    let verifier = Provider::new(&[signer.jwk("k")]).await.verifier().await;
    let now = SystemTime::now();
    let iat = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let take = async |sub: &str, role: Option<&str>| {
        let mut claims = json!({"iss": "idp", "aud": "parlance", "sub": sub, "iat": iat, "exp": iat + 3600});
        if let Some(role) = role {
            claims["parlance_role"] = role.into();
        }
        verifier.verify(&signer.token(&claims), now).await.map(|principal| principal.role).ok()
    };
    let backend = "system:serviceaccount:chat:backend";
    assert_eq!(take(backend, None).await, Some(Role::Service));
    assert_eq!(take(backend, Some("service")).await, Some(Role::Service));
    assert_eq!(take(backend, Some("operator")).await, None);
    assert_eq!(take(backend, Some("user")).await, None);
    assert_eq!(take("system:serviceaccount:chat:other", None).await, None);
    assert_eq!(take("ada", None).await, Some(Role::User));
    assert_eq!(take("ada", Some("service")).await, None);
}

#[tokio::test]
async fn two_keys_of_one_name_are_both_tried() {
    let [one, other, third] = [Signer::es256(), Signer::es256(), Signer::es256()];
    let verifier = Provider::new(&[one.jwk("k"), other.jwk("k"), one.jwk("k")]).await.verifier().await;
    assert_eq!(verify(&verifier, &one, "k").await, Ok(()));
    assert_eq!(verify(&verifier, &other, "k").await, Ok(()));
    assert!(is_invalid(&verify(&verifier, &third, "k").await));
}

#[tokio::test]
async fn unusable_keys_are_left_out_and_the_rest_works() {
    let good = Signer::es256();
    let [encryption, none, private] = [Signer::es256(), Signer::es256(), Signer::es256()];
    let change = |signer: &Signer, kid: &str, name: &str, value: Value| {
        let mut jwk = signer.jwk(kid);
        jwk[name] = value;
        jwk
    };
    let short = change(Signer::rsa(), "short", "n", json!(b64([0xf1; 128])));
    let keys = [
        json!({"kty": "oct", "k": b64(SECRET), "alg": "HS256", "kid": "oct"}),
        short,
        change(&encryption, "enc", "use", json!("enc")),
        change(&none, "none", "alg", json!("none")),
        change(&private, "private", "d", json!("AQ")),
        json!({"kty": "EC", "kid": "broken"}),
        json!("broken"),
        json!(null),
        good.jwk("good"),
    ];
    let verifier = Provider::new(&keys).await.verifier().await;
    assert_eq!(verify(&verifier, &good, "good").await, Ok(()));
    for (signer, kid) in [
        (&Signer::secret(SECRET), "oct"),
        (&encryption, "enc"),
        (&none, "none"),
        (&private, "private"),
        (Signer::rsa(), "short"),
    ] {
        assert!(is_invalid(&verify(&verifier, signer, kid).await), "{kid}");
    }
}

#[tokio::test]
async fn a_bad_answer_keeps_the_old_keys() {
    let good = Signer::es256();
    let provider = Provider::new(&[good.jwk("k")]).await;
    let lifecycle = Lifecycle::new();
    // Unlike `Verifier::open` this takes the times of the test, so a slow answer is not waited for.
    let verifier = Verifier::start_with(&provider.settings(), timing(), &lifecycle).unwrap();
    eventually(async || verify(&verifier, &good, "k").await.is_ok()).await;
    let elsewhere = Provider::new(&[Signer::es256().jwk("k")]).await;
    let set = |keys: Vec<Value>| json!({"keys": keys}).to_string();
    let many = set((0..65).map(|number| good.jwk(&number.to_string())).collect());
    let long = json!({"keys": [good.jwk("k")], "pad": "x".repeat(65 * 1024)}).to_string();
    let twice = format!("{{\"keys\":[],\"keys\":[{}]}}", good.jwk("k"));
    let redirect = format!("location: {}\r\n", elsewhere.url);
    let body = set(vec![Signer::es256().jwk("k")]);
    let slow = response("200 OK", "", body.as_bytes());
    let http = |status: &str, headers: &str, body: &str| Answer::Bytes(response(status, headers, body.as_bytes()));
    for (name, answer) in [
        ("empty", http("200 OK", "", r#"{"keys":[]}"#)),
        ("no list", http("200 OK", "", "{}")),
        ("only a secret", http("200 OK", "", r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#)),
        ("HTML", http("200 OK", "content-type: text/html\r\n", "<html></html>")),
        ("65 keys", http("200 OK", "", &many)),
        ("65 KiB", http("200 OK", "", &long)),
        ("a member twice", http("200 OK", "", &twice)),
        ("redirect", http("302 Found", &redirect, "")),
        ("error", http("500 Internal Server Error", "", &body)),
        ("not HTTP", Answer::Bytes(b"hello\r\n\r\n".to_vec())),
        ("hang up", Answer::Bytes(Vec::new())),
        ("half", Answer::Bytes(slow[..slow.len() / 2].to_vec())),
        ("slow by byte", Answer::Drip(slow)),
        ("silence", Answer::Silence),
    ] {
        provider.answers(answer);
        let failed = timeout(Duration::from_secs(20), verifier.fetch()).await.expect(name);
        assert!(failed.is_err(), "{name}");
        assert_eq!(verify(&verifier, &good, "k").await, Ok(()), "{name}");
    }
    assert_eq!(elsewhere.hits(), 0, "a redirect was followed");
    end(lifecycle).await;
}

/// A certificate for a name, and the acceptor that has it.
fn tls(name: &str, files: &Files) -> (TlsAcceptor, PathBuf) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), files.write(&format!("{name}.pem"), certified.cert.pem()))
}

#[tokio::test]
async fn the_certificate_of_the_provider_is_verified() {
    let files = Files::new();
    let (good, ca) = tls("localhost", &files);
    let (other, other_ca) = tls("other.example", &files);
    let signer = Signer::es256();
    let fetch = async |tls: TlsAcceptor, ca: Option<&PathBuf>| {
        let provider = Provider::with_tls(&[signer.jwk("k")], Some(tls)).await;
        let mut settings = provider.settings();
        settings.jwks.as_mut().unwrap().ca_file = ca.cloned();
        let verifier = Verifier::open(&settings).unwrap();
        (verifier.fetch().await, verify(&verifier, &signer, "k").await)
    };
    assert_eq!(fetch(good.clone(), Some(&ca)).await, (Ok(()), Ok(())));
    for (tls, ca) in [(good.clone(), None), (good, Some(&other_ca)), (other, Some(&other_ca))] {
        let (fetched, verified) = fetch(tls, ca).await;
        let problem = fetched.unwrap_err();
        assert!(problem.contains("certificate"), "{problem}");
        assert_eq!(verified, Err(Refusal::KeysUnavailable));
    }
    let provider = Provider::new(&[]).await;
    let mut settings = provider.settings();
    for bad in [files.path("missing"), files.write("empty", ""), files.write("bad", "-----BEGIN CERTIFICATE-----\nx")] {
        settings.jwks.as_mut().unwrap().ca_file = Some(bad);
        let problems = Verifier::open(&settings).unwrap_err().to_string();
        assert!(problems.contains("--token-jwks-ca-file"), "{problems}");
    }
}

#[test]
fn max_age_is_heeded_within_bounds() {
    let age = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, text.parse().unwrap());
        max_age(&headers).map(|age| age.as_secs())
    };
    assert_eq!(age("public, max-age=600"), Some(600));
    assert_eq!(age("Max-Age=\"600\", must-revalidate"), Some(600));
    assert_eq!(age("max-age=0"), Some(60));
    assert_eq!(age("max-age=86400"), Some(3600));
    assert_eq!(age("max-age=-1"), None);
    assert_eq!(age("s-maxage=600, no-cache"), None);
    assert_eq!(max_age(&HeaderMap::new()), None);
}
