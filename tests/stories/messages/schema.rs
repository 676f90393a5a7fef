//! The SQL functions behind every change, called directly: with the calls of older binaries, with those of this one, and
//! with invalid ones. Then the migration of a database with data of an older version.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{PgConnection, types::Json};

use crate::support::TestDatabase;

const GROUP: i16 = 2;
const DIRECT: i16 = 1;
const CHANNEL: i16 = 3;

/// A migrated database without services: `d` is DIRECT, `g` a GROUP, `h` a CHANNEL, each of ann and ben.
async fn database() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::migrated().await;
    let mut connection = database.connect().await;
    for (id, kind) in [("d", DIRECT), ("g", GROUP), ("h", CHANNEL)] {
        create(&mut connection, id, kind).await;
    }
    (database, connection)
}

async fn create(connection: &mut PgConnection, id: &str, kind: i16) {
    let (outcome,): (i16,) = sqlx::query_as(
        "SELECT outcome
         FROM parlance_message.create_conversation_v1($1, $2, 'old', 'ann', '{ben}', $1, substr(sha256(''), 1, 16))",
    )
    .bind(id)
    .bind(kind)
    .fetch_one(connection)
    .await
    .unwrap();
    assert_eq!(outcome, 1);
}

/// Calls `append_v1` with these changes of one conversation; returns their outcomes.
async fn append(connection: &mut PgConnection, id: &str, changes: &[Value]) -> Result<Vec<i16>, sqlx::Error> {
    let changes: Vec<Value> = changes
        .iter()
        .map(|change| {
            let mut change = change.clone();
            change["c"] = 1.into();
            change
        })
        .collect();
    sqlx::query_scalar(
        "SELECT change_outcome
         FROM parlance_message.append_v1(ARRAY[$1], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', $2, false)",
    )
    .bind(id)
    .bind(Json(changes))
    .fetch_one(connection)
    .await
}

/// Appends one change; returns its outcome.
async fn outcome(connection: &mut PgConnection, id: &str, change: Value) -> i16 {
    append(connection, id, &[change]).await.unwrap()[0]
}

/// The entries of a conversation after the first two, which are the joins: sequence, kind, title, version, detail.
type Entry = (i64, i16, Option<String>, Option<i64>, Option<Json<Value>>);

async fn entries(connection: &mut PgConnection, id: &str) -> Vec<Entry> {
    sqlx::query_as(
        "SELECT sequence, kind, title, version, detail FROM parlance_message.changes
         WHERE conversation_id = $1 AND sequence > 2 ORDER BY sequence",
    )
    .bind(id)
    .fetch_all(connection)
    .await
    .unwrap()
}

fn updated(sequence: i64, title: &str, version: i64, detail: Value) -> Entry {
    (sequence, 6, Some(title.to_owned()), Some(version), Some(Json(detail)))
}

/// Title, description, avatar, attributes, version and head of a conversation, and whether only its creation set its
/// update time.
type Row = (String, String, String, Option<Json<Value>>, i64, i64, bool);

async fn row(connection: &mut PgConnection, id: &str) -> Row {
    sqlx::query_as(
        "SELECT title, description, avatar_url, attributes, version, last_sequence, updated_at = created_at
         FROM parlance_message.conversations WHERE conversation_id = $1",
    )
    .bind(id)
    .fetch_one(connection)
    .await
    .unwrap()
}

fn untouched() -> Row {
    ("old".to_owned(), String::new(), String::new(), None, 1, 2, true)
}

#[tokio::test]
async fn an_unknown_kind_of_change_raises_and_nothing_is_stored() {
    let (_database, mut connection) = database().await;
    let good = json!({ "kind": "title", "actor": "ann", "title": "new" });
    for (kind, words) in [(json!("pin"), "pin"), (json!(""), ""), (json!("Title"), "Title"), (Value::Null, "<NULL>")] {
        for id in ["d", "g", "h"] {
            let unknown = json!({ "kind": kind, "actor": "ann", "title": "new" });
            let error = append(&mut connection, id, &[good.clone(), unknown, good.clone()]).await.unwrap_err();
            let error = error.into_database_error().unwrap();
            assert_eq!(error.code().as_deref(), Some("22023"), "{error}");
            assert_eq!(error.message(), format!("unknown kind of change: {words}"));
        }
    }
    for id in ["d", "g", "h"] {
        assert_eq!(entries(&mut connection, id).await, []);
        assert_eq!(row(&mut connection, id).await, untouched());
    }
    let (rows,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM parlance_message.outbox").fetch_one(&mut connection).await.unwrap();
    assert_eq!(rows, 3, "more than the three creations");
}

#[tokio::test]
async fn a_title_from_an_older_binary_leaves_an_entry_with_the_whole_state() {
    let (_database, mut connection) = database().await;
    let title = json!({ "kind": "title", "actor": "ann", "title": "new", "version": 1 });
    assert_eq!(outcome(&mut connection, "g", title.clone()).await, 1);
    assert_eq!(outcome(&mut connection, "g", title).await, 14);
    let again = json!({ "kind": "title", "actor": "ann", "title": "new", "version": null });
    assert_eq!(outcome(&mut connection, "g", again).await, 2);

    let described =
        json!({ "kind": "conversation", "actor": "ann", "description": "About.", "attributes": { "a": "b" } });
    assert_eq!(outcome(&mut connection, "g", described).await, 1);
    let newer = json!({ "kind": "title", "actor": "ann", "title": "newer", "version": 3 });
    assert_eq!(outcome(&mut connection, "g", newer).await, 1);

    let described = json!({ "description": "About.", "avatar_url": "", "attributes": { "a": "b" } });
    assert_eq!(
        entries(&mut connection, "g").await,
        [
            updated(3, "new", 2, json!({ "description": "", "avatar_url": "", "attributes": {} })),
            updated(4, "new", 3, described.clone()),
            updated(5, "newer", 4, described),
        ]
    );
}

#[tokio::test]
async fn several_fields_of_a_conversation_change_in_one_entry() {
    let (_database, mut connection) = database().await;
    let all = json!({
        "kind": "conversation", "actor": "ann", "version": 1, "title": "new", "description": "About.",
        "avatar_url": "https://example.com/a.png", "attributes": { "a": "b" },
    });
    assert_eq!(outcome(&mut connection, "g", all).await, 1);
    let attributes = Some(Json(json!({ "a": "b" })));
    let avatar_url = "https://example.com/a.png".to_owned();
    let changed = ("new".to_owned(), "About.".to_owned(), avatar_url.clone(), attributes, 2, 3, false);
    assert_eq!(row(&mut connection, "g").await, changed);

    // What is absent or null stays; an empty text and no attributes are values like others.
    let emptied = json!({
        "kind": "conversation", "actor": "ann", "version": null, "title": null, "description": "", "attributes": {},
    });
    assert_eq!(outcome(&mut connection, "g", emptied).await, 1);
    let changed = ("new".to_owned(), String::new(), avatar_url.clone(), None, 3, 4, false);
    assert_eq!(row(&mut connection, "g").await, changed);

    let details = [
        json!({ "description": "About.", "avatar_url": avatar_url, "attributes": { "a": "b" } }),
        json!({ "description": "", "avatar_url": avatar_url, "attributes": {} }),
    ];
    let [first, second] = details;
    assert_eq!(entries(&mut connection, "g").await, [updated(3, "new", 2, first), updated(4, "new", 3, second)]);
}

#[tokio::test]
async fn a_refused_or_empty_change_of_a_conversation_takes_no_sequence() {
    let (_database, mut connection) = database().await;
    let change = |actor: &str, fields: Value| {
        let mut change = json!({ "kind": "conversation", "actor": actor });
        change.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        change
    };
    let new = || json!({ "description": "new" });
    for (id, change, expected) in [
        ("g", change("ann", json!({})), 2),
        ("g", change("ann", json!({ "version": 1 })), 2),
        ("g", change("ann", json!({ "title": "old", "description": "", "avatar_url": "", "attributes": {} })), 2),
        ("g", change("ann", json!({ "description": "new", "version": 2 })), 14),
        ("g", change("ann", json!({ "version": 2 })), 14),
        ("g", change("ben", new()), 9),
        ("g", change("ben", json!({ "description": "new", "version": 2 })), 9),
        ("g", change("cat", new()), 4),
        ("h", change("cat", new()), 5),
        ("nowhere", change("ann", new()), 4),
        ("d", change("ann", new()), 8),
        ("d", change("cat", new()), 4),
    ] {
        assert_eq!(outcome(&mut connection, id, change.clone()).await, expected, "{id}: {change}");
    }
    for too_much in [
        json!({ "description": "é".repeat(1025) }),
        json!({ "avatar_url": "é".repeat(1025) }),
        json!({ "title": "é".repeat(257) }),
        json!({ "attributes": ["a"] }),
    ] {
        let error = append(&mut connection, "g", &[change("ann", too_much)]).await.unwrap_err();
        assert_eq!(error.into_database_error().unwrap().code().as_deref(), Some("23514"));
    }
    for id in ["d", "g", "h"] {
        assert_eq!(entries(&mut connection, id).await, []);
        assert_eq!(row(&mut connection, id).await, untouched());
    }
    let most = json!({ "description": "é".repeat(1024), "avatar_url": "é".repeat(1024) });
    assert_eq!(outcome(&mut connection, "g", change("ann", most)).await, 1);
}

/// Verb, target roles (0 = none), and whether an owner, an admin and a member may.
type Rule = (&'static str, &'static [i16], [bool; 3]);

const RULES: [Rule; 12] = [
    ("read", &[0, 1, 2, 3], [true, true, true]),
    ("send_message", &[0, 1, 2, 3], [true, true, true]),
    ("edit_own_message", &[0, 1, 2, 3], [true, true, true]),
    ("delete_own_message", &[0, 1, 2, 3], [true, true, true]),
    ("delete_message", &[0, 1, 2, 3], [true, true, false]),
    ("update_conversation", &[0, 1, 2, 3], [true, true, false]),
    ("add_member", &[0, 1, 2], [true, false, false]),
    ("add_member", &[3], [true, true, false]),
    ("remove_member", &[0, 1, 2], [true, false, false]),
    ("remove_member", &[3], [true, true, false]),
    ("update_role", &[0, 1, 2, 3], [true, false, false]),
    ("no_such_verb", &[0, 1, 2, 3], [false, false, false]),
];

#[tokio::test]
async fn the_database_has_the_documented_table_of_roles() {
    let (_database, mut connection) = database().await;
    // Roles that do not exist, and no role, may do nothing.
    let nothing = [(None, false), (Some(0), false), (Some(4), false)];
    for (verb, targets, allowed) in RULES {
        let roles = [Some(1), Some(2), Some(3)].into_iter().zip(allowed).chain(nothing);
        for (role, expected) in roles {
            for target in targets {
                let may: Option<bool> =
                    sqlx::query_scalar("SELECT parlance_message.may_v1($1, $2, nullif($3, 0::int2))")
                        .bind::<Option<i16>>(role)
                        .bind(verb)
                        .bind(target)
                        .fetch_one(&mut connection)
                        .await
                        .unwrap();
                assert_eq!(may, Some(expected), "{role:?} {verb} {target}");
            }
        }
    }
}

#[tokio::test]
async fn a_database_of_the_first_version_is_migrated_while_it_is_read() {
    let database = TestDatabase::empty().await;
    let mut connection = database.connect().await;
    for statement in [
        "CREATE SCHEMA parlance_message",
        include_str!("../../../migrations/message/V1__create_conversations_and_log.sql"),
        include_str!("../../../migrations/message/V2__create_append_v1.sql"),
    ] {
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
    create(&mut connection, "g", GROUP).await;
    let title = |title: &str| json!({ "kind": "title", "actor": "ann", "title": title, "version": null });
    assert_eq!(outcome(&mut connection, "g", title("before")).await, 1);

    // As a backup does: the migration neither fails nor keeps sends waiting behind it.
    let mut reader = database.connect().await;
    let read = "BEGIN; SELECT FROM parlance_message.changes; SELECT FROM parlance_message.conversations";
    sqlx::raw_sql(read).execute(&mut reader).await.unwrap();
    let migrating = async {
        let mut migrating = database.connect().await;
        for statement in [
            concat!("BEGIN;", include_str!("../../../migrations/message/V3__split_changes_by_kind.sql"), "COMMIT;"),
            include_str!("../../../migrations/message/V4__validate_checks.sql"),
        ] {
            sqlx::raw_sql(statement).execute(&mut migrating).await.unwrap();
        }
    };
    let writing = async {
        let began = Instant::now();
        let mut slowest = Duration::ZERO;
        for n in 0.. {
            let asked = Instant::now();
            assert_eq!(outcome(&mut connection, "g", title(&format!("during {n}"))).await, 1);
            slowest = slowest.max(asked.elapsed());
            if began.elapsed() > Duration::from_millis(1500) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
        slowest
    };
    let ((), slowest) = tokio::join!(migrating, writing);
    assert!(slowest < Duration::from_secs(1), "a change waited for {slowest:?}");

    // The same session, whose functions were planned before.
    assert_eq!(outcome(&mut connection, "g", title("after")).await, 1);
    let log = entries(&mut connection, "g").await;
    assert_eq!(log[0], (3, 6, Some("before".to_owned()), Some(2), None));
    assert!(log[..log.len() - 1].iter().all(|entry| entry.4.is_none()), "{log:?}");
    let version = log.len() as i64 + 1;
    let detail = json!({ "description": "", "avatar_url": "", "attributes": {} });
    assert_eq!(*log.last().unwrap(), updated(version + 1, "after", version, detail));
    assert_eq!(row(&mut connection, "g").await.4, version);
}
