//! message-service with bugs on purpose: for the stories that prove that such bugs are found.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::command::main::<message_service::Process>().await
}
