//! The directory against a user-service that counts what it is asked, can be told to fail, and can be slow.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use parlance::user::v1::{
    BatchGetUsersRequest, BatchGetUsersResponse, GetUserRequest, Ready, User, UserState, WatchUsersRequest,
    WatchUsersResponse,
    user_service_server::{UserService, UserServiceServer},
    watch_users_response::Item,
};
use tokio::sync::broadcast;
use tonic::{
    Request, Response, Status, async_trait,
    codegen::BoxStream,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::domain::{ids::UserId, refusal::Refusal};

/// Users are active unless their id begins with another word. It refuses calls while it is away, and tells watchers what a
/// test has it tell.
#[derive(Debug, Clone)]
struct Users(Arc<Counts>);

impl Default for Users {
    fn default() -> Self {
        Self(Arc::new(Counts {
            gets: AtomicU32::default(),
            batches: AtomicU32::default(),
            refusals_left: AtomicU32::default(),
            is_away: AtomicBool::default(),
            is_slow: AtomicBool::default(),
            told: broadcast::Sender::new(16),
        }))
    }
}

#[derive(Debug)]
struct Counts {
    gets: AtomicU32,
    batches: AtomicU32,
    refusals_left: AtomicU32,
    is_away: AtomicBool,
    is_slow: AtomicBool,
    told: broadcast::Sender<Item>,
}

impl Users {
    fn find(user_id: &str) -> Option<User> {
        let state = match user_id.split('-').next() {
            Some("nobody") => return None,
            Some("deactivated") => UserState::Deactivated,
            Some("deleted") => UserState::Deleted,
            _ => UserState::Active,
        };
        Some(User { user_id: user_id.to_owned(), state: state.into(), ..User::default() })
    }

    fn gets(&self) -> u32 {
        self.0.gets.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl UserService for Users {
    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<User>, Status> {
        self.0.gets.fetch_add(1, Ordering::SeqCst);
        assert!(request.metadata().contains_key("grpc-timeout"));
        let wait = if self.0.is_slow.load(Ordering::SeqCst) { 1500 } else { 20 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let refusals = &self.0.refusals_left;
        let is_refused = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_refused || self.0.is_away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        Self::find(&request.get_ref().user_id).map(Response::new).ok_or_else(|| Status::not_found("nobody"))
    }

    async fn batch_get_users(
        &self,
        request: Request<BatchGetUsersRequest>,
    ) -> Result<Response<BatchGetUsersResponse>, Status> {
        self.0.batches.fetch_add(1, Ordering::SeqCst);
        let user_ids = request.into_inner().user_ids;
        assert!(user_ids.len() <= MAX_BATCH);
        let users = user_ids.iter().filter_map(|id| Self::find(id)).collect();
        let missing_user_ids = user_ids.into_iter().filter(|id| Self::find(id).is_none()).collect();
        Ok(Response::new(BatchGetUsersResponse { users, missing_user_ids }))
    }

    async fn watch_users(
        &self,
        _: Request<WatchUsersRequest>,
    ) -> Result<Response<BoxStream<WatchUsersResponse>>, Status> {
        let told = self.0.told.subscribe();
        let items = futures_util::stream::unfold(told, |mut told| async move {
            let item = Some(told.recv().await.ok()?);
            Some((Ok(WatchUsersResponse { item }), told))
        });
        Ok(Response::new(Box::pin(items)))
    }
}

struct Stage {
    directory: Directory,
    users: Users,
    _lifecycle: Lifecycle,
}

fn stage(fresh: Duration, stale: Duration) -> Stage {
    let (users, lifecycle) = (Users::default(), Lifecycle::new());
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let address = Address::of_socket(incoming.local_addr().unwrap());
    let server = Server::builder().add_service(UserServiceServer::new(users.clone())).serve_with_incoming(incoming);
    lifecycle.spawn("user-service", server);
    let directory = Directory::start(Settings { address, fresh, stale }, &lifecycle);
    Stage { directory, users, _lifecycle: lifecycle }
}

impl Stage {
    async fn check(&self, user_ids: &[&str]) -> Result<(), DirectoryError> {
        let user_ids: Vec<UserId> = user_ids.iter().map(|id| UserId::from(*id)).collect();
        self.directory.check_active(&user_ids, Instant::now() + Duration::from_secs(10)).await
    }
}

impl Stage {
    /// Tells everybody who watches, as soon as somebody does, and waits until the directory has heard of it.
    async fn tell(&self, item: Item) {
        while self.users.0.told.receiver_count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let heard = || lock(&self.directory.shared.feed).generation();
        let before = heard();
        self.users.0.told.send(item).unwrap();
        while heard() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The change raises the generation first and forgets then.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn tell_changed(&self, user_id: &str) {
        self.tell(Item::ChangedUser(User { user_id: user_id.to_owned(), ..User::default() })).await;
    }

    fn is_up(&self) -> bool {
        lock(&self.directory.shared.feed).is_up(Instant::now())
    }
}

const LONG: Duration = Duration::from_mins(10);

fn refusal(outcome: Result<(), DirectoryError>) -> Refusal {
    match outcome {
        Err(DirectoryError::Refused(refusal)) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_call_and_later_ones_none() {
    let stage = stage(LONG, LONG);
    let all = (0..200).map(|_| stage.check(&["ada"]));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), 1);
}

#[tokio::test]
async fn who_hangs_up_does_not_end_the_question_of_the_others() {
    let stage = stage(LONG, LONG);
    let hurried = timeout(Duration::from_millis(5), stage.check(&["ada"]));
    let (hurried, patient) = tokio::join!(hurried, stage.check(&["ada"]));
    assert!(hurried.is_err() && patient.is_ok());
    assert_eq!(stage.users.gets(), 1);
}

#[tokio::test]
async fn each_standing_is_refused_in_its_own_word_the_gravest_first() {
    let stage = stage(LONG, LONG);
    let ids = |ids: &[&str]| ids.iter().map(|id| UserId::from(*id)).collect::<Vec<_>>();
    assert_eq!(refusal(stage.check(&["nobody"]).await), Refusal::UserNotFound { user_ids: ids(&["nobody"]) });
    assert_eq!(refusal(stage.check(&["deleted-1"]).await), Refusal::UserDeleted { user_ids: ids(&["deleted-1"]) });
    let mixed = ["ada", "deactivated-1", "nobody-1", "deleted-1", "nobody-2", "deactivated-2"];
    assert_eq!(refusal(stage.check(&mixed).await), Refusal::UserNotFound { user_ids: ids(&["nobody-1", "nobody-2"]) });
    let deactivated = refusal(stage.check(&["deactivated-1", "ada", "deactivated-2"]).await);
    assert_eq!(deactivated, Refusal::UserDeactivated { user_ids: ids(&["deactivated-1", "deactivated-2"]) });
}

#[tokio::test]
async fn several_unknown_to_us_are_asked_in_batches() {
    let stage = stage(LONG, LONG);
    let names: Vec<String> = (0..1001).map(|n| format!("user-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.check(&names).await.unwrap();
    stage.check(&names).await.unwrap();
    stage.check(&names[..1]).await.unwrap();
    assert_eq!((stage.users.0.batches.load(Ordering::SeqCst), stage.users.gets()), (2, 0));
}

#[tokio::test]
async fn a_moment_of_refusal_is_passed_over_and_an_outage_is_not_hammered() {
    let stage = stage(LONG, LONG);
    stage.users.0.refusals_left.store(2, Ordering::SeqCst);
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), 3);

    stage.users.0.is_away.store(true, Ordering::SeqCst);
    let outcome = stage.check(&["never-seen"]).await;
    assert!(matches!(outcome, Err(DirectoryError::Unavailable(NoAnswer::Failed(_)))), "{outcome:?}");
    assert_eq!(stage.users.gets(), 6);
}

#[tokio::test]
async fn the_last_active_holds_while_user_service_is_away_and_no_longer() {
    let stage = stage(Duration::ZERO, Duration::from_millis(1200));
    stage.check(&["ada"]).await.unwrap();
    assert!(stage.check(&["deactivated-1"]).await.is_err());
    stage.users.0.is_away.store(true, Ordering::SeqCst);
    stage.check(&["ada"]).await.unwrap();
    // Only "active" is ever assumed.
    assert!(matches!(stage.check(&["deactivated-1"]).await, Err(DirectoryError::Unavailable(_))));

    // For a moment after that nobody is asked about whom there is an answer.
    let gets = stage.users.gets();
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), gets);

    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(matches!(stage.check(&["ada"]).await, Err(DirectoryError::Unavailable(_))));
    stage.users.0.is_away.store(false, Ordering::SeqCst);
    stage.check(&["ada"]).await.unwrap();
}

#[tokio::test]
async fn a_slow_user_service_costs_a_known_user_no_more_than_our_patience() {
    let stage = stage(Duration::ZERO, LONG);
    stage.check(&["ada"]).await.unwrap();
    stage.users.0.is_slow.store(true, Ordering::SeqCst);
    let began = Instant::now();
    stage.check(&["ada"]).await.unwrap();
    assert!((PATIENCE..PATIENCE + Duration::from_millis(400)).contains(&began.elapsed()), "{:?}", began.elapsed());
    // Who is not known has to wait for the answer.
    stage.check(&["bob"]).await.unwrap();
    assert!(began.elapsed() > Duration::from_millis(2500));
}

#[tokio::test]
async fn nobody_there_is_no_answer() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, lifecycle) = (Address::of_socket(free), Lifecycle::new());
    let directory = Directory::start(Settings { address, fresh: LONG, stale: LONG }, &lifecycle);
    let outcome = directory.check_active(&["ada".into()], Instant::now() + Duration::from_secs(5)).await;
    assert!(matches!(outcome, Err(DirectoryError::Unavailable(NoAnswer::Failed(_)))), "{outcome:?}");
}

#[tokio::test]
async fn a_host_name_is_resolved() {
    let stage = stage(LONG, LONG);
    let port = stage.directory.shared.settings.address.to_string().rsplit(':').next().unwrap().to_owned();
    // Not "localhost" itself, which is left to the connector.
    let address: Address = format!("http://LOCALHOST:{}", port.trim_end_matches('/')).parse().unwrap();
    let lifecycle = Lifecycle::new();
    let directory = Directory::start(Settings { address, fresh: LONG, stale: LONG }, &lifecycle);
    directory.check_active(&["ada".into()], Instant::now() + Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_change_is_asked_about_at_once_and_nothing_else_is() {
    let stage = stage(LONG, LONG);
    stage.tell(Item::Ready(Ready {})).await;
    for user_id in ["ada", "bob"] {
        stage.check(&[user_id]).await.unwrap();
    }
    assert!(stage.check(&["nobody"]).await.is_err());
    assert_eq!(stage.users.gets(), 3);
    stage.tell_changed("ada").await;
    stage.check(&["ada"]).await.unwrap();
    stage.check(&["bob"]).await.unwrap();
    assert_eq!(stage.users.gets(), 4);
    // Who was made a moment ago is not unknown any more.
    stage.tell_changed("nobody").await;
    assert!(stage.check(&["nobody"]).await.is_err());
    assert_eq!(stage.users.gets(), 5);
}

#[tokio::test]
async fn a_question_put_before_a_change_is_neither_remembered_nor_joined_after_it() {
    let stage = stage(LONG, LONG);
    stage.tell(Item::Ready(Ready {})).await;
    stage.users.0.is_slow.store(true, Ordering::SeqCst);
    let (_, ()) = tokio::join!(stage.check(&["ada"]), async {
        while stage.users.gets() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stage.tell_changed("ada").await;
        stage.users.0.is_slow.store(false, Ordering::SeqCst);
        // The first question is still under way; this one is another, and its answer is kept.
        stage.check(&["ada"]).await.unwrap();
        assert_eq!(stage.users.gets(), 2);
        stage.tell_changed("ada").await;
    });
    // The first question has been answered, after both changes.
    assert!(stage.directory.shared.remembered.get(&UserId::from("ada")).await.is_none());
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), 3);
}

#[tokio::test]
async fn ready_makes_everything_stale_and_drops_nothing() {
    let stage = stage(LONG, LONG);
    stage.tell(Item::Ready(Ready {})).await;
    stage.check(&["ada"]).await.unwrap();
    stage.tell(Item::Ready(Ready {})).await;
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), 2);

    stage.tell(Item::Ready(Ready {})).await;
    stage.users.0.is_away.store(true, Ordering::SeqCst);
    // Params about, in vain: the last answer holds.
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), 5);
    // Not the one of who has changed since.
    stage.tell_changed("ada").await;
    assert!(matches!(stage.check(&["ada"]).await, Err(DirectoryError::Unavailable(_))));
}

#[tokio::test]
async fn answers_are_fresh_for_long_only_while_changes_are_told_of() {
    let stage = stage(LONG, LONG);
    stage.tell(Item::Ready(Ready {})).await;
    assert!(stage.is_up());
    stage.check(&["ada"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), 1);
    stage.directory.lost();
    stage.check(&["ada"]).await.unwrap();
    assert_eq!(stage.users.gets(), 2);
}
