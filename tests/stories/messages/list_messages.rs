//! `ListMessages`: both orders, ranges, pages, size limits, tokens.

use parlance::message::v1::{ListMessagesRequest, ListMessagesResponse, MemberRole, MessageOrder};
use prost::Message;
use tonic::{Code, Status};

use crate::support::{World, group, refused, violated_fields};

fn request() -> ListMessagesRequest {
    ListMessagesRequest { conversation_id: "g".to_owned(), actor_id: "ben".to_owned(), ..Default::default() }
}

async fn list(world: &World, request: &ListMessagesRequest) -> Result<ListMessagesResponse, Status> {
    Ok(world.messages().list_messages(request.clone()).await?.into_inner())
}

async fn sequences(world: &World, request: &ListMessagesRequest) -> Vec<i64> {
    list(world, request).await.unwrap().messages.iter().map(|message| message.sequence).collect()
}

/// Messages at 3, 4, 6, 7, 8; 5 is a join.
async fn with_messages() -> World {
    let world = World::with_group().await;
    world.send("g", "ann", "a").await;
    world.send("g", "ben", "b").await;
    world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
    for text in ["c", "d", "e"] {
        world.send("g", "ann", text).await;
    }
    world
}

#[tokio::test]
async fn messages_are_listed_newest_first_by_default() {
    let world = with_messages().await;
    let page = list(&world, &request()).await.unwrap();
    assert_eq!((page.oldest_sequence, page.last_sequence, &*page.next_page_token), (1, 8, ""));
    assert_eq!(sequences(&world, &request()).await, [8, 7, 6, 4, 3]);
    let oldest = ListMessagesRequest { order: MessageOrder::OldestFirst.into(), ..request() };
    assert_eq!(sequences(&world, &oldest).await, [3, 4, 6, 7, 8]);
    let newest = ListMessagesRequest { order: MessageOrder::NewestFirst.into(), ..request() };
    assert_eq!(sequences(&world, &newest).await, [8, 7, 6, 4, 3]);
}

#[tokio::test]
async fn tombstones_are_listed() {
    let world = with_messages().await;
    super::delete(&world, "g", 4, "ben").await.unwrap();
    let page = list(&world, &request()).await.unwrap();
    assert!(page.messages[3].delete_time.is_some() && page.messages[3].text.is_empty());
    assert_eq!((page.messages.len(), page.last_sequence), (5, 9));
}

#[tokio::test]
async fn a_range_excludes_its_ends() {
    let world = with_messages().await;
    for (after, before, expected) in [
        (Some(0), Some(9), vec![8, 7, 6, 4, 3]),
        (Some(3), None, vec![8, 7, 6, 4]),
        (None, Some(7), vec![6, 4, 3]),
        (Some(4), Some(8), vec![7, 6]),
        (Some(5), Some(6), vec![]),
        (Some(8), None, vec![]),
        (Some(7), Some(3), vec![]),
        (Some(i64::MAX), None, vec![]),
        (None, Some(i64::MAX), vec![8, 7, 6, 4, 3]),
        (None, Some(0), vec![]),
    ] {
        let mut asked = ListMessagesRequest { after_sequence: after, before_sequence: before, ..request() };
        assert_eq!(sequences(&world, &asked).await, expected, "{after:?} {before:?}");
        asked.order = MessageOrder::OldestFirst.into();
        let turned: Vec<i64> = expected.into_iter().rev().collect();
        assert_eq!(sequences(&world, &asked).await, turned, "{after:?} {before:?}");
    }
}

#[tokio::test]
async fn a_page_token_continues_on_any_replica() {
    let world = with_messages().await;
    let replica = world.replica().await;
    for (order, expected) in
        [(MessageOrder::NewestFirst, [8, 7, 6, 4, 3]), (MessageOrder::OldestFirst, [3, 4, 6, 7, 8])]
    {
        let mut asked = ListMessagesRequest { order: order.into(), page_size: 2, ..request() };
        let mut seen = Vec::new();
        for page in 0.. {
            let mut client = if page % 2 == 0 { world.messages() } else { replica.messages() };
            let answer = client.list_messages(asked.clone()).await.unwrap().into_inner();
            assert!(answer.messages.len() <= 2);
            seen.extend(answer.messages.iter().map(|message| message.sequence));
            asked.page_token = answer.next_page_token;
            if asked.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn a_page_ends_at_about_a_mebibyte() {
    let world = World::with_group().await;
    // 80 of 16 KiB: 1.25 MiB.
    let text = "x".repeat(16_384);
    let sends = (0..80).map(|_| world.send("g", "ann", &text));
    futures_util::future::join_all(sends).await;
    let asked = ListMessagesRequest { page_size: 1000, ..request() };
    let first = list(&world, &asked).await.unwrap();
    let size = first.encoded_len();
    assert!((800_000..1_200_000).contains(&size), "{size} bytes in {} messages", first.messages.len());
    assert!(!first.next_page_token.is_empty());
    let rest = list(&world, &ListMessagesRequest { page_token: first.next_page_token, ..asked }).await.unwrap();
    let all: Vec<i64> = first.messages.iter().chain(&rest.messages).map(|message| message.sequence).collect();
    assert_eq!(all, (3..=82).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_token_is_valid_for_its_arguments_only() {
    let world = with_messages().await;
    world.create(group("h", "ben", &[])).await;
    let asked = ListMessagesRequest { page_size: 1, after_sequence: Some(1), ..request() };
    let token = list(&world, &asked).await.unwrap().next_page_token;
    let next = ListMessagesRequest { page_token: token.clone(), ..asked };
    assert_eq!(sequences(&world, &next).await, [7]);
    assert_eq!(sequences(&world, &ListMessagesRequest { page_size: 9, ..next.clone() }).await, [7, 6, 4, 3]);
    for bad in [
        ListMessagesRequest { order: MessageOrder::OldestFirst.into(), ..next.clone() },
        ListMessagesRequest { after_sequence: None, ..next.clone() },
        ListMessagesRequest { before_sequence: Some(8), ..next.clone() },
        ListMessagesRequest { actor_id: "ann".to_owned(), ..next.clone() },
        ListMessagesRequest { conversation_id: "h".to_owned(), ..next.clone() },
        ListMessagesRequest { page_token: "nonsense".to_owned(), ..next.clone() },
        ListMessagesRequest { page_token: token[..token.len() - 2].to_owned(), ..next.clone() },
    ] {
        refused(list(&world, &bad).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = with_messages().await;
    let bad = ListMessagesRequest {
        page_size: -1,
        after_sequence: Some(-1),
        before_sequence: Some(-1),
        order: 7,
        ..request()
    };
    let mut fields = violated_fields(&refused(list(&world, &bad).await, Code::InvalidArgument, "INVALID_ARGUMENT"));
    fields.sort();
    assert_eq!(fields, ["after_sequence", "before_sequence", "order", "page_size"]);
}
