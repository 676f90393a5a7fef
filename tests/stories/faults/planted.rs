//! The stories themselves are tested: each runs again with a planted bug, and must find it.

use std::time::Duration;

use parlance_checker::{Kind, Violation};

use super::{
    connections_killed::connections_killed, many_processes::send_concurrently, process_killed::killed_under_load,
    replicas,
};

/// For events that must not happen.
const PATIENCE: Duration = Duration::from_secs(2);

fn assert_found(violations: &[Violation], kind: Kind) {
    let first: Vec<String> = violations.iter().take(10).map(ToString::to_string).collect();
    let count = violations.iter().filter(|violation| violation.kind == kind).count();
    assert!(count > 0, "no {kind:?} among {}:\n{}", violations.len(), first.join("\n"));
    eprintln!("{count} x {kind:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_before_the_commit_is_found() {
    assert_found(&killed_under_load(Some("AckBeforeCommit"), 4, 48, PATIENCE).await.1, Kind::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_off_by_one_resume_position_is_found() {
    assert_found(&killed_under_load(Some("ResumeOffByOne"), 6, 48, PATIENCE).await.1, Kind::Gap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_before_the_commit_is_found() {
    assert_found(&connections_killed(Some("PublishBeforeCommit"), 5, 24, PATIENCE).await.1, Kind::Phantom);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swallowed_error_is_found() {
    assert_found(&connections_killed(Some("SwallowedError"), 5, 24, PATIENCE).await.1, Kind::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_check_before_the_lock_is_found() {
    // `append_v1` with two steps in the other order, and without the constraint that would refuse the duplicate.
    const PREPARE: &str = r"
        ALTER TABLE parlance_message.messages DROP CONSTRAINT messages_request_id_key;
        CREATE INDEX ON parlance_message.messages (conversation_id, sender_id, request_id);
        DO $do$
        DECLARE
            v_source text;
            v_search text;
        BEGIN
            v_source := pg_get_functiondef('parlance_message.append_v1'::regproc);
            v_search := substring(v_source FROM '(-- Known request ids come.*)-- What is answered must');
            v_source := replace(v_source, v_search, '');
            -- The pause outlasts the offset between the two processes on a busy machine, so both are between the two steps
            -- at once.
            v_source := replace(v_source, '-- Lock, in one order',
                v_search || E'\nPERFORM pg_sleep(0.2);\n-- Lock, in one order');
            ASSERT position(v_search IN v_source) < position('FOR NO KEY UPDATE' IN v_source);
            EXECUTE v_source;
        END;
        $do$";
    assert_found(&send_concurrently(Some(PREPARE), 400, PATIENCE).await.1, Kind::Duplicate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_hint_is_found() {
    assert_found(&replicas::hints_with_gaps(Some("HintTrusted"), PATIENCE).await, Kind::Gap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_believed_hint_at_head_plus_one_is_found() {
    assert_found(&replicas::heads_ahead_of_storage(Some("HeadBelieved"), PATIENCE).await, Kind::Gap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_the_outbox_by_number_is_found() {
    let open_for = Duration::from_secs(1);
    assert_found(&replicas::late_commit(Some("OutboxByNumber"), open_for, PATIENCE).await, Kind::Lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reordered_batch_is_found() {
    assert_found(&replicas::pipelined(Some("BatchReversed"), PATIENCE).await, Kind::Reorder);
}
