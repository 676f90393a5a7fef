//! Converts from the domain to the wire, one file per noun. Names are each side's own: `created_at` here, `create_time`
//! there.

mod conversation;
mod ephemeral;
mod event;
mod member;
mod message;
mod status;

use prost_types::Timestamp;
use time::OffsetDateTime;

pub(super) use self::{
    conversation::conversation, ephemeral::ephemeral, event::event, member::member, message::message, status::status,
};

pub(super) fn timestamp(moment: OffsetDateTime) -> Timestamp {
    // `time` counts nanoseconds upwards from the second, also before 1970, as protobuf does.
    Timestamp { seconds: moment.unix_timestamp(), nanos: moment.nanosecond() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_fractions_on_both_sides_of_1970() {
        let moment = |micros: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(micros);
        let parts = |micros: i64| (timestamp(moment(micros)).seconds, timestamp(moment(micros)).nanos);
        assert_eq!(parts(1_500_000), (1, 500_000_000));
        assert_eq!(parts(-1_500_000), (-2, 500_000_000));
    }
}
