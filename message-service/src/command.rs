//! This service as its command line sees it: `serve`, `migrate`, `healthcheck`.

use service_kit::{
    command::Service,
    config::{Problems, SharedConfig},
    lifecycle::{self, BoxError},
};

use crate::{App, Args, Config, app};

/// The binary `message-service`.
#[derive(Debug)]
pub struct Process;

impl Service for Process {
    type Args = Args;
    type Config = Config;

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
}
