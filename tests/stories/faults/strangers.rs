//! Functions and settings of others in the same database.

use sqlx::Executor;

use crate::support::{RunningMessageService, RunningUserService, TestDatabase, group, message_service_config, send};

/// A function of another role that fits a call of the write path better than PostgreSQL's own, and settings of the database
/// under which it would be found first.
const HOSTILE: &str = "
    CREATE TABLE public.called (by text);
    CREATE FUNCTION public.array_fill(smallint, integer[]) RETURNS smallint[] LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.called SELECT current_user;
        RETURN pg_catalog.array_fill($1, $2);
    END $$;
    CREATE FUNCTION public.array_fill(bigint, integer[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.called SELECT current_user;
        RETURN pg_catalog.array_fill($1, $2);
    END $$;
    CREATE FUNCTION public.hashtextextended(text, integer) RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.called SELECT current_user;
        RETURN 7;
    END $$;
    DO $$
    BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database());
        EXECUTE format('ALTER DATABASE %I SET jit = on', current_database());
        EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = 300', current_database());
    END $$";

#[tokio::test]
async fn functions_and_settings_of_others_have_no_effect() {
    let database = TestDatabase::empty().await;
    database.connect().await.execute(sqlx::raw_sql(HOSTILE)).await.unwrap();
    // Both migrate it, too.
    let user_service = RunningUserService::start(&database).await;
    let address = user_service.address().to_string();
    let message_service = RunningMessageService::start(message_service_config(&database.url(), &address, &[])).await;
    for name in ["ann", "ben"] {
        user_service.create(name).await;
    }
    message_service.conversations().create_conversation(group("g", "ann", &["ben"])).await.unwrap();
    for text in ["a", "b"] {
        message_service.messages().send_message(send("g", "ann", text)).await.unwrap();
    }
    let mut outside = database.connect().await;
    let called: Vec<(String,)> = sqlx::query_as("SELECT by FROM public.called").fetch_all(&mut outside).await.unwrap();
    assert_eq!(called, []);
    // The stray settings do end the test's own session.
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let (count,): (i64,) = sqlx::query_as(sessions).fetch_one(&mut outside).await.unwrap();
    assert!(count > 4, "{count} sessions");
}
