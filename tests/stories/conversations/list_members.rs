//! `ListMembers`: order, paging, permissions.

use parlance::message::v1::ListMembersRequest;
use tonic::Code;

use crate::support::{World, channel, metadata, refused, violated_fields};

fn request(actor_id: &str, page_size: i32, page_token: &str) -> ListMembersRequest {
    ListMembersRequest {
        conversation_id: "g".to_owned(),
        actor_id: actor_id.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    }
}

#[tokio::test]
async fn members_are_ordered_by_id_in_pages_that_any_replica_continues() {
    let world = World::new().await;
    let names = ["ann", "Ben", "cat", "dan", "eve"];
    world.users(&names).await;
    world.create(crate::support::group("g", "ann", &names[1..])).await;
    let replica = world.replica().await;
    let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let mut client = if pages % 2 == 0 { world.conversations() } else { replica.conversations() };
        // The page size may change between pages.
        let page = client.list_members(request("cat", 1 + pages % 2, &token)).await.unwrap().into_inner();
        assert!(page.members.len() as i32 <= 1 + pages % 2);
        seen.extend(page.members.into_iter().map(|member| member.user_id));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["Ben", "ann", "cat", "dan", "eve"]);
    assert!(pages >= 3);
}

#[tokio::test]
async fn a_page_token_is_valid_for_its_arguments_only() {
    let world = World::with_group().await;
    world.create(crate::support::group("other", "ann", &["ben"])).await;
    let page = world.conversations().list_members(request("ann", 1, "")).await.unwrap().into_inner();
    let token = page.next_page_token;
    let mut tampered = token.clone().into_bytes();
    let last = tampered.len() - 1;
    tampered[last] = if tampered[last] == b'A' { b'Q' } else { b'A' };
    for bad in [
        request("ben", 1, &token),
        ListMembersRequest { conversation_id: "other".to_owned(), ..request("ann", 1, &token) },
        request("ann", 1, &String::from_utf8(tampered).unwrap()),
        request("ann", 1, "nonsense"),
    ] {
        refused(world.conversations().list_members(bad).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
    let status = refused(
        world.conversations().list_members(request("ann", -1, "")).await,
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
    );
    assert_eq!(violated_fields(&status), ["page_size"]);
}

#[tokio::test]
async fn only_members_of_a_channel_may_list_its_members() {
    let world = World::with_group().await;
    world.create(channel("news", "ann", &["ben"])).await;
    let asked = |actor: &str| ListMembersRequest { conversation_id: "news".to_owned(), ..request(actor, 0, "") };
    assert_eq!(world.conversations().list_members(asked("ben")).await.unwrap().into_inner().members.len(), 2);
    let status =
        refused(world.conversations().list_members(asked("cat")).await, Code::PermissionDenied, "NOT_A_MEMBER");
    assert_eq!(metadata(&status, "user_id"), "cat");
}
