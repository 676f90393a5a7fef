//! The directory against a user-service that counts its calls, can fail and can be slow.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use parlance::user::v1::{
    BatchGetUsersRequest, BatchGetUsersResponse, GetUserRequest, Ready, User, UserState, WatchUsersRequest,
    WatchUsersResponse,
    user_service_server::{UserService, UserServiceServer},
    watch_users_response::Item,
};
use tokio::{sync::broadcast, time::timeout};
use tonic::{
    Request, Response, Status, async_trait,
    codegen::BoxStream,
    transport::{Server, server::TcpIncoming},
};

use super::{
    user_cache::{FALLBACK_TIMEOUT, MAX_BATCH},
    *,
};

/// A user-service in which users are active unless their id begins with another state or "unknown". It refuses calls
/// while it is down, and sends watchers the items of a test.
#[derive(Debug, Clone)]
struct Users(Arc<Counts>);

impl Default for Users {
    fn default() -> Self {
        Self(Arc::new(Counts {
            gets: AtomicU32::default(),
            batches: AtomicU32::default(),
            refusals_left: AtomicU32::default(),
            is_down: AtomicBool::default(),
            is_slow: AtomicBool::default(),
            items: broadcast::Sender::new(16),
        }))
    }
}

#[derive(Debug)]
struct Counts {
    gets: AtomicU32,
    batches: AtomicU32,
    refusals_left: AtomicU32,
    is_down: AtomicBool,
    is_slow: AtomicBool,
    items: broadcast::Sender<Item>,
}

impl Users {
    fn find(user_id: &str) -> Option<User> {
        let state = match user_id.split('-').next() {
            Some("unknown") => return None,
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
        if is_refused || self.0.is_down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("down"));
        }
        Self::find(&request.get_ref().user_id).map(Response::new).ok_or_else(|| Status::not_found("unknown"))
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
        let items = futures_util::stream::unfold(self.0.items.subscribe(), |mut items| async move {
            let item = Some(items.recv().await.ok()?);
            Some((Ok(WatchUsersResponse { item }), items))
        });
        Ok(Response::new(Box::pin(items)))
    }
}

struct Fixture {
    directory: Directory,
    users: Users,
    _lifecycle: Lifecycle,
}

fn fixture(cache_ttl: Duration, fallback_ttl: Duration) -> Fixture {
    let (users, lifecycle) = (Users::default(), Lifecycle::new());
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let address = Address::of_socket(incoming.local_addr().unwrap());
    let server = Server::builder().add_service(UserServiceServer::new(users.clone())).serve_with_incoming(incoming);
    lifecycle.spawn("user-service", server);
    let directory = Directory::start(Settings { address, cache_ttl, fallback_ttl }, None, &lifecycle);
    Fixture { directory, users, _lifecycle: lifecycle }
}

impl Fixture {
    async fn check(&self, user_ids: &[&str]) -> Result<(), DirectoryError> {
        let user_ids: Vec<UserId> = user_ids.iter().map(|id| UserId::from(*id)).collect();
        self.directory.check_active(&user_ids, Instant::now() + Duration::from_secs(10)).await
    }
}

impl Fixture {
    /// Sends an item to the watch, once it is connected, and waits until the directory has received it.
    async fn notify(&self, item: Item) {
        while self.users.0.items.receiver_count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = self.directory.cache.generation();
        self.users.0.items.send(item).unwrap();
        while self.directory.cache.generation() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // A change raises the generation and then removes the user.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    async fn notify_changed(&self, user_id: &str) {
        self.notify(Item::ChangedUser(User { user_id: user_id.to_owned(), ..User::default() })).await;
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
async fn concurrent_checks_share_one_call_and_later_ones_need_none() {
    let fixture = fixture(LONG, LONG);
    let all = (0..200).map(|_| fixture.check(&["ada"]));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 1);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_end_the_lookup_of_the_others() {
    let fixture = fixture(LONG, LONG);
    let hurried = timeout(Duration::from_millis(5), fixture.check(&["ada"]));
    let (hurried, patient) = tokio::join!(hurried, fixture.check(&["ada"]));
    assert!(hurried.is_err() && patient.is_ok());
    assert_eq!(fixture.users.gets(), 1);
}

#[tokio::test]
async fn each_state_has_its_own_refusal_and_unknown_users_come_first() {
    let fixture = fixture(LONG, LONG);
    let ids = |ids: &[&str]| ids.iter().map(|id| UserId::from(*id)).collect::<Vec<_>>();
    assert_eq!(refusal(fixture.check(&["unknown"]).await), Refusal::UserNotFound { user_ids: ids(&["unknown"]) });
    assert_eq!(refusal(fixture.check(&["deleted-1"]).await), Refusal::UserDeleted { user_ids: ids(&["deleted-1"]) });
    let mixed = ["ada", "deactivated-1", "unknown-1", "deleted-1", "unknown-2", "deactivated-2"];
    assert_eq!(
        refusal(fixture.check(&mixed).await),
        Refusal::UserNotFound { user_ids: ids(&["unknown-1", "unknown-2"]) }
    );
    let deactivated = refusal(fixture.check(&["deactivated-1", "ada", "deactivated-2"]).await);
    assert_eq!(deactivated, Refusal::UserDeactivated { user_ids: ids(&["deactivated-1", "deactivated-2"]) });
}

#[tokio::test]
async fn several_uncached_users_are_looked_up_in_batches() {
    let fixture = fixture(LONG, LONG);
    let names: Vec<String> = (0..1001).map(|n| format!("user-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fixture.check(&names).await.unwrap();
    fixture.check(&names).await.unwrap();
    fixture.check(&names[..1]).await.unwrap();
    assert_eq!((fixture.users.0.batches.load(Ordering::SeqCst), fixture.users.gets()), (2, 0));
}

#[tokio::test]
async fn an_actor_and_the_users_that_a_request_names_are_looked_up_together() {
    let fixture = fixture(LONG, LONG);
    let check = async |actor: &str, others: &[&str]| {
        let others: Vec<UserId> = others.iter().map(|id| UserId::from(*id)).collect();
        fixture.directory.check_actor(&actor.into(), None, &others, Instant::now() + Duration::from_secs(10)).await
    };
    check("ada", &["ben", "cat"]).await.unwrap();
    assert_eq!((fixture.users.0.batches.load(Ordering::SeqCst), fixture.users.gets()), (1, 0));
    let refused = check("unknown-1", &["dan", "unknown-2"]).await;
    let Err(DirectoryError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal, Refusal::UserNotFound { user_ids: vec!["unknown-1".into(), "unknown-2".into()] });
}

#[tokio::test]
async fn a_brief_failure_is_retried_and_an_outage_is_not_hammered() {
    let fixture = fixture(LONG, LONG);
    fixture.users.0.refusals_left.store(2, Ordering::SeqCst);
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 3);

    fixture.users.0.is_down.store(true, Ordering::SeqCst);
    let outcome = fixture.check(&["never-seen"]).await;
    assert!(matches!(outcome, Err(DirectoryError::Unavailable(LookupError::Failed(_)))), "{outcome:?}");
    assert_eq!(fixture.users.gets(), 6);
}

#[tokio::test]
async fn a_cached_active_state_is_the_fallback_during_an_outage_within_its_ttl() {
    let fixture = fixture(Duration::ZERO, Duration::from_millis(1200));
    fixture.check(&["ada"]).await.unwrap();
    assert!(fixture.check(&["deactivated-1"]).await.is_err());
    fixture.users.0.is_down.store(true, Ordering::SeqCst);
    fixture.check(&["ada"]).await.unwrap();
    // Only "active" is ever assumed.
    assert!(matches!(fixture.check(&["deactivated-1"]).await, Err(DirectoryError::Unavailable(_))));

    // For a moment after that, a user with a fallback is not looked up.
    let gets = fixture.users.gets();
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), gets);

    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(matches!(fixture.check(&["ada"]).await, Err(DirectoryError::Unavailable(_))));
    fixture.users.0.is_down.store(false, Ordering::SeqCst);
    fixture.check(&["ada"]).await.unwrap();
}

#[tokio::test]
async fn a_slow_user_service_delays_a_cached_user_by_the_fallback_timeout() {
    let fixture = fixture(Duration::ZERO, LONG);
    fixture.check(&["ada"]).await.unwrap();
    fixture.users.0.is_slow.store(true, Ordering::SeqCst);
    let began = Instant::now();
    fixture.check(&["ada"]).await.unwrap();
    assert!(
        (FALLBACK_TIMEOUT..FALLBACK_TIMEOUT + Duration::from_millis(400)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    // A user without a fallback has to wait for the response.
    fixture.check(&["bob"]).await.unwrap();
    assert!(began.elapsed() > Duration::from_millis(2500));
}

#[tokio::test]
async fn an_unreachable_user_service_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, lifecycle) = (Address::of_socket(free), Lifecycle::new());
    let directory = Directory::start(Settings { address, cache_ttl: LONG, fallback_ttl: LONG }, None, &lifecycle);
    let outcome = directory.check_active(&["ada".into()], Instant::now() + Duration::from_secs(5)).await;
    assert!(matches!(outcome, Err(DirectoryError::Unavailable(LookupError::Failed(_)))), "{outcome:?}");
}

#[tokio::test]
async fn a_host_name_is_resolved() {
    let fixture = fixture(LONG, LONG);
    let port = fixture.directory.cache.address().to_string().rsplit(':').next().unwrap().to_owned();
    // Not "localhost" itself, which is left to the connector.
    let address: Address = format!("http://LOCALHOST:{}", port.trim_end_matches('/')).parse().unwrap();
    let lifecycle = Lifecycle::new();
    let directory = Directory::start(Settings { address, cache_ttl: LONG, fallback_ttl: LONG }, None, &lifecycle);
    directory.check_active(&["ada".into()], Instant::now() + Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_changed_user_is_looked_up_at_once_and_others_are_not() {
    let fixture = fixture(LONG, LONG);
    fixture.notify(Item::Ready(Ready {})).await;
    for user_id in ["ada", "bob"] {
        fixture.check(&[user_id]).await.unwrap();
    }
    assert!(fixture.check(&["unknown"]).await.is_err());
    assert_eq!(fixture.users.gets(), 3);
    fixture.notify_changed("ada").await;
    fixture.check(&["ada"]).await.unwrap();
    fixture.check(&["bob"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 4);
    // A user that was just created is no longer unknown.
    fixture.notify_changed("unknown").await;
    assert!(fixture.check(&["unknown"]).await.is_err());
    assert_eq!(fixture.users.gets(), 5);
}

#[tokio::test]
async fn a_lookup_from_before_a_change_is_neither_cached_nor_joined_after_it() {
    let fixture = fixture(LONG, LONG);
    fixture.notify(Item::Ready(Ready {})).await;
    fixture.users.0.is_slow.store(true, Ordering::SeqCst);
    let (_, ()) = tokio::join!(fixture.check(&["ada"]), async {
        while fixture.users.gets() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fixture.notify_changed("ada").await;
        fixture.users.0.is_slow.store(false, Ordering::SeqCst);
        // The first lookup is still running; this is a second one, and its result is cached.
        fixture.check(&["ada"]).await.unwrap();
        assert_eq!(fixture.users.gets(), 2);
        fixture.notify_changed("ada").await;
    });
    // The first lookup has ended, after both changes.
    assert!(fixture.directory.cache.cached(&UserId::from("ada")).await.is_none());
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 3);
}

#[tokio::test]
async fn ready_expires_every_state_and_keeps_the_fallbacks() {
    let fixture = fixture(LONG, LONG);
    fixture.notify(Item::Ready(Ready {})).await;
    fixture.check(&["ada"]).await.unwrap();
    fixture.notify(Item::Ready(Ready {})).await;
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 2);

    fixture.notify(Item::Ready(Ready {})).await;
    fixture.users.0.is_down.store(true, Ordering::SeqCst);
    // The lookup fails, and the fallback is used.
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 5);
    // But not for a user who has changed since.
    fixture.notify_changed("ada").await;
    assert!(matches!(fixture.check(&["ada"]).await, Err(DirectoryError::Unavailable(_))));
}

#[tokio::test]
async fn states_are_cached_for_long_only_while_the_change_feed_is_up() {
    let fixture = fixture(LONG, LONG);
    fixture.notify(Item::Ready(Ready {})).await;
    assert!(fixture.directory.cache.is_watched());
    fixture.check(&["ada"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 1);
    fixture.directory.cache.feed_disconnected();
    fixture.check(&["ada"]).await.unwrap();
    assert_eq!(fixture.users.gets(), 2);
}
