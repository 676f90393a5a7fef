//! Reads the message of a unary call before the call takes a place: requests half sent keep none from others.

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body};

use super::{deadline, large, quota::Held, status};
use crate::time_share::TimeShare;

/// A flag and the length, before each message.
pub(super) const PREFIX_BYTES: usize = 5;

/// Returns the length that a message announces at its beginning; 0 before that has arrived.
pub(super) fn announced(bytes: &[u8]) -> usize {
    let length = bytes.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok());
    length.map_or(0, u32::from_be_bytes) as usize
}

/// Returns the request with its message in memory, or fails when that is not complete by `due`, longer than `limit`, or more
/// than the quota has left, of which it holds its part. Returns a large one when it is its turn.
pub(super) async fn complete(
    request: Request<Body>,
    limit: usize,
    due: Instant,
    held: &mut Held,
    work: &TimeShare,
) -> Result<Request<Body>, Status> {
    let (parts, body) = request.into_parts();
    let message = timeout_at(due, read(body, limit, held)).await.map_err(|_| deadline::exceeded())??;
    if large::is_large(&message, message.len()) {
        large::turn(work, message.len()).await;
    }
    Ok(Request::from_parts(parts, Body::new(Full::new(message))))
}

async fn read(mut body: Body, limit: usize, held: &mut Held) -> Result<Bytes, Status> {
    let mut message = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if message.is_empty() && body.is_end_stream() {
            // The usual case is not copied.
            check(&data, limit)?;
            held.grow_to(data.len())?;
            return Ok(data);
        }
        message.extend_from_slice(&data);
        check(&message, limit)?;
        held.grow_to(message.len())?;
    }
    Ok(message.freeze())
}

/// Refuses a message by its announced length, so that the rest is not read.
fn check(bytes: &[u8], limit: usize) -> Result<(), Status> {
    if announced(bytes) > limit || bytes.len() > PREFIX_BYTES + limit {
        return Err(status::too_large(limit).into());
    }
    Ok(())
}
