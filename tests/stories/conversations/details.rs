//! `UpdateConversation`: description, avatar and attributes, which change as the title does, and their entry.

use std::collections::BTreeMap;

use parlance::message::v1::{
    Conversation, Event, ListConversationsRequest, MemberRole, SubscribeStart, UpdateConversationRequest, event::Kind,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::support::{Inbox, Reader, Session, World, direct, refused, strings, violated_fields};

fn attributes(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A conversation with these details and no title.
fn details(description: &str, avatar_url: &str, entries: &[(&str, &str)]) -> Conversation {
    Conversation {
        description: description.to_owned(),
        avatar_url: avatar_url.to_owned(),
        attributes: attributes(entries),
        ..Default::default()
    }
}

fn full() -> Conversation {
    Conversation { title: "Title".to_owned(), ..details("About", "https://example.com/a.png", &[("k", "v")]) }
}

async fn update_as(
    world: &World,
    actor_id: &str,
    conversation: Conversation,
    mask: Option<&[&str]>,
) -> Result<Conversation, Status> {
    let id = if conversation.conversation_id.is_empty() { "g" } else { &conversation.conversation_id }.to_owned();
    let request = UpdateConversationRequest {
        conversation: Some(Conversation { conversation_id: id, ..conversation }),
        update_mask: mask.map(|paths| FieldMask { paths: strings(paths) }),
        actor_id: actor_id.to_owned(),
    };
    Ok(world.conversations().update_conversation(request).await?.into_inner())
}

async fn update(world: &World, conversation: Conversation, mask: Option<&[&str]>) -> Result<Conversation, Status> {
    update_as(world, "ann", conversation, mask).await
}

/// The four fields alone.
fn shown(conversation: Conversation) -> Conversation {
    let Conversation { title, description, avatar_url, attributes, .. } = conversation;
    Conversation { title, description, avatar_url, attributes, ..Default::default() }
}

fn updated(event: Event) -> Conversation {
    let Some(Kind::ConversationUpdated(conversation)) = event.kind else { panic!("{event:?}") };
    conversation
}

/// The updates in the log of `g`, each with all four fields.
async fn updates(world: &World) -> Vec<Conversation> {
    world.log("g", "ann").await.into_iter().skip(2).map(|event| shown(updated(event))).collect()
}

#[tokio::test]
async fn one_update_changes_all_four_fields_with_one_entry() {
    let world = World::with_group().await;
    let before = world.conversation("g", "ann").await.unwrap();
    let after = update(&world, full(), None).await.unwrap();
    assert_eq!(shown(after.clone()), full());
    assert_eq!(after.last_sequence, 3);
    assert!(after.etag != before.etag && after.update_time != before.update_time);
    assert_eq!(world.conversation("g", "ben").await.unwrap(), after);
    let inbox = ListConversationsRequest { actor_id: "ben".to_owned(), ..Default::default() };
    let inbox = world.conversations().list_conversations(inbox).await.unwrap().into_inner();
    assert_eq!(inbox.items[0].conversation.as_ref(), Some(&after));

    let entry = updated(world.log("g", "ben").await.remove(2));
    assert_eq!((&entry.etag, entry.update_time), (&after.etag, after.update_time));
    assert_eq!((&*entry.conversation_id, entry.last_sequence), ("g", 0));
    assert_eq!(shown(entry), full());

    // A title alone, and a send: the rest stays.
    let title = Conversation { title: "Other".to_owned(), ..Default::default() };
    let titled = update(&world, title, None).await.unwrap();
    assert_eq!(shown(titled.clone()), Conversation { title: "Other".to_owned(), ..full() });
    world.send("g", "ben", "hello").await;
    let sent = world.conversation("g", "ann").await.unwrap();
    assert_eq!((sent.etag, sent.update_time), (titled.etag, titled.update_time));
}

#[tokio::test]
async fn a_mask_names_the_fields_that_change() {
    let world = World::with_group().await;
    update(&world, full(), None).await.unwrap();
    let other = details("New", "http://example.com/b", &[("other", "")]);
    let described = update(&world, other.clone(), Some(&["description"])).await.unwrap();
    assert_eq!(shown(described), Conversation { description: "New".to_owned(), ..full() });
    // Without a mask, empty fields stay; with one, they are emptied.
    let nothing = update(&world, details("", "", &[]), None).await.unwrap();
    assert_eq!(nothing.last_sequence, 4);
    let without = update(&world, details("", "", &[]), Some(&["avatar_url", "attributes"])).await.unwrap();
    assert_eq!(shown(without), Conversation { title: "Title".to_owned(), ..details("New", "", &[]) });
    let all = update(&world, other.clone(), Some(&["*"])).await.unwrap();
    assert_eq!(shown(all), other);
    assert_eq!(updates(&world).await.len(), 4);
    for path in ["etag", "conversation.description", "creator_id"] {
        let answer = update(&world, full(), Some(&["description", path])).await;
        let fields = violated_fields(&refused(answer, Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert!(fields.len() == 1 && fields[0].starts_with("update_mask"), "{fields:?}");
    }
}

#[tokio::test]
async fn the_bounds_of_each_field_are_enforced() {
    let world = World::with_group().await;
    let url = |bytes: usize| format!("https://example.com/{}", "x".repeat(bytes - 20));
    let keys: Vec<String> = (0..17).map(|n| format!("k{n}")).collect();
    let entries = |count: usize| keys[..count].iter().map(|key| (&**key, "v")).collect::<Vec<_>>();
    let (long, longer) = ("v".repeat(4_095), "v".repeat(4_096));
    for good in [
        details(&"😀".repeat(1_024), "", &[]),
        details("", &url(2_048), &[]),
        details("", "", &entries(16)),
        details("", "", &[("k", &long)]),
    ] {
        assert_eq!(shown(update(&world, good.clone(), Some(&["*"])).await.unwrap()), good);
    }
    let before = world.conversation("g", "ann").await.unwrap();
    for (wrong, field) in [
        (details(&"x".repeat(1_025), "", &[]), "conversation.description"),
        (details("a\0", "", &[]), "conversation.description"),
        (details("", &url(2_049), &[]), "conversation.avatar_url"),
        (details("", "javascript:alert(1)", &[]), "conversation.avatar_url"),
        (details("", "/a.png", &[]), "conversation.avatar_url"),
        (details("", "", &entries(17)), "conversation.attributes"),
        (details("", "", &[("", "v")]), "conversation.attributes"),
        (details("", "", &[("k", &longer)]), "conversation.attributes"),
    ] {
        let status = refused(update(&world, wrong, None).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(violated_fields(&status), [field]);
    }
    let wrong = details(&"x".repeat(1_025), "ftp://example.com", &entries(17));
    let status = refused(update(&world, wrong, None).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    let all = ["conversation.description", "conversation.avatar_url", "conversation.attributes"];
    assert_eq!(violated_fields(&status), all);
    assert_eq!(world.conversation("g", "ann").await.unwrap(), before);
}

#[tokio::test]
async fn an_update_that_changes_nothing_takes_no_sequence() {
    let world = World::with_group().await;
    let first = update(&world, full(), None).await.unwrap();
    assert_eq!(update(&world, full(), Some(&["*"])).await.unwrap(), first);
    let same = Conversation { attributes: attributes(&[("k", "v")]), ..Default::default() };
    assert_eq!(update(&world, same, None).await.unwrap(), first);
    assert_eq!(updates(&world).await, [full()]);
}

#[tokio::test]
async fn a_stale_etag_is_aborted() {
    let world = World::with_group().await;
    let stale = world.conversation("g", "ann").await.unwrap().etag;
    let current = update(&world, details("About", "", &[]), None).await.unwrap().etag;
    let with = |etag: &str| Conversation { etag: etag.to_owned(), ..details("", "", &[("k", "v")]) };
    refused(update(&world, with(&stale), None).await, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(update(&world, with(&current), None).await.unwrap().attributes, attributes(&[("k", "v")]));
}

#[tokio::test]
async fn plain_members_and_direct_conversations_are_refused() {
    let world = World::with_group().await;
    for change in [details("x", "", &[]), details("", "https://x.org", &[]), details("", "", &[("k", "v")])] {
        let answer = update_as(&world, "ben", change.clone(), None).await;
        refused(answer, Code::PermissionDenied, "ROLE_INSUFFICIENT");
        let pair = world.create(direct("ann", "ben")).await.conversation_id;
        let answer = update(&world, Conversation { conversation_id: pair, ..change }, None).await;
        refused(answer, Code::FailedPrecondition, "CONVERSATION_IS_DIRECT");
    }
    world.add("g", "ann", &["cat"], MemberRole::Admin).await.unwrap();
    update_as(&world, "cat", details("x", "", &[]), None).await.unwrap();
}

#[tokio::test]
async fn an_entry_from_before_these_fields_shows_the_title_alone() {
    let world = World::with_group().await;
    update(&world, Conversation { title: "Title".to_owned(), ..Default::default() }, None).await.unwrap();
    let forget = "UPDATE parlance_message.changes SET detail = NULL WHERE kind = 6";
    sqlx::raw_sql(forget).execute(&mut world.database.connect().await).await.unwrap();
    let after = update(&world, details("About", "", &[]), None).await.unwrap();
    let title = Conversation { title: "Title".to_owned(), ..Default::default() };
    assert_eq!(updates(&world).await, [title, shown(after.clone())]);
    assert_eq!(shown(after), Conversation { title: "Title".to_owned(), ..details("About", "", &[]) });
}

#[tokio::test]
async fn every_stream_delivers_an_update_live_and_from_storage() {
    let world = World::with_group().await;
    let replica = world.replica().await;
    let second = details("Second", "", &[]);
    for client in [world.messages(), replica.messages()] {
        let before = update(&world, full(), None).await.unwrap().last_sequence - 1;
        let mut reader = Reader::open(&client, "g", "ben", Some(before)).await.unwrap();
        let mut inbox = Inbox::subscribe(&client, "ben", &[("g", before)], SubscribeStart::Now).await.unwrap();
        let mut session = Session::open(&client, "ben", &[("g", before)], SubscribeStart::Now).await.unwrap();
        for stored in [reader.event().await, inbox.event().await, session.inbox.event().await] {
            assert_eq!(shown(updated(stored)), full());
        }
        let mut from_now = Reader::open(&client, "g", "ben", None).await.unwrap();
        from_now.catch_up().await;
        reader.catch_up().await;
        update(&world, second.clone(), Some(&["*"])).await.unwrap();
        for live in [from_now.event().await, reader.event().await, inbox.event().await, session.inbox.event().await] {
            assert_eq!((live.sequence, shown(updated(live))), (before + 2, second.clone()));
        }
    }
}

#[tokio::test]
async fn large_details_are_cut_into_pages_of_bytes() {
    let world = World::with_group().await;
    let long = "v".repeat(4_000);
    for n in 0..150 {
        let large = details(&format!("{n}{}", "😀".repeat(1_000)), "", &[("k", &long)]);
        update(&world, large, None).await.unwrap();
    }
    let request = parlance::message::v1::ListEventsRequest {
        conversation_id: "g".to_owned(),
        actor_id: "ann".to_owned(),
        page_size: 1_000,
        ..Default::default()
    };
    let page = world.messages().list_events(request).await.unwrap().into_inner();
    assert!((100..150).contains(&page.events.len()), "{} entries in a page", page.events.len());
    assert_eq!(updates(&world).await.len(), 150);
}
