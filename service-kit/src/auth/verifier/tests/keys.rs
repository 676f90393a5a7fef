//! Which keys verify, and when they change.

use super::*;
use crate::auth::{KeyFile, NewToken, PublicKeySettings, Settings, testing::pem};

/// The settings of a service with [`SECRET`] and public keys of the issuer `idp`.
fn with_public_keys(files: &Files, keys: &[(&str, &Signer)]) -> Settings {
    let file = |(kid, signer): &(&str, &Signer)| KeyFile {
        kid: Some((*kid).to_owned()),
        path: files.write(kid, signer.public_pem()),
    };
    let public = keys.iter().map(file).collect();
    let public_keys = PublicKeySettings { issuer: "idp".to_owned(), files: public, roles: vec![Role::User] };
    Settings { public_keys: Some(public_keys), ..settings(vec![files.secret("a", SECRET)]) }
}

fn of_idp() -> Value {
    with(&json!({"iss": "idp"}))
}

#[tokio::test]
async fn each_public_key_verifies_its_own_algorithm() {
    let files = Files::new();
    let [es256, es384, ed25519] = [Signer::es256(), Signer::es384(), Signer::ed25519()];
    let rsa = Signer::rsa();
    let signers = [("rsa", rsa), ("p256", &es256), ("p384", &es384), ("ed", &ed25519)];
    let verifier = Verifier::open(&with_public_keys(&files, &signers)).unwrap();
    for (kid, signer) in signers {
        for header in [json!({}), json!({"kid": kid})] {
            let token = signer.token_with(&header, &of_idp());
            assert!(taken(&verifier, &token).await.is_ok(), "{kid}");
            let (message, _) = token.rsplit_once('.').unwrap();
            for length in [1, 32, 64, 96, 256] {
                let zeros = format!("{message}.{}", b64(vec![0; length]));
                assert!(is_invalid(&taken(&verifier, &zeros).await), "{kid}: {length} zeros");
            }
        }
        for (other, _) in signers.into_iter().filter(|(other, _)| *other != kid) {
            let token = signer.token_with(&json!({"kid": other}), &of_idp());
            assert!(is_invalid(&taken(&verifier, &token).await), "{kid} as {other}");
        }
    }
    // The key says RS256.
    assert!(is_invalid(&taken(&verifier, &Signer::ps256().token_with(&json!({"kid": "rsa"}), &of_idp())).await));
    let lying = Signer::ps256().token_with(&json!({"kid": "rsa", "alg": "RS256"}), &of_idp());
    assert!(is_invalid(&taken(&verifier, &lying).await));
    // The signature is one of the key, and only the header says something else.
    for alg in ["PS256", "ES256", "HS256"] {
        let lying = rsa.token_with(&json!({"kid": "rsa", "alg": alg}), &of_idp());
        assert!(is_invalid(&taken(&verifier, &lying).await), "{alg}");
    }
    let another = Signer::es256().token_with(&json!({"kid": "p256"}), &of_idp());
    assert!(is_invalid(&taken(&verifier, &another).await), "a key that nobody configured");
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let files = Files::new();
    let [es256, ed25519] = [Signer::es256(), Signer::ed25519()];
    let signers = [("rsa", Signer::rsa()), ("p256", &es256), ("ed", &ed25519)];
    let verifier = Verifier::open(&with_public_keys(&files, &signers)).unwrap();
    for (kid, signer) in signers {
        let text = signer.public_pem();
        let jwk = signer.jwk(kid).to_string();
        let point = signer.spki[signer.spki.len() - 32..].to_vec();
        for secret in [text.as_bytes(), text.trim_end().as_bytes(), &signer.spki, jwk.as_bytes(), &point] {
            let key = jsonwebtoken::EncodingKey::from_secret(secret).unwrap();
            let forger = Signer { algorithm: jsonwebtoken::Algorithm::HS256, key, spki: Vec::new() };
            for header in [json!({}), json!({"kid": kid}), json!({"kid": "a"})] {
                for claims in [of_idp(), claims()] {
                    let answer = taken(&verifier, &forger.token_with(&header, &claims)).await;
                    assert!(is_invalid(&answer), "{kid}: {header} {claims}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_vouches_for_its_own_issuer_only() {
    let files = Files::new();
    let verifier = Verifier::open(&with_public_keys(&files, &[("rsa", Signer::rsa())])).unwrap();
    let secret = Signer::secret(SECRET);
    assert!(taken(&verifier, &secret.token(&claims())).await.is_ok());
    assert!(taken(&verifier, &Signer::rsa().token(&of_idp())).await.is_ok());
    for (signer, claims) in [(&secret, of_idp()), (Signer::rsa(), claims())] {
        for kid in [json!({}), json!({"kid": "rsa"}), json!({"kid": "a"})] {
            assert!(is_invalid(&taken(&verifier, &signer.token_with(&kid, &claims)).await), "{kid} {claims}");
        }
    }
}

#[tokio::test]
async fn a_role_that_the_source_may_not_grant_is_refused_not_lowered() {
    let files = Files::new();
    let signer = Signer::es256();
    let mut settings = with_public_keys(&files, &[("p256", &signer)]);
    let token = signer.token(&with(&json!({"iss": "idp", "parlance_role": "service"})));
    assert!(is_invalid(&taken(&Verifier::open(&settings).unwrap(), &token).await));
    settings.public_keys.as_mut().unwrap().roles.push(Role::Service);
    assert_eq!(taken(&Verifier::open(&settings).unwrap(), &token).await.unwrap().role, Role::Service);
}

#[tokio::test]
async fn other_claims_may_name_the_user_and_the_role_but_not_in_our_own_tokens() {
    let files = Files::new();
    let signer = Signer::ed25519();
    let mut settings = with_public_keys(&files, &[("ed", &signer)]);
    settings.user_claim = "preferred_username".to_owned();
    settings.role_claim = "role".to_owned();
    settings.public_keys.as_mut().unwrap().roles.push(Role::Operator);
    let verifier = Verifier::open(&settings).unwrap();
    let user = json!({"iss": "idp", "sub": "auth0|1", "preferred_username": "ada", "parlance_role": "operator"});
    let principal = taken(&verifier, &signer.token(&with(&user))).await.unwrap();
    assert_eq!((&*principal.subject, principal.role), ("ada", Role::User));
    let operator = signer.token(&with(&json!({"iss": "idp", "sub": "auth0|1", "role": "operator"})));
    let principal = taken(&verifier, &operator).await.unwrap();
    assert_eq!((&*principal.subject, principal.role), ("auth0|1", Role::Operator));
    assert!(is_invalid(&taken(&verifier, &signer.token(&of_idp())).await), "the claim is missing");
    let own = Signer::secret(SECRET).token(&with(&json!({"parlance_role": "directory", "role": "user"})));
    assert_eq!(taken(&verifier, &own).await.unwrap().role, Role::Directory);
}

#[tokio::test]
async fn a_header_brings_no_key_of_its_own() {
    let files = Files::new();
    let (good, forger) = (Signer::es256(), Signer::es256());
    let verifier = Verifier::open(&with_public_keys(&files, &[("p256", &good)])).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let certificate = pem("CERTIFICATE", &forger.spki);
    for header in [
        json!({"jku": url, "kid": "p256"}),
        json!({"jku": url}),
        json!({"x5u": url}),
        json!({"jwk": forger.jwk("p256")}),
        json!({"x5c": [certificate]}),
    ] {
        assert!(is_invalid(&taken(&verifier, &forger.token_with(&header, &of_idp())).await), "{header}");
        assert!(taken(&verifier, &good.token_with(&header, &of_idp())).await.is_ok(), "{header} is passed over");
    }
    let connected = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(connected.is_err(), "somebody connected");
}

#[tokio::test]
async fn a_key_is_rotated_without_a_restart() {
    let files = Files::new();
    let path = files.secret("a", SECRET).path;
    let file =
        |kid: Option<&str>, path: &std::path::Path| KeyFile { kid: kid.map(str::to_owned), path: path.to_owned() };
    let second = files.secret("b", &format!("{SECRET}2")).path;
    let verifier = Verifier::open(&settings(vec![file(None, &path), file(None, &second)])).unwrap();
    let old = Signer::secret(SECRET).token(&claims());
    let new = Signer::secret(&format!("{SECRET}2")).token(&claims());
    let principal = taken(&verifier, &old).await.unwrap();
    assert!(taken(&verifier, &new).await.is_ok());

    let mut changed = verifier.changed();
    verifier.reload().await;
    assert!(!changed.has_changed().unwrap(), "nothing changed");
    files.write("a", format!("{SECRET}3"));
    verifier.reload().await;
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert!(!verifier.holds(&principal.key));
    assert!(is_invalid(&taken(&verifier, &old).await), "it is remembered, and its key is gone");
    assert!(taken(&verifier, &new).await.is_ok());

    // A broken file keeps what there is.
    for broken in ["short", "-----BEGIN PUBLIC KEY-----\n0123456789012345678901234567890123456789"] {
        files.write("a", broken);
        verifier.reload().await;
    }
    std::fs::remove_file(files.path("a")).unwrap();
    verifier.reload().await;
    assert!(!changed.has_changed().unwrap());
    let third = Signer::secret(&format!("{SECRET}3"));
    assert!(taken(&verifier, &third.token(&claims())).await.is_ok());
    let issued = verifier.issuer().unwrap();
    let token = issued.sign(&NewToken {
        subject: "ada",
        role: Role::User,
        lifetime: Duration::from_mins(1),
        audience: None,
        issued_at: at(0),
    });
    assert!(taken(&verifier, token.unwrap().expose()).await.is_ok(), "the issuer follows the file");
}

#[tokio::test(start_paused = true)]
async fn the_task_reads_files_again() {
    let files = Files::new();
    let lifecycle = Lifecycle::new();
    let verifier = Verifier::start(&settings(vec![files.secret("a", SECRET)]), &lifecycle).unwrap();
    let mut changed = verifier.changed();
    files.write("a", format!("{SECRET}2"));
    tokio::time::timeout(Duration::from_mins(1), changed.changed()).await.unwrap().unwrap();
    assert!(is_invalid(&taken(&verifier, &Signer::secret(SECRET).token(&claims())).await));
    lifecycle.shutdown(crate::lifecycle::Grace::default()).await;
}

#[tokio::test]
async fn a_remembered_token_is_checked_each_time() {
    let (verifier, signer) = (verifier(), Signer::secret(SECRET));
    let token = signer.token(&with(&json!({"exp": NOW + 60})));
    assert!(taken(&verifier, &token).await.is_ok());
    assert!(verifier.verify(&token, at(89)).await.is_ok());
    assert_eq!(verifier.verify(&token, at(90)).await.unwrap_err(), Refusal::Expired);
    assert!(is_invalid(&verifier.verify(&token, at(-91)).await), "iat is ahead of a clock that was set back");
    assert_eq!(verifier.shared.seen.count(), 1);
    let mut other = token.clone();
    let last = other.pop().unwrap();
    other.push(if last == 'A' { 'E' } else { 'A' });
    assert!(is_invalid(&taken(&verifier, &other).await), "it differs in the last bits");
    assert_eq!(verifier.shared.seen.count(), 1, "refusals are not remembered");
}

#[test]
fn secrets_that_are_none_are_refused_at_start() {
    let files = Files::new();
    for content in [
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE\n",
        r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
        " \n{ \"use\": \"sig\", \"kty\": \"oct\", \"k\": \"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ\"}",
        "0123456789012345678901234567890",
        "0123456789012345678901234567890\n",
        "0123456789012345678901234567890\r\n",
        "",
    ] {
        let file = KeyFile { kid: None, path: files.write("bad", content) };
        let problems = Verifier::open(&settings(vec![file])).unwrap_err().to_string();
        assert!(problems.contains("bad") && problems.contains("--token-secret-file"), "{content}: {problems}");
        assert!(content.is_empty() || !problems.contains(content.trim()), "{problems}");
    }
    let missing = KeyFile { kid: None, path: files.path("missing") };
    let directory = KeyFile { kid: None, path: files.path("") };
    let long = KeyFile { kid: None, path: files.write("long", "x".repeat(70_000)) };
    let problems = Verifier::open(&settings(vec![missing, directory, long])).unwrap_err().to_string();
    assert!(problems.contains("3 problem"), "{problems}");
    let exact = KeyFile { kid: None, path: files.write("exact", "0123456789012345678901234567890\n\n") };
    assert!(Verifier::open(&settings(vec![exact])).is_ok(), "one line break is trimmed, not two");
}
