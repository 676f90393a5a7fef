//! `parlance token`: signs tokens with the secret of `parlance serve --auth`, or with another.

use std::path::PathBuf;
use std::process::ExitCode;

use service_kit::token::{self, TokenArgs};

use super::serve::OWN_SECRET;

/// Sign a token for a user, make a token secret, or say what is in a token
///
/// Prints the token alone on standard output. The secret is that of `parlance serve --auth` in the data folder, unless a file is
/// named; the services take the token if they have the same secret. docs/AUTH.md explains tokens and roles.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    token: TokenArgs,

    /// The folder of `parlance serve`, where its secret is
    #[arg(long, env = "DATA_DIR", default_value = "data", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Does what the flags ask for.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let own = arguments.data_dir.join(OWN_SECRET);
    token::run(arguments.token, Some(&own)).await.map_err(anyhow::Error::from_boxed)
}
