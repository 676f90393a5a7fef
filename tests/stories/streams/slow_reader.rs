//! A reader that stops reading: it is not dropped, affects no other, and receives everything later.

use futures_util::{StreamExt, stream};
use parlance::message::v1::message_service_client::MessageServiceClient;
use tonic::transport::Endpoint;

use super::follow;
use crate::support::{Reader, World, send};

const MESSAGES: i64 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_pauses_receives_everything_in_order_later() {
    let world = World::with_group().await;
    // A separate connection with small windows, so that the server has to wait.
    let address = world.message_service.address();
    let small = Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .initial_stream_window_size(16 * 1024)
        .initial_connection_window_size(16 * 1024)
        .connect()
        .await
        .unwrap();
    let client = MessageServiceClient::new(small);
    let mut pausing = Reader::open(&client, "g", "ben", Some(0)).await.unwrap();
    pausing.up_to(2).await;
    let mut keeping_up = follow(&world, "ann", None).await.unwrap();
    keeping_up.catch_up().await;

    let text = "x".repeat(1024);
    let sends = async {
        let mut sends = stream::iter(0..MESSAGES)
            .map(|_| {
                let (mut client, request) = (world.messages(), send("g", "ann", &text));
                async move { client.send_message(request).await.unwrap() }
            })
            .buffer_unordered(128);
        while sends.next().await.is_some() {}
    };
    // The other reader is not delayed meanwhile.
    tokio::join!(sends, async {
        keeping_up.up_to(MESSAGES + 2).await;
    });
    assert_eq!(pausing.up_to(MESSAGES + 2).await.len() as i64, MESSAGES);
    world.send("g", "ann", "live again").await;
    assert_eq!(pausing.event().await.sequence, MESSAGES + 3);
}
