//! The data directory of PostgreSQL is put back to an older copy of itself, while the services run on: the server says that it
//! is the same one as before, and gives the lost sequences out again. A restart without that loses nothing, and no stream ends.

use std::{path::Path, process::Command};

use parlance::message::v1::{StreamMessagesRequest, StreamMessagesResponse, stream_messages_response::Item};
use parlance_standalone::cluster::{Cluster, StopMode};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::database_down::Deployment;
use crate::support::{PATIENCE, code_and_reason, eventually, metadata, read_log, send_as};

/// A stream of the group `g`, with the epoch that it has named last.
struct Stream {
    items: Streaming<StreamMessagesResponse>,
    epoch: String,
}

impl Stream {
    async fn open(deployment: &Deployment, after: i64, epoch: &str) -> Result<Self, Status> {
        let request = StreamMessagesRequest {
            conversation_id: "g".to_owned(),
            actor_id: "ben".to_owned(),
            after_sequence: Some(after),
            epoch: epoch.to_owned(),
        };
        let items = deployment.message_service.messages().stream_messages(request).await?.into_inner();
        Ok(Self { items, epoch: String::new() })
    }

    /// Receives the next entry.
    async fn event(&mut self) -> Result<i64, Status> {
        loop {
            if let Item::Event(event) = self.item().await? {
                return Ok(event.sequence);
            }
        }
    }

    async fn item(&mut self) -> Result<Item, Status> {
        let item = timeout(PATIENCE, self.items.message()).await.expect("an item in time")?;
        let item = item.expect("an item before the end").item.expect("a known kind");
        if let Item::Heartbeat(heartbeat) = &item {
            self.epoch.clone_from(&heartbeat.epoch);
        }
        Ok(item)
    }

    /// Waits until the stream names another epoch; no entry comes before.
    async fn next_epoch(&mut self) -> Result<(), Status> {
        let before = self.epoch.clone();
        while self.epoch == before {
            let item = self.item().await?;
            assert!(!matches!(item, Item::Event(_)), "{item:?} before the heartbeat");
        }
        Ok(())
    }
}

async fn send(deployment: &Deployment, text: &str) -> i64 {
    let send = || async { deployment.message_service.messages().send_message(send_as(text, "g", "ann", text)).await };
    eventually(PATIENCE, send).await.into_inner().message.unwrap().sequence
}

/// Waits until a stream after the last lost entry is refused.
async fn refused(deployment: &Deployment, epoch: &str) -> Status {
    eventually(PATIENCE, async || match Stream::open(deployment, 5, epoch).await {
        Err(status) if status.code() == Code::FailedPrecondition => Ok(status),
        other => Err(format!("{:?}", other.map(drop))),
    })
    .await
}

/// Copies a folder with owners and rights.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success(), "{} cannot be copied", from.display());
}

/// Restarts a server, with a step in between.
async fn restart(cluster: &mut Cluster, between: impl FnOnce(&Path)) {
    cluster.stop(StopMode::Fast).await;
    between(&cluster.folder().join("cluster/data"));
    cluster.start_again().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_lost_with_an_older_copy_are_announced_and_a_restart_ends_no_stream() {
    let mut deployment = Deployment::with(&["g"]).await;
    assert_eq!(send(&deployment, "kept").await, 3);
    let mut stream = Stream::open(&deployment, 0, "").await.unwrap();
    for sequence in 1..=3 {
        assert_eq!(stream.event().await.unwrap(), sequence);
    }
    let first = stream.epoch.clone();
    assert!(!first.is_empty());

    let folder = tempfile::tempdir_in(deployment.cluster.folder()).unwrap();
    let copied = folder.path().join("data");
    restart(&mut deployment.cluster, |data| copy(data, &copied)).await;
    for sequence in 4..=5 {
        assert_eq!(send(&deployment, &format!("lost {sequence}")).await, sequence);
    }
    // Nothing was lost: the stream learns of the new epoch, before any entry of it, and goes on.
    stream.next_epoch().await.unwrap();
    let second = stream.epoch.clone();
    for sequence in 4..=5 {
        assert_eq!(stream.event().await.unwrap(), sequence);
    }
    // Positions from before the restart are good, too, and those after it in their own epoch.
    for (after, epoch) in [(3, &first), (5, &second)] {
        eventually(PATIENCE, || Stream::open(&deployment, after, epoch)).await;
    }

    restart(&mut deployment.cluster, |data| {
        std::fs::remove_dir_all(data).unwrap();
        copy(&copied, data);
    })
    .await;
    // Other entries take the lost sequences, and more.
    for sequence in 4..=6 {
        assert_eq!(send(&deployment, &format!("later {sequence}")).await, sequence);
    }
    let end = stream.event().await.unwrap_err();
    assert_eq!(code_and_reason(&end), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
    let lost = refused(&deployment, &second).await;
    // The copy does not know the second epoch: nothing of it is taken for granted.
    assert_eq!((&*code_and_reason(&lost).1, &*metadata(&lost, "last_sequence")), ("SEQUENCE_AHEAD", "0"));
    let lost = refused(&deployment, &first).await;
    assert_eq!(metadata(&lost, "last_sequence"), "3");
    let mut resumed = eventually(PATIENCE, || Stream::open(&deployment, 3, &first)).await;
    for sequence in 4..=6 {
        assert_eq!(resumed.event().await.unwrap(), sequence);
    }
    assert_eq!(read_log(&mut deployment.message_service.messages(), "g", "ben", 1000).await.len(), 6);
}
