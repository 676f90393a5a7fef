//! A status as an item of a stream: what the trailers would have carried.

use prost::Message;
use tonic::Status;

pub(in crate::grpc) fn status(status: &Status) -> tonic_types::pb::Status {
    // Every status made here carries this message in its details; one made by a layer need not.
    let carried = tonic_types::pb::Status::decode(status.details()).ok().filter(|_| !status.details().is_empty());
    carried.unwrap_or_else(|| tonic_types::pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
