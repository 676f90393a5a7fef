//! `parlance chat`: talk in one conversation from a terminal, or from a script.

mod clean;
mod enter;
mod input;
mod line;
mod prompt;
mod screen;
mod talk;
mod typed;
mod typists;
mod wording;

use std::process::ExitCode;

use jiff::{Timestamp, tz::TimeZone};
use parlance_client::{Client, Start};

use self::{enter::Services, line::Line, screen::Screen, talk::Talk, wording::Wording};
use super::signals::Signals;

/// Talk in a conversation: type, see what others say, and that they are typing
///
/// The user and the channel are made when they are missing, and the user joins the channel. A line is a message; /help says
/// what else can be typed. Lost connections are made again, and what was typed meanwhile is sent then.
///
/// Without a terminal, each line of standard input is a message, standard output is what is said in the conversation, and the end
/// of the input ends it once everything is stored: `echo 'build done' | parlance chat --as robot general`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The conversation: a channel, or any that the user is a member of
    conversation_id: String,
    /// The name of the user who talks
    #[arg(long = "as", value_name = "USERNAME")]
    username: String,
    /// Where user-service is
    #[arg(long, env = "USER_SERVICE_URL", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    user_service_url: String,
    /// Where message-service is; several, with commas, are replicas, and the next one is used when one fails
    #[arg(
        long,
        env = "MESSAGE_SERVICE_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:50052",
        value_delimiter = ','
    )]
    message_service_url: Vec<String>,
    /// How many of the last messages to show at first
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=1_000))]
    history: u16,
}

/// Talks until the person ends it. Errors: it could not begin, or the services ended it. Fails when something was not sent.
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
    screen.show(&Line::aside(format!("You are {username} in {title}. /help says what can be typed."))).await;
    let cursors = [(conversation_id.clone(), entered.last_sequence)].into();
    let (session, updates) = client.session(&entered.user_id).start(Start::Now).cursors(cursors).open();
    let mut talk =
        Talk::new(entered.user_id, conversation_id, services, session, wording, screen, entered.last_sequence);
    let ended = talk.go_on(updates, inputs, &mut signals).await;
    talk.end(ended).await
}
