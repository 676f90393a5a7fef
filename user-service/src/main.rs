//! The binary: runs the command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::command::main::<user_service::Process>().await
}
