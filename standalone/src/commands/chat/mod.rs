//! `parlance chat`: chat in one conversation from a terminal, or from a script.

mod command;
mod enter;
mod input;
mod line;
mod prompt;
mod sanitize;
mod screen;
mod session;
mod typists;
mod wording;

use std::process::ExitCode;

use jiff::{Timestamp, tz::TimeZone};
use parlance_client::{Client, Start};

use self::{enter::Services, line::Line, screen::Screen, session::ChatSession, wording::Wording};
use super::signals::Signals;

/// Chat in a conversation from the terminal
///
/// Missing users and channels are created, and the user joins the channel. Each line is a message; /help lists the commands.
/// After a lost connection the client reconnects and sends what was typed meanwhile.
///
/// Without a terminal, each line of standard input is sent as a message, events are printed on standard output, and the client
/// exits at the end of the input, once everything is stored: `echo 'build done' | parlance chat --as robot general`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The conversation: a channel, or any that the user is a member of
    conversation_id: String,
    /// The name of the user
    #[arg(long = "as", value_name = "USERNAME")]
    username: String,
    /// The URL of user-service
    #[arg(long, env = "USER_SERVICE_URL", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    user_service_url: String,
    /// The URL of message-service, or several of its replicas, separated by commas; when one fails, the next one is used
    #[arg(
        long,
        env = "MESSAGE_SERVICE_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:50052",
        value_delimiter = ','
    )]
    message_service_url: Vec<String>,
    /// The number of past messages to show at first
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=1_000))]
    history: u16,
}

/// Runs until the user ends it. Errors: the start failed, or the services ended the session. The exit code is a failure if a
/// message was not sent.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { conversation_id, username, user_service_url, message_service_url, history } = arguments;
    let client = Client::new(&message_service_url)?;
    let mut services = Services::new(&user_service_url, &message_service_url[0])?;
    let mut signals = Signals::listen()?;
    let entered = tokio::select! {
        entered = services.enter(&username, &conversation_id, history) => entered?,
        _ = signals.next() => return Ok(ExitCode::FAILURE),
    };
    let (screen, inputs) = Screen::begin()?;
    let mut wording = Wording::new(TimeZone::system(), Timestamp::now());
    for message in &entered.history {
        for line in wording.message(message) {
            screen.show(&line).await;
        }
    }
    let title = match &*entered.conversation.title {
        "" => conversation_id.clone(),
        title => format!("{conversation_id} ({title})"),
    };
    screen.show(&Line::aside(format!("You are {username} in {title}. Type /help for the commands."))).await;
    let cursors = [(conversation_id.clone(), entered.last_sequence)].into();
    let session = client.session(&entered.participant.user_id).start(Start::Now).cursors(cursors);
    let (session, updates) = session.open();
    let mut chat = ChatSession::new(entered.participant, services, session, wording, screen, entered.last_sequence);
    let result = chat.run(updates, inputs, &mut signals).await;
    chat.end(result).await
}
