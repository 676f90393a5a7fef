//! The binary `message-service`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::command::main::<message_service::Process>().await
}
