//! Keys that verify tokens. The key says the algorithm, so no token chooses how it is verified, and each kind of file makes
//! keys of its own algorithms only.

use std::{
    collections::HashMap,
    fmt::{self, Write},
    sync::Arc,
};

use aws_lc_rs::{
    digest, hmac,
    signature::{
        self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RsaPublicKeyComponents,
        VerificationAlgorithm,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey, EncodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};

use super::{
    KeyId,
    algorithm::Algorithm,
    token::{Parsed, Refusal, invalid},
};

/// The most verifications that one token may cost.
const MAX_TRIES: usize = 4;
/// The shortest secret, in bytes: as long as the hash, as RFC 7518 demands.
const MIN_SECRET_BYTES: usize = 32;
/// The lengths of RSA moduli, in bits. The library checks them at each verification only.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// 65537, the only RSA exponent taken. The library takes any odd one.
const RSA_EXPONENT: [u8; 3] = [1, 0, 1];

/// A key that verifies tokens of one algorithm.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    /// The name by which tokens ask for it.
    pub(super) kid: Arc<str>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Makes an HS256 key of the content of a secret file.
    ///
    /// # Errors
    /// The rule that the content breaks, to be said after the name of the file.
    pub(super) fn of_secret(kid: Option<&str>, content: &[u8]) -> Result<Self, &'static str> {
        let (id, secret) = checked_secret(content)?;
        let decoding = DecodingKey::from_secret(secret).map_err(|_| "holds no secret")?;
        Ok(Self::new(id, kid, Algorithm::Hs256, decoding))
    }

    /// Makes a key of a public key in PEM (SPKI): RS256, ES256, ES384 or `EdDSA`.
    ///
    /// # Errors
    /// The rule that the content breaks, to be said after the name of the file.
    pub(super) fn of_pem(kid: Option<&str>, content: &[u8]) -> Result<Self, &'static str> {
        if !content.trim_ascii_start().starts_with(b"-----BEGIN PUBLIC KEY-----") {
            return Err("does not begin with -----BEGIN PUBLIC KEY-----; write the public key there as PEM");
        }
        let unusable = "holds no RSA, P-256, P-384 or Ed25519 public key; write one there as PEM";
        let from_pem = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
        let decoding = from_pem.into_iter().find_map(|parse| parse(content).ok()).ok_or(unusable)?;
        let jwk = Jwk::from_decoding_key(&decoding, None).map_err(|_| unusable)?;
        let key = Self::of_jwk(&jwk)?;
        Ok(Self::new(key.id, kid, key.algorithm, key.decoding))
    }

    /// Makes a key of a public JWK. A symmetric key is refused: what is published is no secret.
    ///
    /// # Errors
    /// The rule that the key breaks, to be said after its name.
    pub(super) fn of_jwk(jwk: &Jwk) -> Result<Self, &'static str> {
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("is not for signatures");
        }
        let operations = jwk.common.key_operations.as_ref();
        if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
            return Err("is not for signatures");
        }
        let (algorithm, material) = public_material(&jwk.algorithm)?;
        let algorithm = match (jwk.common.key_algorithm, algorithm) {
            (None, algorithm) => algorithm,
            (Some(KeyAlgorithm::PS256), Algorithm::Rs256) => Algorithm::Ps256,
            (Some(named), algorithm) if named == algorithm.in_library().into() => algorithm,
            _ => return Err("has an algorithm that is not RS256, PS256, ES256, ES384 or EdDSA, or not of its kind"),
        };
        let decoding = DecodingKey::from_jwk(jwk).map_err(|_| "cannot be read")?;
        let id =
            fingerprint(digest::digest(&digest::SHA256, &[algorithm.name().as_bytes(), &material].concat()).as_ref());
        Ok(Self::new(id, jwk.common.key_id.as_deref(), algorithm, decoding))
    }

    fn new(id: KeyId, kid: Option<&str>, algorithm: Algorithm, decoding: DecodingKey) -> Self {
        let kid = kid.unwrap_or(id.as_str()).into();
        Self { id, kid, algorithm, decoding }
    }

    /// Returns whether this key made the signature, which is in base64url.
    fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        let algorithm = self.algorithm.in_library();
        jsonwebtoken::crypto::verify(signature, message, &self.decoding, algorithm).unwrap_or(false)
    }
}

/// Returns the algorithm and the key itself, of a key that is usable. The library checks points and lengths when it verifies;
/// here a key that can never verify is refused when it is loaded.
fn public_material(parameters: &AlgorithmParameters) -> Result<(Algorithm, Vec<u8>), &'static str> {
    let parsed = |algorithm: &'static dyn VerificationAlgorithm, material: &[u8]| {
        ParsedPublicKey::new(algorithm, material).map(drop).map_err(|_| "is not a point of its curve")
    };
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let (n, e) = (bytes(&rsa.n)?, bytes(&rsa.e)?);
            let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
            if !RSA_BITS.contains(&bits) || e != RSA_EXPONENT {
                return Err(
                    "is an RSA key of fewer than 2048 or more than 8192 bits, or of an exponent other than 65537",
                );
            }
            let components = RsaPublicKeyComponents { n: &n, e: &e };
            let usable = components.to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256);
            usable.map_err(|_| "is not an RSA key")?;
            Ok((Algorithm::Rs256, n))
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            let (algorithm, length, library): (_, _, &'static dyn VerificationAlgorithm) = match ec.curve {
                EllipticCurve::P256 => (Algorithm::Es256, 32, &ECDSA_P256_SHA256_FIXED),
                EllipticCurve::P384 => (Algorithm::Es384, 48, &ECDSA_P384_SHA384_FIXED),
                _ => return Err("is on a curve other than P-256 and P-384"),
            };
            let (x, y) = (bytes(&ec.x)?, bytes(&ec.y)?);
            if x.len() != length || y.len() != length {
                return Err("has coordinates of a wrong length");
            }
            let point = [&[4], &x[..], &y].concat();
            parsed(library, &point)?;
            Ok((algorithm, point))
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            let point = bytes(&pair.x)?;
            if point.len() != 32 {
                return Err("has coordinates of a wrong length");
            }
            parsed(&ED25519, &point)?;
            Ok((Algorithm::EdDsa, point))
        }
        _ => Err("is not an RSA, P-256, P-384 or Ed25519 public key"),
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "is not base64url")
}

/// The key that signs new tokens.
#[derive(Debug, Clone)]
pub(super) struct SigningKey {
    pub(super) id: KeyId,
    pub(super) kid: Arc<str>,
    pub(super) encoding: EncodingKey,
}

impl SigningKey {
    /// Makes a signing key of the content of a secret file.
    ///
    /// # Errors
    /// The rule that the content breaks, to be said after the name of the file.
    pub(super) fn of_secret(kid: Option<&str>, content: &[u8]) -> Result<Self, &'static str> {
        let (id, secret) = checked_secret(content)?;
        let encoding = EncodingKey::from_secret(secret).map_err(|_| "holds no secret")?;
        let kid = kid.unwrap_or(id.as_str()).into();
        Ok(Self { id, kid, encoding })
    }
}

/// Returns the fingerprint and the secret of a secret file: all but one line break at its end.
fn checked_secret(content: &[u8]) -> Result<(KeyId, &[u8]), &'static str> {
    let secret = content.strip_suffix(b"\n").unwrap_or(content);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    let begin = secret.trim_ascii_start();
    let is_jwk = begin.starts_with(b"{") && begin.windows(5).any(|window| window == b"\"kty\"");
    if is_jwk || [&b"-----BEGIN"[..], b"ssh-"].iter().any(|kind| begin.starts_with(kind)) {
        return Err("holds a key in PEM, SSH or JWK format, not a secret; a public key as a secret lets everyone sign");
    }
    if secret.len() < MIN_SECRET_BYTES {
        return Err("holds fewer than 32 bytes; make a secret with parlance token --new-secret FILE");
    }
    // A tag under the secret reveals nothing that each token does not reveal as well.
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"parlance key id");
    Ok((fingerprint(tag.as_ref()), secret))
}

/// The first 8 bytes, in hex.
fn fingerprint(hash: &[u8]) -> KeyId {
    let hex = hash.iter().take(8).fold(String::with_capacity(16), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    KeyId::new(hex)
}

/// The keys of one source, by the name that tokens call them.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    by_kid: HashMap<Arc<str>, Vec<usize>>,
}

impl KeySet {
    /// Collects keys. The same key twice under one name is one; two keys of one name are both kept.
    pub(super) fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        let mut set = Self::default();
        for key in keys {
            if !set.keys.iter().any(|kept| kept.id == key.id && kept.kid == key.kid) {
                set.by_kid.entry(key.kid.clone()).or_default().push(set.keys.len());
                set.keys.push(key);
            }
        }
        set
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether the set has a key of this fingerprint.
    pub(super) fn holds(&self, id: &KeyId) -> bool {
        self.keys.iter().any(|key| key.id == *id)
    }

    /// Returns whether a token may name this key.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.by_kid.contains_key(kid)
    }

    /// Returns whether both sets hold the same keys under the same names.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let has = |key: &Key| other.keys.iter().any(|kept| kept.id == key.id && kept.kid == key.kid);
        self.keys.len() == other.keys.len() && self.keys.iter().all(has)
    }

    /// Returns the key that signed the token.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub(super) fn verify(&self, token: &Parsed<'_>) -> Result<&Key, Refusal> {
        let all: Vec<usize>;
        let candidates = match &token.kid {
            Some(kid) => self.by_kid.get(kid.as_str()).ok_or(invalid("no key has this kid"))?,
            None if self.keys.len() <= MAX_TRIES => {
                all = (0..self.keys.len()).collect();
                &all
            }
            None => return Err(invalid("kid is missing, and the source has more than 4 keys")),
        };
        let keys = candidates.iter().filter_map(|index| self.keys.get(*index));
        let mut fitting = keys.filter(|key| key.algorithm == token.algorithm).take(MAX_TRIES).peekable();
        if fitting.peek().is_none() {
            return Err(invalid("alg is not the one of the key"));
        }
        fitting.find(|key| key.has_signed(token.message, token.signature)).ok_or(invalid("the signature is wrong"))
    }
}

#[cfg(test)]
mod tests;
