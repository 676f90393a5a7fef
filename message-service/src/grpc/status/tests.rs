//! Each row of the mapping, compared with the contract of its reason.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tonic::Status;
use tonic_types::StatusExt;

use service_kit::reason;

use super::*;
use crate::domain::{
    rpc::Rpc,
    sequence::{Position, Sequence},
};
use crate::{
    directory::LookupError,
    domain::{
        change::Outcome,
        ids::{ConversationId, UserId},
        refusal::Refusal,
    },
};

/// Returns the parts of a failure that a caller sees: code, reason, keys of the metadata, and the kind of detail beside
/// `ErrorInfo`.
fn seen(failure: Failure) -> (Code, String, Vec<String>, &'static str) {
    let status = Status::from(failure);
    let details = status.check_error_details().unwrap();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "parlance");
    let kinds = [
        (details.bad_request().is_some(), "violations"),
        (details.resource_info().is_some(), "resource"),
        (details.precondition_failure().is_some(), "precondition"),
        (details.quota_failure().is_some(), "quota and retry"),
        (details.retry_info().is_some(), "retry"),
    ];
    let detail = kinds.iter().find(|(is_present, _)| *is_present).map_or("", |(_, name)| name);
    let keys: BTreeMap<_, _> = info.metadata.iter().collect();
    (status.code(), info.reason.clone(), keys.into_keys().cloned().collect(), detail)
}

fn expect(failure: impl Into<Failure>, code: Code, cause: Reason, keys: &[&str], detail: &str) {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    let (seen_code, seen_reason, seen_keys, seen_detail) = seen(failure.into());
    assert_eq!((seen_code, seen_reason.as_str(), seen_keys, seen_detail), (code, reason::name(cause), keys, detail));
}

fn ids() -> (ConversationId, Actor) {
    ("c".into(), Actor::unchecked("ada".into(), Rpc::SendMessage))
}

#[test]
fn users_are_refused_with_all_their_ids() {
    let user_ids = || vec!["ada".into(), "bob".into()];
    expect(
        Refusal::UserNotFound { user_ids: user_ids() },
        Code::NotFound,
        Reason::UserNotFound,
        &["user_ids"],
        "resource",
    );
    let unmet = |refusal, cause| expect(refusal, Code::FailedPrecondition, cause, &["user_ids"], "precondition");
    unmet(Refusal::UserDeactivated { user_ids: user_ids() }, Reason::UserDeactivated);
    unmet(Refusal::UserDeleted { user_ids: user_ids() }, Reason::UserDeleted);
    let status = Status::from(Failure::from(Refusal::UserNotFound { user_ids: user_ids() }));
    assert_eq!(status.get_details_error_info().unwrap().metadata["user_ids"], "ada,bob");
}

#[test]
fn every_outcome_of_a_write_has_its_row() {
    let (conversation_id, actor) = ids();
    let subject = Subject { sequence: Sequence::new(7), request_id: "r", ..Subject::new(&conversation_id, &actor) };
    let (in_conversation, of_member, of_message) =
        (&["conversation_id"][..], &["conversation_id", "user_id"][..], &["conversation_id", "sequence"][..]);
    for (outcome, code, cause, keys, detail) in [
        (Outcome::RequestIdReused, Code::InvalidArgument, Reason::RequestIdReused, &["request_id"][..], "violations"),
        (Outcome::ConversationNotFound, Code::NotFound, Reason::ConversationNotFound, in_conversation, "resource"),
        (Outcome::NotAMember, Code::PermissionDenied, Reason::NotAMember, of_member, ""),
        (Outcome::MessageNotFound, Code::NotFound, Reason::MessageNotFound, of_message, "resource"),
        (Outcome::Locked, Code::Unavailable, Reason::ConversationBusy, in_conversation, "retry"),
        (
            Outcome::ConversationIsDirect,
            Code::FailedPrecondition,
            Reason::ConversationIsDirect,
            in_conversation,
            "precondition",
        ),
        (Outcome::RoleInsufficient, Code::PermissionDenied, Reason::RoleInsufficient, of_member, ""),
        (Outcome::MemberNotFound, Code::NotFound, Reason::MemberNotFound, of_member, "resource"),
        (Outcome::LastOwner, Code::FailedPrecondition, Reason::LastOwner, of_member, "precondition"),
        (Outcome::MessageDeleted, Code::FailedPrecondition, Reason::MessageDeleted, of_message, "precondition"),
        (Outcome::NotTheSender, Code::PermissionDenied, Reason::NotTheSender, of_message, ""),
        (Outcome::EtagMismatch, Code::Aborted, Reason::EtagMismatch, &[], ""),
        (Outcome::ConversationIdTaken, Code::AlreadyExists, Reason::ConversationIdTaken, in_conversation, "resource"),
    ] {
        expect(subject.check(outcome).unwrap_err(), code, cause, keys, detail);
    }
    assert!(subject.check(Outcome::Done).is_ok() && subject.check(Outcome::Unchanged).is_ok());
}

#[test]
fn the_member_that_a_write_concerns_is_named_instead_of_the_actor() {
    let ((conversation_id, actor), user_id) = (ids(), UserId::from("bob"));
    let subject = Subject { user_id: &user_id, ..Subject::new(&conversation_id, &actor) };
    let named = |outcome| {
        let status = Status::from(subject.check(outcome).unwrap_err());
        status.get_details_error_info().unwrap().metadata["user_id"].clone()
    };
    assert_eq!((named(Outcome::MemberNotFound), named(Outcome::LastOwner)), ("bob".to_owned(), "bob".to_owned()));
    assert_eq!((named(Outcome::RoleInsufficient), named(Outcome::NotAMember)), ("ada".to_owned(), "ada".to_owned()));
}

#[test]
fn transient_failures_carry_a_retry_delay() {
    let (conversation_id, _) = ids();
    let write = |error| of_write(error, &conversation_id, true);
    for full in [WriteError::QueueFull, WriteError::ShareFull] {
        expect(write(full), Code::ResourceExhausted, Reason::Overloaded, &[], "quota and retry");
    }
    expect(write(WriteError::Draining), Code::Unavailable, Reason::Draining, &[], "retry");
    expect(write(WriteError::Busy), Code::Unavailable, Reason::ConversationBusy, &["conversation_id"], "retry");
    let unavailable = DirectoryError::Unavailable(LookupError::NoAddress);
    expect(unavailable, Code::Unavailable, Reason::UserServiceUnavailable, &[], "retry");
    expect(Failure::not_ready(), Code::Unavailable, Reason::DatabaseUnavailable, &[], "retry");
    let overloaded = Status::from(Failure::from(Refusal::QueueFull));
    assert!(overloaded.get_details_retry_info().is_some());
}

#[test]
fn unavailable_is_returned_only_if_a_retry_is_safe() {
    let (conversation_id, _) = ids();
    let lost = || Arc::new(crate::storage::Error::Timeout { limit: Duration::from_secs(5) });
    let write = |error, is_repeatable| of_write(error, &conversation_id, is_repeatable);
    let unknown = |is_repeatable| write(WriteError::OutcomeUnknown(lost()), is_repeatable);
    expect(unknown(true), Code::Unavailable, Reason::DatabaseUnavailable, &[], "retry");
    expect(unknown(false), Code::Unknown, Reason::OutcomeUnknown, &[], "");
    for is_repeatable in [true, false] {
        let not_stored = write(WriteError::NotStored(lost()), is_repeatable);
        expect(not_stored, Code::Unavailable, Reason::DatabaseUnavailable, &[], "retry");
    }
    let lost_race = || Arc::new(crate::storage::Error::Serialization(sqlx::Error::WorkerCrashed));
    for is_repeatable in [true, false] {
        let not_stored = write(WriteError::NotStored(lost_race()), is_repeatable);
        expect(not_stored, Code::Unavailable, Reason::DatabaseUnavailable, &[], "retry");
    }
    let corrupt = Arc::new(crate::storage::Error::Corrupt("row 7".to_owned()));
    let internal = write(WriteError::NotStored(corrupt), true);
    assert_eq!(Status::from(internal.clone()).message(), "internal error");
    expect(internal, Code::Internal, Reason::Internal, &[], "");
}

#[test]
fn refusals_of_reads_have_their_rows_too() {
    let (conversation_id, _) = ids();
    let at = |number| Position::new(number).unwrap();
    let ahead =
        Refusal::SequenceAhead { conversation_id: conversation_id.clone(), sequence: at(9), last_sequence: at(7) };
    let keys = ["conversation_id", "last_sequence"];
    expect(ahead, Code::FailedPrecondition, Reason::SequenceAhead, &keys, "precondition");
}
