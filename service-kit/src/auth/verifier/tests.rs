mod keys;

use serde_json::{Value, json};

use super::*;
use crate::auth::{
    Role,
    testing::{Files, NOW, SECRET, Signer, at, b64, claims, settings, verifier, with},
};

async fn taken(verifier: &Verifier, token: &str) -> Result<Arc<Principal>, Refusal> {
    verifier.verify(token, at(0)).await
}

fn is_invalid(result: &Result<Arc<Principal>, Refusal>) -> bool {
    matches!(result, Err(Refusal::Invalid { .. }))
}

/// Signs each payload with the right secret and expects it to be refused.
async fn refused_claims(changes: impl IntoIterator<Item = Value>) {
    let (verifier, signer) = (verifier(), Signer::secret(SECRET));
    for change in changes {
        let answer = taken(&verifier, &signer.token(&with(&change))).await;
        assert!(is_invalid(&answer), "{change}: {answer:?}");
    }
}

/// The same for whole tokens.
async fn refused_tokens(tokens: impl IntoIterator<Item = String>) {
    let verifier = verifier();
    for token in tokens {
        let answer = taken(&verifier, &token).await;
        assert!(is_invalid(&answer), "{token:.200}: {answer:?}");
    }
}

#[tokio::test]
async fn a_good_token_names_its_principal() {
    let token = Signer::secret(SECRET).token_with(&json!({"kid": "a", "typ": "jwt"}), &with(&json!({"jti": "7"})));
    let principal = taken(&verifier(), &token).await.unwrap();
    assert_eq!((&*principal.subject, principal.role, principal.via), ("ada", Role::User, Via::Token));
    assert_eq!(principal.issued_at, NOW as i64 - 60);
    assert_eq!(principal.expires_at, NOW as i64 + 3600);
    assert_eq!(principal.jti.as_deref(), Some("7"));
    assert!(verifier().holds(&principal.key));
    assert!(!verifier().holds(&KeyId::new("0000000000000000")));
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let payload = b64(claims().to_string());
    let unsigned = |alg: &str| format!("{}.{payload}.", b64(json!({"alg": alg}).to_string()));
    let signed = |alg: &str| Signer::secret(SECRET).token_with(&json!({"alg": alg}), &claims());
    let names = ["none", "None", "nOnE", "HS256", "HS384", "HS512", "RS384", "RS512", "hs256", "", "ES512", "dir"];
    refused_tokens(names.map(unsigned)).await;
    refused_tokens(["RS256", "ES256", "EdDSA"].map(signed)).await;
    refused_tokens(names.into_iter().filter(|name| *name != "HS256").map(signed)).await;
    refused_tokens(
        ["{}", r#"{"alg":null}"#, r#"{"alg":256}"#, r#"{"alg":["HS256"]}"#]
            .map(|header| Signer::secret(SECRET).raw(header, &claims().to_string())),
    )
    .await;
}

#[tokio::test]
async fn a_token_ends_at_exp_and_the_skew() {
    let (verifier, signer) = (verifier(), Signer::secret(SECRET));
    for (exp, expected) in [(-29, Ok(())), (-30, Err(Refusal::Expired)), (-31, Err(Refusal::Expired))] {
        let token = signer.token(&with(&json!({"exp": NOW.saturating_add_signed(exp)})));
        assert_eq!(taken(&verifier, &token).await.map(drop), expected, "{exp}");
    }
    let fraction = signer.token(&with(&json!({"exp": NOW as f64 - 29.5})));
    assert!(taken(&verifier, &fraction).await.is_ok());
}

#[tokio::test]
async fn exp_is_a_number_within_bounds() {
    refused_claims([
        json!({"exp": null}),
        json!({"exp": "never"}),
        json!({"exp": "99999999999"}),
        json!({"exp": (NOW + 3600).to_string()}),
        json!({"exp": -1}),
        json!({"exp": (NOW + 3600) * 1000}),
        json!({"exp": [NOW + 3600]}),
        json!({"exp": true}),
    ])
    .await;
    let raw = |exp: &str| {
        let payload = claims().to_string().replace(&(NOW + 3600).to_string(), exp);
        assert!(payload.contains(exp));
        Signer::secret(SECRET).raw(r#"{"alg":"HS256"}"#, &payload)
    };
    refused_tokens(["null", "1e400", "1e300", "-0.5", "99999999999999999999999", "NaN"].map(raw)).await;
}

#[tokio::test]
async fn a_token_begins_at_nbf_less_the_skew() {
    let (verifier, signer) = (verifier(), Signer::secret(SECRET));
    for (nbf, expected) in [(29, Ok(())), (30, Ok(())), (31, Err(Refusal::NotYetValid))] {
        let token = signer.token(&with(&json!({"nbf": NOW.saturating_add_signed(nbf)})));
        assert_eq!(taken(&verifier, &token).await.map(drop), expected, "{nbf}");
    }
    refused_claims([json!({"nbf": "x"}), json!({"nbf": []}), json!({"nbf": false})]).await;
}

#[tokio::test]
async fn iat_is_obligatory_and_bounds_the_lifetime() {
    refused_claims([
        json!({"iat": null}),
        json!({"iat": "1"}),
        json!({"iat": NOW + 31}),
        json!({"iat": NOW, "exp": NOW + 86_401}),
        json!({"iat": NOW, "exp": NOW + 90 * 86_400, "parlance_role": "user"}),
        json!({"iat": NOW, "exp": NOW + 90 * 86_400 + 1, "parlance_role": "service"}),
    ])
    .await;
    let (verifier, signer) = (verifier(), Signer::secret(SECRET));
    for good in [
        json!({"iat": NOW + 30}),
        json!({"iat": NOW, "exp": NOW + 86_400}),
        json!({"iat": NOW, "exp": NOW + 90 * 86_400, "parlance_role": "service"}),
    ] {
        assert!(taken(&verifier, &signer.token(&with(&good))).await.is_ok(), "{good}");
    }
}

#[tokio::test]
async fn aud_must_hold_our_audience() {
    refused_claims([
        json!({"aud": null}),
        json!({"aud": "other"}),
        json!({"aud": "Parlance"}),
        json!({"aud": ["other"]}),
        json!({"aud": []}),
        json!({"aud": ["parlance", 1]}),
        json!({"aud": {"parlance": true}}),
        json!({"aud": 1}),
    ])
    .await;
    let token = Signer::secret(SECRET).token(&with(&json!({"aud": ["other", "parlance"]})));
    assert!(taken(&verifier(), &token).await.is_ok());
}

#[tokio::test]
async fn iss_must_be_that_of_a_source() {
    let wrong = [json!({"iss": null}), json!({"iss": "Parlance"}), json!({"iss": ""}), json!({"iss": ["parlance"]})];
    refused_claims(wrong).await;
}

#[tokio::test]
async fn a_claim_that_is_not_ours_gives_no_role() {
    let (verifier, signer) = (verifier(), Signer::secret(SECRET));
    for change in [json!({"role": "service"}), json!({"scope": "service"}), json!({"roles": ["service"]})] {
        let principal = taken(&verifier, &signer.token(&with(&change))).await.unwrap();
        assert_eq!(principal.role, Role::User, "{change}");
    }
    for role in Role::ALL {
        let principal = taken(&verifier, &signer.token(&with(&json!({"parlance_role": role.name()})))).await.unwrap();
        assert_eq!(principal.role, role);
    }
}

#[tokio::test]
async fn a_role_is_spelt_exactly() {
    let wrong = [json!("SERVICE"), json!(["service"]), json!(""), json!(1), json!("service "), json!("admin")];
    refused_claims(wrong.map(|role| json!({"parlance_role": role}))).await;
    let null = claims().to_string().replacen('{', r#"{"parlance_role":null,"#, 1);
    refused_tokens([Signer::secret(SECRET).raw(r#"{"alg":"HS256"}"#, &null)]).await;
}

#[tokio::test]
async fn the_subject_of_a_user_is_a_user_id_byte_for_byte() {
    let wrong = [
        json!("ada\u{0}"),
        json!(" ada"),
        json!("ada "),
        json!("ad\u{430}"),
        json!("e\u{301}"),
        json!("~d1"),
        json!("a".repeat(65)),
        json!("auth0|1"),
        json!(1),
        json!(""),
        json!(null),
        json!(["ada"]),
    ];
    refused_claims(wrong.map(|sub| json!({"sub": sub}))).await;
    let upper = Signer::secret(SECRET).token(&with(&json!({"sub": "Ada"})));
    assert_eq!(&*taken(&verifier(), &upper).await.unwrap().subject, "Ada");
}

#[tokio::test]
async fn the_subject_of_a_backend_is_printable() {
    let wrong = [json!(""), json!(null), json!("a\n"), json!("é"), json!("a".repeat(257))];
    refused_claims(wrong.map(|sub| json!({"sub": sub, "parlance_role": "service"}))).await;
    let good = json!({"sub": "system:serviceaccount:chat:backend", "parlance_role": "service"});
    assert!(taken(&verifier(), &Signer::secret(SECRET).token(&with(&good))).await.is_ok());
}

#[tokio::test]
async fn a_token_longer_than_8_kib_is_refused_and_one_as_long_is_not() {
    let signer = Signer::secret(SECRET);
    let of_length = |length: usize| {
        let mut pad = 5_000;
        loop {
            let token = signer.token(&with(&json!({"pad": "x".repeat(pad)})));
            if token.len() >= length {
                return token;
            }
            pad += 1;
        }
    };
    let (fitting, long) = (of_length(8_191), of_length(8_193));
    assert!(fitting.len() <= 8_192, "{}", fitting.len());
    assert!(taken(&verifier(), &fitting).await.is_ok());
    assert_eq!(taken(&verifier(), &long).await.unwrap_err(), invalid("longer than 8 KiB"));
}

#[tokio::test]
async fn only_three_parts_of_strict_base64url_are_a_token() {
    let good = Signer::secret(SECRET).token(&claims());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    // A signature of 32 bytes leaves two bits of its last character unused.
    let last = signature.chars().last().unwrap();
    let stray = (b'A'..=b'z').map(char::from).find(|other| {
        let bits = |c: char| "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".find(c);
        bits(*other).zip(bits(last)).is_some_and(|(other, last)| other == last + 1)
    });
    let stray = format!("{}{}", &signature[..signature.len() - 1], stray.unwrap_or('B'));
    refused_tokens([
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{good}.{signature}.{signature}"),
        format!("{good}="),
        format!("{header}=.{payload}.{signature}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}.{payload}\n.{signature}"),
        format!("{header}.{payload}. {signature}"),
        format!("{header}.{payload}.{stray}"),
        format!("{header}.{payload}.{}+", &signature[..signature.len() - 1]),
        format!("{header}.{payload}.{}/", &signature[..signature.len() - 1]),
        format!("é{good}"),
    ])
    .await;
    assert!(taken(&verifier(), &good).await.is_ok());
}

#[tokio::test]
async fn json_with_two_meanings_is_refused_soon() {
    let good = claims().to_string();
    let signer = Signer::secret(SECRET);
    let header = r#"{"alg":"HS256"}"#;
    let payloads = [
        good.replacen('{', r#"{"sub":"bob","#, 1),
        good.replacen('{', r#"{"\u0073ub":"bob","#, 1),
        good.replacen('{', &format!("{{\"x\":{},", "[".repeat(5_000)), 1),
        "[".repeat(5_900),
        "9".repeat(5_900),
        format!("[{good}]"),
        format!("\"{}\"", signer.token(&claims())),
        signer.token(&claims()),
        format!("{good}{good}"),
        String::new(),
    ];
    let started = std::time::Instant::now();
    refused_tokens(payloads.map(|payload| signer.raw(header, &payload))).await;
    // Far more than parsing takes, also unoptimised on a busy machine, and far less than anything that is not linear.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let twice = r#"{"alg":"HS256","alg":"HS256"}"#;
    refused_tokens([signer.raw(twice, &good)]).await;
}

#[tokio::test]
async fn a_header_that_demands_more_is_refused() {
    let signer = Signer::secret(SECRET);
    let headers = [
        json!({"crit": ["x"]}),
        json!({"crit": []}),
        json!({"crit": null}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"enc": "A256GCM"}),
        json!({"zip": "DEF"}),
        json!({"typ": "logout+jwt"}),
        json!({"typ": "secevent+jwt"}),
        json!({"typ": "JWE"}),
        json!({"typ": null}),
        json!({"typ": ["JWT"]}),
    ];
    refused_tokens(headers.map(|header| signer.token_with(&header, &claims()))).await;
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT"] {
        assert!(taken(&verifier(), &signer.token_with(&json!({"typ": typ}), &claims())).await.is_ok(), "{typ}");
    }
}

#[tokio::test]
async fn kid_is_a_key_of_a_map_and_nothing_else() {
    let signer = Signer::secret(SECRET);
    let wrong =
        [json!("../../../dev/null"), json!("'; DROP"), json!("x".repeat(1 << 20)), json!(""), json!(1), json!(null)];
    refused_tokens(wrong.map(|kid| signer.token_with(&json!({"kid": kid}), &claims()))).await;
}

#[tokio::test]
async fn a_token_without_kid_is_tried_on_at_most_4_keys() {
    let files = Files::new();
    let secrets = (0..5).map(|number| files.secret(&format!("{number}"), &format!("{SECRET}{number}")));
    let secrets: Vec<_> = secrets.collect();
    let last = Signer::secret(&format!("{SECRET}4"));
    let five = Verifier::open(&settings(secrets.clone())).unwrap();
    assert!(is_invalid(&taken(&five, &last.token(&claims())).await));
    assert!(taken(&five, &last.token_with(&json!({"kid": "4"}), &claims())).await.is_ok());
    assert!(is_invalid(&taken(&five, &last.token_with(&json!({"kid": "3"}), &claims())).await));
    let four = Verifier::open(&settings(secrets[1..].to_vec())).unwrap();
    assert!(taken(&four, &last.token(&claims())).await.is_ok());
}

#[tokio::test]
async fn a_token_with_one_character_changed_is_refused() {
    let good = Signer::secret(SECRET).token_with(&json!({"kid": "a"}), &claims());
    let replaced = |index: usize, other: &str| format!("{}{other}{}", &good[..index], &good[index + 1..]);
    let changed =
        (0..good.len()).flat_map(|index| ["A", "B", "_", "", ".", "=", "AA"].map(|other| replaced(index, other)));
    refused_tokens(changed.filter(|changed| *changed != good)).await;
}

proptest::proptest! {
    #[test]
    fn no_text_is_taken_or_breaks_anything(text in ".{0,200}", parts in proptest::array::uniform3("[-_A-Za-z0-9]{0,80}")) {
        for text in [text.clone(), parts.join("."), format!("{}.{}.{}", b64(r#"{"alg":"HS256"}"#), b64(&text), parts[2])] {
            proptest::prop_assert!(Parsed::parse(&text).and_then(|token| token.issuer().map(drop)).is_err());
        }
    }
}
