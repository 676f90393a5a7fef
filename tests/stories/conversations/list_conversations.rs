//! `ListConversations`: order by activity, unread counts, previews, paging.

use parlance::message::v1::{
    DeleteMessageRequest, ListConversationsRequest, ListConversationsResponse, MemberRole,
    list_conversations_response::Item,
};
use tonic::{Code, Status};

use crate::support::{World, channel, direct, group, refused, violated_fields};

fn request(actor_id: &str, page_size: i32, page_token: &str) -> ListConversationsRequest {
    ListConversationsRequest { actor_id: actor_id.to_owned(), page_size, page_token: page_token.to_owned() }
}

async fn list(world: &World, request: ListConversationsRequest) -> Result<ListConversationsResponse, Status> {
    Ok(world.conversations().list_conversations(request).await?.into_inner())
}

async fn inbox(world: &World, actor_id: &str) -> Vec<Item> {
    list(world, request(actor_id, 0, "")).await.unwrap().items
}

fn ids(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| item.conversation.as_ref().unwrap().conversation_id.clone()).collect()
}

async fn delete(world: &World, conversation_id: &str, sequence: i64) {
    let request =
        DeleteMessageRequest { conversation_id: conversation_id.to_owned(), actor_id: "ann".to_owned(), sequence };
    world.messages().delete_message(request).await.unwrap();
}

#[tokio::test]
async fn conversations_are_listed_by_latest_activity_with_unread_counts_and_a_preview() {
    let world = World::with_group().await;
    world.create(channel("news", "ann", &["ben"])).await;
    let pair = world.create(direct("ben", "ann")).await.conversation_id;
    assert_eq!(ids(&inbox(&world, "ben").await), [pair.as_str(), "news", "g"]);

    world.send("g", "ann", "first").await;
    world.send("g", "ann", "last").await;
    world.send("news", "ben", "mine").await;
    let items = inbox(&world, "ben").await;
    assert_eq!(ids(&items), ["news", "g", pair.as_str()]);
    let unread: Vec<i64> = items.iter().map(|item| item.membership.as_ref().unwrap().unread_count).collect();
    assert_eq!(unread, [0, 2, 0]);
    let previews: Vec<_> =
        items.iter().map(|item| item.last_message.as_ref().map(|message| message.text.as_str())).collect();
    assert_eq!(previews, [Some("mine"), Some("last"), None]);
    assert!(items.iter().all(|item| item.membership.as_ref().unwrap().user_id == "ben"));
    assert_eq!(items[1].conversation, Some(world.conversation("g", "ben").await.unwrap()));

    // A join or a new title is no activity; a deletion shows in the preview, and the order stays.
    world.add("g", "ann", &["cat"], MemberRole::Member).await.unwrap();
    delete(&world, "g", 4).await;
    let items = inbox(&world, "ben").await;
    assert_eq!(ids(&items), ["news", "g", pair.as_str()]);
    let preview = items[1].last_message.clone().unwrap();
    assert!(preview.text.is_empty() && preview.delete_time.is_some() && preview.sequence == 4);
}

#[tokio::test]
async fn only_conversations_of_the_member_are_listed() {
    let world = World::with_group().await;
    world.create(channel("news", "ann", &[])).await;
    assert_eq!(ids(&inbox(&world, "ben").await), ["g"]);
    assert!(inbox(&world, "cat").await.is_empty());
    world.remove("g", "ben", "ben").await.unwrap();
    assert!(inbox(&world, "ben").await.is_empty());
}

#[tokio::test]
async fn a_page_token_continues_on_any_replica() {
    let world = World::with_group().await;
    for n in 0..7 {
        world.create(group(&format!("g{n}"), "ann", &[])).await;
    }
    let replica = world.replica().await;
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let mut client = if pages % 2 == 0 { world.conversations() } else { replica.conversations() };
        let page = client.list_conversations(request("ann", 3, &token)).await.unwrap().into_inner();
        seen.extend(ids(&page.items));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), (["g6", "g5", "g4", "g3", "g2", "g1", "g0", "g"].map(str::to_owned).to_vec(), 3));
}

#[tokio::test]
async fn a_page_token_is_valid_for_its_arguments_only() {
    let world = World::with_group().await;
    world.create(group("h", "ann", &["ben"])).await;
    let token = list(&world, request("ann", 1, "")).await.unwrap().next_page_token;
    assert_eq!(ids(&list(&world, request("ann", 5, &token)).await.unwrap().items), ["g"]);
    for bad in [request("ben", 1, &token), request("ann", 1, &format!("{token}A")), request("ann", 1, "x")] {
        refused(list(&world, bad).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    let status = refused(list(&world, request("", -1, "")).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(violated_fields(&status), ["actor_id", "page_size"]);
    refused(list(&world, request("missing", 0, "")).await, Code::NotFound, "USER_NOT_FOUND");
}
