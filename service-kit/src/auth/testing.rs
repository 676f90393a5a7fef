//! Tokens and keys for tests: keys are generated, and a token may say anything.

use std::{
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{KeyFile, Mode, Settings, Verifier};

/// The secret of tests, as it stands in its file.
pub(super) const SECRET: &str = "an-ordinary-secret-of-more-than-32-bytes";

/// A fixed time, so that no test depends on the clock.
pub(super) const NOW: u64 = 1_800_000_000;

/// The fixed time, and seconds after it.
pub(super) fn at(offset: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW.saturating_add_signed(offset))
}

/// The claims of a good token of ada.
pub(super) fn claims() -> Value {
    json!({"iss": "parlance", "aud": "parlance", "sub": "ada", "iat": NOW - 60, "exp": NOW + 3600})
}

/// The same with some members replaced; null takes one away.
pub(super) fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// A key that signs.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
    /// The public key, unless it is a secret.
    pub(super) spki: Vec<u8>,
}

impl Signer {
    pub(super) fn secret(secret: &str) -> Self {
        let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
        Self { algorithm: Algorithm::HS256, key, spki: Vec::new() }
    }

    /// RSA keys take seconds to make, so tests share them.
    pub(super) fn rsa() -> &'static Self {
        static RSA: OnceLock<Signer> = OnceLock::new();
        RSA.get_or_init(|| Self::new_rsa(KeySize::Rsa2048))
    }

    pub(super) fn new_rsa(size: KeySize) -> Self {
        let pair = RsaKeyPair::generate(size).unwrap();
        let private = pem("PRIVATE KEY", AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref());
        let spki = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let key = EncodingKey::from_rsa_pem(private.as_bytes()).unwrap();
        Self { algorithm: Algorithm::RS256, key, spki: spki.as_ref().to_vec() }
    }

    pub(super) fn ps256() -> Self {
        let Self { key, spki, .. } = Self::rsa();
        Self { algorithm: Algorithm::PS256, key: key.clone(), spki: spki.clone() }
    }

    pub(super) fn es256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::ecdsa(Algorithm::ES256, &pair)
    }

    pub(super) fn es384() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self::ecdsa(Algorithm::ES384, &pair)
    }

    fn ecdsa(algorithm: Algorithm, pair: &EcdsaKeyPair) -> Self {
        let spki = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        Self { algorithm, key, spki: spki.as_ref().to_vec() }
    }

    pub(super) fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let spki = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        Self { algorithm: Algorithm::EdDSA, key, spki: spki.as_ref().to_vec() }
    }

    /// The public key as PEM.
    pub(super) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki)
    }

    /// The public key as a JWK of this name.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        // From a PKCS#8 key of Ed25519 the library derives the public key only at one length.
        let mut jwk = serde_json::to_value(match self.algorithm {
            Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&self.spki[self.spki.len() - 32..])}),
            algorithm => serde_json::to_value(Jwk::from_encoding_key(&self.key, algorithm).unwrap()).unwrap(),
        })
        .unwrap();
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// Signs any header and payload.
    pub(super) fn raw(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// Signs claims, with a header of only the algorithm and these members.
    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let mut all = json!({"alg": format!("{:?}", self.algorithm)});
        for (name, value) in header.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.raw(&all.to_string(), &claims.to_string())
    }

    /// Signs claims.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({}), claims)
    }
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn pem(tag: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", lines.join("\n"))
}

/// A directory with key files.
pub(super) struct Files {
    directory: TempDir,
}

impl Files {
    pub(super) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only its owner may read.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes a secret and returns it as a setting.
    pub(super) fn secret(&self, name: &str, secret: &str) -> KeyFile {
        KeyFile { kid: Some(name.to_owned()), path: self.write(name, format!("{secret}\n")) }
    }
}

/// The settings of a service with these secrets.
pub(super) fn settings(secrets: Vec<KeyFile>) -> Settings {
    Settings::of_secrets(Mode::Required, secrets)
}

/// One that has [`SECRET`] under the name `a`.
pub(super) fn verifier() -> Verifier {
    let files = Files::new();
    Verifier::open(&settings(vec![files.secret("a", SECRET)])).unwrap()
}
