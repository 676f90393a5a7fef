//! All accounts, read in slices for `verify.rs`.

use service_kit::database::{Error, Inspection, Settings, VersionError};

use super::migrations;

/// A user, with the properties that are checked.
#[derive(Debug, sqlx::FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent property of a row")]
pub(crate) struct UserRow {
    pub(crate) user_id: String,
    pub(crate) username_key: String,
    /// The value that `username_key` must have.
    pub(crate) expected_key: String,
    /// Another user with the same key.
    pub(crate) namesake: Option<String>,
    pub(crate) is_deleted: bool,
    /// Personal data is left.
    pub(crate) has_personal: bool,
    pub(crate) has_delete_time: bool,
    pub(crate) is_time_backwards: bool,
}

/// A row of the outbox.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct OutboxRow {
    pub(crate) outbox_id: i64,
    pub(crate) user_id: String,
    pub(crate) is_orphan: bool,
}

// By users_pkey, and users_username_key_key for namesakes.
const USERS: &str = "
    WITH slice AS MATERIALIZED (
        SELECT u.user_id, u.username, u.username_key, u.display_name, u.state, u.request_hash, u.created_at, u.updated_at,
            u.deleted_at
        FROM parlance_user.users AS u
        WHERE u.user_id > $1
        ORDER BY u.user_id
        LIMIT $2
    )
    SELECT s.user_id, s.username_key,
        CASE WHEN s.state = 'deleted' THEN '~' || s.user_id ELSE lower(s.username) END AS expected_key,
        (
            SELECT o.user_id
            FROM parlance_user.users AS o
            WHERE o.username_key = s.username_key AND o.user_id <> s.user_id
            LIMIT 1
        ) AS namesake,
        s.state = 'deleted' AS is_deleted,
        s.username <> '' OR s.display_name <> '' OR s.request_hash IS NOT NULL AS has_personal,
        s.deleted_at IS NOT NULL AS has_delete_time,
        s.updated_at < s.created_at AS is_time_backwards
    FROM slice AS s
    ORDER BY s.user_id";

// By outbox_pkey and users_pkey.
const OUTBOX: &str = "
    WITH slice AS MATERIALIZED (
        SELECT o.outbox_id, o.user_id
        FROM parlance_user.outbox AS o
        WHERE o.outbox_id > $1
        ORDER BY o.outbox_id
        LIMIT $2
    )
    SELECT s.outbox_id, s.user_id, u.user_id IS NULL AS is_orphan
    FROM slice AS s
    LEFT JOIN parlance_user.users AS u ON u.user_id = s.user_id
    ORDER BY s.outbox_id";

const HAS_KEY: &str = "SELECT count(*) = 1 FROM parlance_user.settings WHERE name = 'page_token_key'";

/// Connects to the database of these settings.
pub(crate) async fn open(settings: &Settings, slice: u32) -> Result<Inspection, VersionError> {
    Inspection::open(settings, &migrations::schema(), slice).await
}

/// Returns users after one, by id.
pub(crate) async fn read_users(inspection: &mut Inspection, after: &str) -> Result<Vec<UserRow>, Error> {
    let limit = i64::from(inspection.slice());
    inspection.fetch_all(sqlx::query_as(USERS).bind(after).bind(limit)).await
}

/// Returns rows of the outbox after one.
pub(crate) async fn read_outbox(inspection: &mut Inspection, after: i64) -> Result<Vec<OutboxRow>, Error> {
    let limit = i64::from(inspection.slice());
    inspection.fetch_all(sqlx::query_as(OUTBOX).bind(after).bind(limit)).await
}

/// True if the settings that all replicas share exist.
pub(crate) async fn has_settings(inspection: &mut Inspection) -> Result<bool, Error> {
    let rows: Vec<(bool,)> = inspection.fetch_all(sqlx::query_as(HAS_KEY)).await?;
    Ok(rows == [(true,)])
}
