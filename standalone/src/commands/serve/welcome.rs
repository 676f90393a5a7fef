//! The text that `parlance serve` prints once the services are ready: the addresses, and the first commands to try.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use service_kit::{
    auth::{Mode, Settings},
    healthcheck::reachable,
};

/// The default addresses of `parlance chat`.
const DEFAULT_USER: &str = "127.0.0.1:50051";
const DEFAULT_MESSAGE: &str = "127.0.0.1:50052";
/// The default address of the web client.
const DEFAULT_WEB: &str = "127.0.0.1:8080";

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
    pub(super) issuing: Issuing,
}

/// How callers get a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Issuing {
    /// They need none.
    NotNeeded,
    /// By `parlance token`, with these further flags.
    Command(String),
    /// From elsewhere.
    Elsewhere,
}

impl Issuing {
    /// Returns how, by these settings.
    pub(super) fn of(auth: &Settings) -> Self {
        match (auth.mode, auth.secrets.first()) {
            (Mode::Off | Mode::Permissive, _) => Self::NotNeeded,
            (Mode::Required, None) => Self::Elsewhere,
            (Mode::Required, Some(secret)) if secret.path == Path::new(DEFAULT_SECRET) => Self::Command(String::new()),
            (Mode::Required, Some(secret)) => Self::Command(format!(" --secret-file {}", secret.path.display())),
        }
    }
}

/// The secret that `parlance token` takes without a flag.
const DEFAULT_SECRET: &str = "data/token-secret";

impl fmt::Display for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Parlance is ready.")?;
        writeln!(f)?;
        self.addresses(f)?;
        writeln!(f)?;
        writeln!(f, "What to try next:")?;
        writeln!(f)?;
        match &self.issuing {
            Issuing::Elsewhere => {
                writeln!(
                    f,
                    "- Call the services with a token of your identity provider or backend; docs/AUTH.md says how."
                )?;
            }
            Issuing::Command(flags) => {
                self.calls(f, Some(flags))?;
                writeln!(f)?;
                self.tokens(f, flags)?;
            }
            Issuing::NotNeeded => {
                if self.web_client.is_some() {
                    writeln!(
                        f,
                        "- Open the address of the web client in two windows and sign in as a different user in each."
                    )?;
                    writeln!(f)?;
                }
                self.chat(f)?;
                writeln!(f)?;
                self.calls(f, None)?;
            }
        }
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

    /// What to do with tokens, once there is a user.
    fn tokens(&self, f: &mut fmt::Formatter<'_>, flags: &str) -> fmt::Result {
        let program = &self.program;
        if let Some(address) = self.web_client {
            writeln!(f, "- Sign in to the web client by the link that this prints:")?;
            writeln!(f)?;
            let address = reachable(address).to_string();
            let url = if address == DEFAULT_WEB { String::new() } else { format!("=http://{address}/") };
            writeln!(f, "  {program} token ada --link{url}{flags}")?;
            writeln!(f)?;
        }
        writeln!(f, "- See what a user's token allows:")?;
        writeln!(f)?;
        writeln!(
            f,
            r#"  grpcurl -plaintext -H "authorization: Bearer $({program} token ada{flags})" {} parlance.message.v1.ConversationService/ListConversations"#,
            reachable(self.message)
        )
    }

    /// `flags` are those of `parlance token`, if callers need a token.
    fn calls(&self, f: &mut fmt::Formatter<'_>, flags: Option<&str>) -> fmt::Result {
        let token = flags.map(|flags| {
            let program = &self.program;
            format!(r#"-H "authorization: Bearer $({program} token backend --role service{flags})" "#)
        });
        let token = token.unwrap_or_default();
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
            writeln!(f, "  grpcurl -plaintext {token}-d '{body}' {address} {method}")?;
        }
        Ok(())
    }
}
