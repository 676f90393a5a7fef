//! Settings that all replicas share: rows of `parlance_user.settings`.

use service_kit::database::{Database, Error};

// By settings_pkey.
const FIND_PAGE_TOKEN_KEY: &str = "
    SELECT value
    FROM parlance_user.settings
    WHERE name = 'page_token_key'";

/// Returns the key that page tokens are signed with, which the migration has created.
pub(super) async fn find_page_token_key(database: &Database) -> Result<[u8; 32], Error> {
    let row: Option<(Vec<u8>,)> = database.fetch_optional(sqlx::query_as(FIND_PAGE_TOKEN_KEY)).await?;
    row.and_then(|(value,)| value.try_into().ok())
        .ok_or_else(|| Error::Corrupt("parlance_user.settings has no page_token_key of 32 bytes".to_owned()))
}
