//! The command line of message-service: `serve`, `migrate`, `verify`, `healthcheck`.

use service_kit::{command, config::Problems, database::Settings, lifecycle::BoxError, verify};

use crate::{Args, Config, app::MessageService, verify as checks};

/// The flags of `verify`.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Check one conversation only.
    #[arg(long = "conversation", value_name = "ID")]
    pub conversation_id: Option<String>,
}

/// The binary `message-service`.
#[derive(Debug)]
pub struct Process;

impl command::Process for Process {
    type Service = MessageService;
    type Args = Args;
    type Verify = VerifyArgs;

    const NAME: &'static str = "message-service";
    const ABOUT: &'static str = "The conversations of Parlance, over gRPC on PostgreSQL.";
    const DEFAULT_LISTEN: &'static str = "127.0.0.1:50052";
    const CHECKS: &'static [verify::Check] = &checks::CHECKS;

    fn configure(args: &Args) -> Result<Config, Problems> {
        Config::from_args(args)
    }

    async fn verify(
        database: &Settings,
        flags: &VerifyArgs,
        slice: u32,
        report: &mut verify::Report,
    ) -> Result<(), BoxError> {
        Ok(checks::run(database, flags.conversation_id.as_deref(), slice, report).await?)
    }
}
