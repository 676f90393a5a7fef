//! Members, their roles and their changes.

use parlance::message::v1;

use super::timestamp;
use crate::domain::{
    change::member::MemberChange,
    conversation::{Member, Role},
};

pub(in crate::grpc) fn member(member: &Member) -> v1::Member {
    v1::Member {
        conversation_id: member.conversation_id.to_string(),
        user_id: member.user_id.to_string(),
        role: role(member.role).into(),
        join_time: Some(timestamp(member.joined_at)),
        last_read_sequence: member.last_read_sequence.get(),
        unread_count: member.unread_count,
    }
}

pub(super) fn change(change: &MemberChange) -> v1::MemberChange {
    v1::MemberChange {
        user_id: change.user_id.to_string(),
        role: role(change.role).into(),
        join_time: Some(timestamp(change.joined_at)),
    }
}

fn role(role: Role) -> v1::MemberRole {
    match role {
        Role::Owner => v1::MemberRole::Owner,
        Role::Admin => v1::MemberRole::Admin,
        Role::Member => v1::MemberRole::Member,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_the_same_numbers_everywhere() {
        for one in [Role::Owner, Role::Admin, Role::Member] {
            assert_eq!(Role::from_number(role(one) as i32), Some(one));
        }
    }
}
