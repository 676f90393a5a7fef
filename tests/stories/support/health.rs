//! Health checks of services in this process.

use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{PATIENCE, eventually};

/// Checks the health of a name.
pub async fn health(channel: Channel, name: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest { service: name.to_owned() };
    Ok(HealthClient::new(channel).check(request).await?.into_inner().status())
}

/// Waits until health reports that the process serves.
pub async fn wait_until_serving(channel: &Channel) {
    eventually(PATIENCE, || async {
        match health(channel.clone(), "").await {
            Ok(ServingStatus::Serving) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
