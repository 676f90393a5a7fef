use aws_lc_rs::rsa::KeySize;
use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{SECRET, Signer, b64, pem};

fn of_jwk(jwk: &Value) -> Result<Key, &'static str> {
    Key::of_jwk(&serde_json::from_value(jwk.clone()).map_err(|_| "cannot be read")?)
}

/// The payload of RFC 7515, A.1 to A.3.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn check_vector(key: &Key, header: &str, payload: &str, signature: &str) {
    let message = format!("{header}.{payload}");
    assert!(key.has_signed(message.as_bytes(), signature));
    assert!(!key.has_signed(format!("{message}A").as_bytes(), signature));
    let swapped: String = signature.chars().rev().collect();
    assert!(!key.has_signed(message.as_bytes(), &swapped));
}

#[test]
fn rfc_7515_a_1_verifies() {
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = Key::of_secret(None, &URL_SAFE_NO_PAD.decode(secret).unwrap()).unwrap();
    let signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    check_vector(&key, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", PAYLOAD, signature);
}

#[test]
fn rfc_7515_a_2_verifies() {
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ\
             S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2\
             R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD\
             TW9gb54h4FRWyuXpoQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9\
                     uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB\
                     _eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rq\
                     Vt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let key = of_jwk(&json!({"kty": "RSA", "n": n, "e": "AQAB"})).unwrap();
    check_vector(&key, "eyJhbGciOiJSUzI1NiJ9", PAYLOAD, signature);
}

#[test]
fn rfc_7515_a_3_verifies() {
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    let key = of_jwk(&json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})).unwrap();
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    check_vector(&key, "eyJhbGciOiJFUzI1NiJ9", PAYLOAD, signature);
}

#[test]
fn rfc_8037_a_4_verifies() {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let payload = "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    check_vector(&of_jwk(&key).unwrap(), "eyJhbGciOiJFZERTQSJ9", payload, signature);
}

#[test]
fn a_key_that_is_weak_broken_or_for_something_else_is_refused() {
    let (rsa, es256, es384, ed25519) = (Signer::rsa(), Signer::es256(), Signer::es384(), Signer::ed25519());
    let change = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    let [rsa_jwk, p256, p384, ed] = [rsa.jwk("k"), es256.jwk("k"), es384.jwk("k"), ed25519.jwk("k")];
    for good in [&rsa_jwk, &p256, &p384, &ed, &Signer::ps256().jwk("k")] {
        assert!(of_jwk(good).is_ok(), "{good}");
    }
    let n = |bytes: usize| json!(b64(vec![0xf1; bytes]));
    assert!(of_jwk(&change(rsa_jwk.clone(), "n", n(256))).is_ok());
    for bad in [
        change(rsa_jwk.clone(), "n", n(128)),
        change(rsa_jwk.clone(), "n", n(255)),
        change(rsa_jwk.clone(), "n", n(1025)),
        change(rsa_jwk.clone(), "n", json!(b64([&[0][..], &[0xf1; 256]].concat()))),
        change(rsa_jwk.clone(), "n", json!("")),
        change(rsa_jwk.clone(), "n", json!("=")),
        change(rsa_jwk.clone(), "e", json!("Aw")),
        change(rsa_jwk.clone(), "e", json!("AQABAA")),
        change(rsa_jwk.clone(), "e", json!("AAEAAQ")),
        change(rsa_jwk.clone(), "use", json!("enc")),
        change(rsa_jwk.clone(), "key_ops", json!(["encrypt"])),
        change(rsa_jwk.clone(), "alg", json!("RS384")),
        change(rsa_jwk.clone(), "alg", json!("none")),
        change(rsa_jwk.clone(), "alg", json!("HS256")),
        change(rsa_jwk.clone(), "alg", json!("ES256")),
        change(rsa_jwk.clone(), "alg", json!("RSA-OAEP")),
        change(rsa_jwk.clone(), "alg", json!(1)),
        change(rsa_jwk, "kid", json!(1)),
        change(p256.clone(), "y", p256["x"].clone()),
        change(p256.clone(), "x", p384["x"].clone()),
        change(p256.clone(), "crv", json!("P-384")),
        change(p256.clone(), "crv", json!("secp256k1")),
        change(p384.clone(), "crv", json!("P-521")),
        change(p256, "alg", json!("ES384")),
        change(p384, "alg", json!("ES256")),
        change(ed.clone(), "x", json!(b64([1; 31]))),
        change(ed.clone(), "crv", json!("X25519")),
        change(ed, "alg", json!("ES256")),
        json!({"kty": "oct", "k": b64(SECRET)}),
        json!({"kty": "oct", "k": b64(SECRET), "alg": "HS256", "kid": "k"}),
        json!({"kty": "AKP", "pub": b64(SECRET)}),
        json!({}),
    ] {
        assert!(of_jwk(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_file_holds_one_public_key() {
    let signer = Signer::es256();
    for bad in [
        signer.public_pem().replace("PUBLIC KEY", "EC PRIVATE KEY"),
        signer.public_pem().replace("PUBLIC KEY", "CERTIFICATE"),
        Signer::rsa().public_pem().replace("PUBLIC KEY", "RSA PUBLIC KEY"),
        pem("PUBLIC KEY", &signer.spki[..60]),
        pem("PUBLIC KEY", b"nothing"),
        pem("PRIVATE KEY", &signer.spki),
        signer.jwk("k").to_string(),
        SECRET.to_owned(),
        String::new(),
    ] {
        assert!(Key::of_pem(None, bad.as_bytes()).is_err(), "{bad}");
    }
    let key = Key::of_pem(None, signer.public_pem().as_bytes()).unwrap();
    assert_eq!(&*key.kid, key.id.as_str());
    assert_eq!(key.id, of_jwk(&signer.jwk("other")).unwrap().id, "the fingerprint does not depend on the form");
    assert_eq!(key.id.as_str().len(), 16);
    let large = Signer::new_rsa(KeySize::Rsa3072);
    assert!(Key::of_pem(None, large.public_pem().as_bytes()).is_ok());
}

#[test]
fn the_fingerprint_of_a_secret_is_not_its_hash() {
    let key = Key::of_secret(None, SECRET.as_bytes()).unwrap();
    let plain = fingerprint(digest::digest(&digest::SHA256, SECRET.as_bytes()).as_ref());
    assert_ne!(key.id, plain);
    assert_eq!(key.id, Key::of_secret(Some("a"), format!("{SECRET}\r\n").as_bytes()).unwrap().id);
    assert!(!format!("{key:?}").contains(SECRET));
}

#[test]
fn the_same_key_twice_is_one_and_two_keys_of_one_name_are_two() {
    let [one, other] = [Signer::es256(), Signer::es256()].map(|signer| of_jwk(&signer.jwk("k")).unwrap());
    let set = KeySet::new([one.clone(), other.clone(), one.clone()]);
    assert_eq!(set.len(), 2);
    assert!(set.holds(&one.id) && set.holds(&other.id) && set.knows("k") && !set.knows("l"));
    assert!(set.is_same(&KeySet::new([other, one.clone()])));
    assert!(!set.is_same(&KeySet::new([one])));
}
