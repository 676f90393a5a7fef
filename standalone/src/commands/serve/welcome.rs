//! What `parlance serve` says once everything runs: where, and what to paste next.

use std::fmt;
use std::net::SocketAddr;

use service_kit::healthcheck::reachable;

/// Where `parlance chat` looks unless it is told otherwise.
const USUAL_USER: &str = "127.0.0.1:50051";
const USUAL_MESSAGE: &str = "127.0.0.1:50052";

/// The text, for addresses as they were bound.
pub(super) struct Welcome {
    pub(super) page: Option<SocketAddr>,
    pub(super) user: SocketAddr,
    pub(super) message: SocketAddr,
    /// A sentence on where the data is.
    pub(super) database: String,
    /// How this program was called.
    pub(super) program: String,
}

impl fmt::Display for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, message) = (reachable(self.user), reachable(self.message));
        writeln!(f, "Parlance is ready.")?;
        writeln!(f)?;
        if let Some(page) = self.page {
            writeln!(f, "  in a browser     http://{}", reachable(page))?;
        }
        writeln!(f, "  user-service     {user}")?;
        writeln!(f, "  message-service  {message}")?;
        writeln!(f, "  database         {}", self.database)?;
        writeln!(f)?;
        writeln!(f, "Talk, in another terminal or in several, each with another name:")?;
        writeln!(f)?;
        write!(f, "  {} chat --as ada general", self.program)?;
        for (flag, address, usual) in [("user", &user, USUAL_USER), ("message", &message, USUAL_MESSAGE)] {
            if *address.to_string() != *usual {
                write!(f, " --{flag}-service-url http://{address}")?;
            }
        }
        writeln!(f)?;
        writeln!(f)?;
        writeln!(f, "Or call what you like:")?;
        writeln!(f)?;
        // With request ids, pasting them a second time is a retry, and harmless.
        for (address, body, method) in [
            (
                user,
                r#"{"user_id": "ada", "username": "ada", "request_id": "first-user"}"#,
                "parlance.user.v1.UserService/CreateUser",
            ),
            (
                message,
                r#"{"conversation_id": "general", "kind": "CONVERSATION_KIND_CHANNEL", "title": "General", "creator_id": "ada", "request_id": "first-channel"}"#,
                "parlance.message.v1.ConversationService/CreateConversation",
            ),
            (
                message,
                r#"{"conversation_id": "general", "sender_id": "ada", "text": "Hello!", "request_id": "first-message"}"#,
                "parlance.message.v1.MessageService/SendMessage",
            ),
        ] {
            writeln!(f, "  grpcurl -plaintext -d '{body}' {address} {method}")?;
        }
        writeln!(f)?;
        write!(f, "Ctrl-C ends it.")
    }
}
