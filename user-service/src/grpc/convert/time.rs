//! Points in time.

use prost_types::Timestamp;
use time::OffsetDateTime;

pub(super) fn to_wire(moment: OffsetDateTime) -> Timestamp {
    // `time` counts the nanoseconds of a second upwards from it, also before 1970, like protobuf.
    Timestamp { seconds: moment.unix_timestamp(), nanos: moment.nanosecond() as i32 }
}
