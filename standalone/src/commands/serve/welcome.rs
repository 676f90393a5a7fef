//! The text that `parlance serve` prints once the services are ready: the addresses, and the first commands to try.

use std::fmt;
use std::net::SocketAddr;

use service_kit::healthcheck::reachable;

/// The default addresses of `parlance chat`.
const DEFAULT_USER: &str = "127.0.0.1:50051";
const DEFAULT_MESSAGE: &str = "127.0.0.1:50052";

const BUILD: &str =
    if cfg!(debug_assertions) { "debug, not optimized; for speed: make run PROFILE=release" } else { "release" };

/// The text, for addresses as they were bound.
pub(super) struct Welcome {
    pub(super) web_client: Option<SocketAddr>,
    pub(super) user: SocketAddr,
    pub(super) message: SocketAddr,
    /// The location of the data.
    pub(super) database: String,
    /// The path by which this program was run.
    pub(super) program: String,
}

impl fmt::Display for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Parlance is ready.")?;
        writeln!(f)?;
        self.addresses(f)?;
        writeln!(f)?;
        writeln!(f, "What to try next:")?;
        writeln!(f)?;
        if self.web_client.is_some() {
            writeln!(
                f,
                "- Open the address of the web client in two windows and sign in as a different user in each."
            )?;
            writeln!(f)?;
        }
        self.chat(f)?;
        writeln!(f)?;
        self.calls(f)?;
        writeln!(f)?;
        write!(f, "Press Ctrl-C to stop.")
    }
}

impl Welcome {
    fn addresses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.web_client {
            writeln!(f, "  web client       http://{}", reachable(address))?;
        }
        writeln!(f, "  user-service     {}", reachable(self.user))?;
        writeln!(f, "  message-service  {}", reachable(self.message))?;
        writeln!(f, "  database         {}", self.database)?;
        writeln!(f, "  build            {BUILD}")
    }

    fn chat(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "- Chat from other terminals, with a different name in each:")?;
        writeln!(f)?;
        write!(f, "  {} chat --as ada general", self.program)?;
        for (service, address, default) in
            [("user", self.user, DEFAULT_USER), ("message", self.message, DEFAULT_MESSAGE)]
        {
            let address = reachable(address).to_string();
            if address != default {
                write!(f, " --{service}-service-url http://{address}")?;
            }
        }
        writeln!(f)
    }

    fn calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, message) = (reachable(self.user), reachable(self.message));
        writeln!(f, "- Call the services with grpcurl, or with a client generated from proto/:")?;
        writeln!(f)?;
        // With request ids, pasting them a second time is a harmless retry.
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
        Ok(())
    }
}
