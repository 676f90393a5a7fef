use std::error::Error;

use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;
use crate::auth::testing::{SECRET, Signer, claims};

#[test]
fn the_caller_does_not_learn_which_check_failed_and_the_log_does() {
    for (refusal, code, reason) in [
        (invalid("the signature is wrong"), Code::Unauthenticated, "TOKEN_INVALID"),
        (Refusal::Expired, Code::Unauthenticated, "TOKEN_EXPIRED"),
        (Refusal::NotYetValid, Code::Unauthenticated, "TOKEN_NOT_YET_VALID"),
        (Refusal::KeysUnavailable, Code::Unavailable, "KEYS_UNAVAILABLE"),
    ] {
        let status = Status::from(Failure::from(refusal));
        assert_eq!(status.code(), code);
        assert_eq!(status.get_details_error_info().unwrap().reason, reason);
        assert_eq!(status.get_details_retry_info().is_some(), code == Code::Unavailable);
        let cause = status.source().unwrap().to_string();
        assert_eq!(cause, refusal.to_string());
        assert!(!status.message().contains("signature"), "{status}");
    }
    assert_eq!(
        Status::from(Failure::from(invalid("one"))).message(),
        Status::from(Failure::from(invalid("another"))).message()
    );
}

#[test]
fn an_unverified_token_can_be_shown() {
    let token = Signer::secret(SECRET).token_with(&json!({"kid": "a"}), &claims());
    let (header, shown) = unverified(&token).unwrap();
    assert_eq!(header, json!({"alg": "HS256", "kid": "a"}));
    assert_eq!(shown, claims());
    assert!(unverified("a.b.c").is_err());
}
