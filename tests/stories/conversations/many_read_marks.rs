//! Many readers move their read marks at once: the marks share transactions, and each caller has its own answer.

use std::collections::HashMap;

use futures_util::future::join_all;
use parlance::message::v1::{
    MarkReadRequest, Member, conversation_service_client::ConversationServiceClient as Conversations,
};
use tonic::{Code, Status, transport::Channel};

use crate::support::{Mode, PATIENCE, World, channel, code_and_reason, eventually, group, refused, retry_delay};

const READERS: usize = 1_000;

async fn mark(
    conversations: &Conversations<Channel>,
    conversation_id: &str,
    actor_id: &str,
    sequence: i64,
) -> Result<Member, Status> {
    let request =
        MarkReadRequest { conversation_id: conversation_id.to_owned(), actor_id: actor_id.to_owned(), sequence };
    Ok(conversations.clone().mark_read(request).await?.into_inner())
}

/// Creates users and a group `g` of all of them, and returns their names.
async fn readers(world: &World, count: usize) -> Vec<String> {
    world.users(&["ann"]).await;
    world.many_users(count as i32).await;
    let names: Vec<String> = (0..count).map(|n| format!("u{n}")).collect();
    world.create(group("g", "ann", &names.iter().map(String::as_str).collect::<Vec<_>>())).await;
    names
}

#[tokio::test]
async fn a_thousand_readers_share_few_transactions() {
    let world = World::new().await;
    let names = readers(&world, READERS).await;
    world.create(channel("open", "ann", &[])).await;
    let head = world.send("g", "ann", "hello").await.sequence;
    let conversations = world.conversations();
    // Some of them ask for what they may not, in between.
    let asked = names.iter().enumerate().map(|(n, name)| {
        let id = match n % 100 {
            7 => "missing",
            8 => "open",
            _ => "g",
        };
        let conversations = &conversations;
        async move { (id, name, mark(conversations, id, name, head).await) }
    });
    let mut marked = 0;
    for (id, name, answer) in join_all(asked).await {
        match id {
            "g" => {
                let member = answer.unwrap();
                let seen = (&member.user_id, member.last_read_sequence, member.unread_count);
                assert_eq!(seen, (name, head, 0));
                marked += 1;
            }
            "missing" => drop(refused(answer, Code::NotFound, "CONVERSATION_NOT_FOUND")),
            _ => drop(refused(answer, Code::PermissionDenied, "NOT_A_MEMBER")),
        }
    }
    // Each row has the transaction that moved its mark.
    let count = "
        SELECT count(*), count(DISTINCT xmin::text)
        FROM parlance_message.members
        WHERE conversation_id = 'g' AND user_id <> 'ann' AND last_read_sequence = $1";
    let mut database = world.database.connect().await;
    let (rows, transactions): (i64, i64) = sqlx::query_as(count).bind(head).fetch_one(&mut database).await.unwrap();
    assert_eq!(rows, marked);
    eprintln!("{transactions} transactions moved {marked} marks");
    assert!(transactions < marked / 3, "{transactions} transactions moved {marked} marks");
}

#[tokio::test]
async fn marks_never_go_back_however_they_race_at_two_replicas() {
    let world = World::new().await;
    let names = readers(&world, 4).await;
    for n in 0..40 {
        world.send("g", "ann", &n.to_string()).await;
    }
    let replica = world.replica().await;
    let replicas = [world.conversations(), replica.conversations()];
    let mut rng = fastrand::Rng::new();
    let asked: Vec<_> = (0..400).map(|n| (n, rng.usize(0..names.len()), rng.i64(6..=45))).collect();
    let highest = asked.iter().fold(HashMap::new(), |mut highest: HashMap<usize, i64>, (_, name, sequence)| {
        highest.entry(*name).and_modify(|known| *known = (*known).max(*sequence)).or_insert(*sequence);
        highest
    });
    let marks = asked.into_iter().map(|(n, name, sequence)| {
        let (conversations, name) = (&replicas[n % 2], &names[name]);
        async move {
            let member = mark(conversations, "g", name, sequence).await.unwrap();
            assert!(member.last_read_sequence >= sequence, "{} of {sequence}", member.last_read_sequence);
            // All but the members' joins are messages.
            assert_eq!(member.unread_count, 45 - member.last_read_sequence);
        }
    });
    join_all(marks).await;
    let members = world.members("g", "ann").await;
    for (name, sequence) in highest {
        let member = members.iter().find(|member| member.user_id == names[name]).unwrap();
        assert_eq!((member.last_read_sequence, member.unread_count), (sequence, 45 - sequence));
    }
}

#[tokio::test]
async fn in_an_outage_every_reader_may_repeat_its_mark() {
    let (world, proxy) = World::with_proxied_database(&["--database-timeout", "1s"]).await;
    let names = readers(&world, 100).await;
    let head = world.send("g", "ann", "hello").await.sequence;
    let conversations = world.conversations();
    let all = async |sequence| join_all(names.iter().map(|name| mark(&conversations, "g", name, sequence))).await;
    // Everybody is known to be active.
    assert!(all(1).await.iter().all(Result::is_ok));
    for outage in [Mode::Closed, Mode::LosingResponses, Mode::Silent] {
        proxy.set(outage);
        for answer in all(head).await {
            let status = answer.unwrap_err();
            assert_eq!(code_and_reason(&status), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()), "{outage:?}");
            assert!(retry_delay(&status).is_some());
        }
    }
    proxy.set(Mode::Open);
    let repeat = || async {
        let answers = all(head).await;
        if answers.iter().all(Result::is_ok) { Ok(()) } else { Err(format!("{answers:?}")) }
    };
    eventually(PATIENCE, repeat).await;
    let members = world.members("g", "ann").await;
    assert!(members.iter().all(|member| member.last_read_sequence == head));
}

#[tokio::test]
async fn a_locked_member_is_busy_and_delays_no_other_reader() {
    let world = World::new().await;
    let names = readers(&world, 50).await;
    let head = world.send("g", "ann", "hello").await.sequence;
    let mut outside = world.database.connect().await;
    let lock = "BEGIN; SELECT FROM parlance_message.members WHERE conversation_id = 'g' AND user_id = 'u7' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut outside).await.unwrap();
    let conversations = world.conversations();
    let marks = names.iter().map(|name| mark(&conversations, "g", name, head));
    for (name, answer) in names.iter().zip(join_all(marks).await) {
        if name == "u7" {
            let status = refused(answer, Code::Unavailable, "CONVERSATION_BUSY");
            assert!(retry_delay(&status).is_some());
        } else {
            assert_eq!(answer.unwrap().last_read_sequence, head);
        }
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut outside).await.unwrap();
    assert_eq!(mark(&conversations, "g", "u7", head).await.unwrap().last_read_sequence, head);
}
