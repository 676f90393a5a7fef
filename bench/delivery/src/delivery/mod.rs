//! `parlance-bench delivery`: the time from a commit to the event at a subscriber of another replica.

mod pass;
mod table;

use std::{fmt, future::Future, sync::atomic::AtomicU64};

use anyhow::{Context, anyhow, ensure};
use parlance::{
    message::v1::{
        ConversationKind, CreateConversationRequest, conversation_service_client::ConversationServiceClient,
    },
    user::v1::{CreateUserRequest, user_service_client::UserServiceClient},
};

use self::{pass::Pass, table::Table};
use crate::{database::Database, processes::Process, say};

const SENDER: &str = "ann";
const SUBSCRIBER: &str = "ben";

/// Measure the time from the commit of a message to its delivery at another replica
///
/// Starts user-service and two replicas of message-service from the binaries in the same folder. Sends one message at a time
/// to the first replica, and waits for it with a session of the reference client at the first or the second replica. Prints a
/// Markdown table.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The PostgreSQL to measure on; a temporary database is created there and dropped at the end
    #[arg(long, env = "TEST_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    server: String,
    /// Messages per round and row with hints
    #[arg(long, default_value_t = 500, value_name = "COUNT")]
    messages: usize,
    /// Messages per round and row without hints, which take a hundred times as long
    #[arg(long, default_value_t = 150, value_name = "COUNT")]
    messages_without_hints: usize,
    /// Number of rounds; the figures are medians over the rounds
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,
    /// Transports of hints between replicas: one or more, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["postgres", "nats", "none"])]
    bus: Vec<Bus>,
}

/// The transport of hints between replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Bus {
    /// PostgreSQL (LISTEN/NOTIFY), the default
    Postgres,
    /// A NATS server
    Nats,
    /// None: PostgreSQL, with each of its sessions ended as soon as it exists
    None,
}

impl fmt::Display for Bus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Nats => "NATS",
            Self::None => "every hint dropped",
        })
    }
}

/// The replica of the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replica {
    /// The sender's replica: the baseline.
    Same,
    /// The other replica.
    Other,
}

impl fmt::Display for Replica {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Same => "same replica",
            Self::Other => "other replica",
        })
    }
}

/// Measures and prints the table, unless interrupted before; cleans up in any case.
pub(crate) async fn run(arguments: Arguments, interrupted: impl Future<Output = ()>) -> anyhow::Result<()> {
    let counts = [arguments.messages, arguments.messages_without_hints, arguments.rounds];
    ensure!(counts.iter().all(|count| *count > 0), "there must be at least one message and one round");
    if cfg!(debug_assertions) {
        say::aside("this is a debug build: its figures are meaningless");
    }
    let database = Database::create(&arguments.server).await?;
    let done = tokio::select! {
        done = Box::pin(measure(&arguments, &database)) => done,
        () = interrupted => Err(anyhow!("interrupted")),
    };
    database.drop().await?;
    say::out(done?);
    Ok(())
}

async fn measure(arguments: &Arguments, database: &Database) -> anyhow::Result<Table> {
    let cores = std::thread::available_parallelism()?;
    let mut table = Table::new(format!("{}; {cores} cores; rounds: {}", database.facts().await?, arguments.rounds));
    let user_service = Process::user_service(&database.url()).await?;
    create_users(&user_service).await?;
    for round in 1..=arguments.rounds {
        for bus in &arguments.bus {
            let stage = Stage::set(database, &user_service, *bus).await?;
            for replica in [Replica::Same, Replica::Other] {
                say::aside(format_args!("round {round} of {}: {bus}, {replica}", arguments.rounds));
                let times = stage.pass(arguments, replica).await.with_context(|| format!("{bus}, {replica}"))?;
                table.add(*bus, replica, &times);
            }
        }
    }
    Ok(table)
}

/// Two replicas and their bus. Created for each bus and round, so that no two run at the same time.
struct Stage<'a> {
    database: &'a Database,
    bus: Bus,
    first: Process,
    second: Process,
    conversation_id: String,
    _nats: Option<Process>,
}

impl<'a> Stage<'a> {
    async fn set(database: &'a Database, user_service: &Process, bus: Bus) -> anyhow::Result<Self> {
        let nats = if bus == Bus::Nats { Some(Process::nats().await?) } else { None };
        let bus_url = nats.as_ref().map_or_else(|| "postgres".to_owned(), |nats| format!("nats://{}", nats.address()));
        let url = database.url();
        let first = Process::message_service(&url, user_service, &bus_url).await?;
        let second = Process::message_service(&url, user_service, &bus_url).await?;
        let request = CreateConversationRequest {
            kind: ConversationKind::Group.into(),
            creator_id: SENDER.to_owned(),
            member_ids: vec![SUBSCRIBER.to_owned()],
            ..CreateConversationRequest::default()
        };
        let made = ConversationServiceClient::new(first.channel()?).create_conversation(request).await;
        let conversation_id = made.context("creating the conversation")?.into_inner().conversation_id;
        Ok(Self { database, bus, first, second, conversation_id, _nats: nats })
    }

    async fn pass(&self, arguments: &Arguments, replica: Replica) -> anyhow::Result<Vec<pass::Times>> {
        let messages = if self.bus == Bus::None { arguments.messages_without_hints } else { arguments.messages };
        let pass = Pass {
            sender: (SENDER, &self.first.url()),
            subscriber: (SUBSCRIBER, &if replica == Replica::Same { &self.first } else { &self.second }.url()),
            conversation_id: &self.conversation_id,
            messages,
            most_pause: if self.bus == Bus::None { pass::PAUSE_WITHOUT_HINTS } else { pass::PAUSE },
        };
        let measuring = Box::pin(pass.run());
        if self.bus != Bus::None {
            return measuring.await;
        }
        let ended = AtomicU64::new(0);
        let times = tokio::select! {
            times = measuring => times?,
            error = self.database.suppress_hints(&ended) => return Err(error),
        };
        ensure!(ended.into_inner() > 0, "the bus had no session to end");
        Ok(times)
    }
}

async fn create_users(user_service: &Process) -> anyhow::Result<()> {
    let mut users = UserServiceClient::new(user_service.channel()?);
    for name in [SENDER, SUBSCRIBER] {
        let request =
            CreateUserRequest { user_id: name.to_owned(), username: name.to_owned(), ..CreateUserRequest::default() };
        users.create_user(request).await.with_context(|| format!("creating the user {name}"))?;
    }
    Ok(())
}
