//! The command line of user-service: `serve`, `migrate`, `verify`, `healthcheck`.

use service_kit::{command, config::Problems, database::Settings, lifecycle::BoxError, verify};

use crate::{Args, Config, app::UserService, verify as checks};

/// The flags of `verify`: none, since it always checks everything.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct VerifyArgs {}

/// The binary `user-service`.
#[derive(Debug)]
pub struct Process;

impl command::Process for Process {
    type Service = UserService;
    type Args = Args;
    type Verify = VerifyArgs;

    const NAME: &'static str = "user-service";
    const ABOUT: &'static str = "The accounts of Parlance, over gRPC on PostgreSQL.";
    const DEFAULT_LISTEN: &'static str = "127.0.0.1:50051";
    const CHECKS: &'static [verify::Check] = &checks::CHECKS;

    fn configure(args: &Args) -> Result<Config, Problems> {
        Config::from_args(args)
    }

    async fn verify(
        database: &Settings,
        _: &VerifyArgs,
        slice: u32,
        report: &mut verify::Report,
    ) -> Result<(), BoxError> {
        Ok(checks::run(database, slice, report).await?)
    }
}
