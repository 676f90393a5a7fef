//! The subcommands of the binary: `serve`, `migrate`, `verify`, `healthcheck`.

use service_kit::{
    command::Service,
    config::{Problems, SharedConfig},
    database::Settings,
    lifecycle::{self, BoxError},
    verify::Report,
};

use crate::{App, Args, Config, app, verify};

/// The scope of a check.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct VerifyArgs {
    /// Check one conversation instead of everything.
    #[arg(long = "conversation", value_name = "ID")]
    pub conversation_id: Option<String>,
}

/// The binary `message-service`.
#[derive(Debug)]
pub struct Process;

impl Service for Process {
    type Args = Args;
    type Config = Config;
    type Verify = VerifyArgs;

    const NAME: &'static str = "message-service";
    const ABOUT: &'static str = "The conversations of Parlance, over gRPC on PostgreSQL.";
    const DEFAULT_LISTEN: &'static str = "127.0.0.1:50052";

    fn configure(args: &Args) -> Result<Config, Problems> {
        Config::from_args(args)
    }

    fn shared(config: &Config) -> &SharedConfig {
        &config.shared
    }

    async fn serve(config: Config) -> Result<(), BoxError> {
        let app = App::build(config).await?;
        Ok(app.run(lifecycle::shutdown_signal()).await?)
    }

    async fn migrate(config: &Config) -> Result<usize, BoxError> {
        Ok(app::migrate(config).await?)
    }

    fn report(max_examples: usize) -> Report {
        Report::new(Self::NAME, &verify::CHECKS, max_examples)
    }

    fn database(config: &Config) -> &Settings {
        &config.database
    }

    async fn verify(database: &Settings, args: &VerifyArgs, slice: u32, report: &mut Report) -> Result<(), BoxError> {
        Ok(verify::run(database, args.conversation_id.as_deref(), slice, report).await?)
    }
}
