//! Puts the events of a conversation into words.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use parlance::message::v1::{Event, Member, MemberRole, Message, event::Kind};

use super::{
    line::{Line, Style},
    sanitize::visible,
};

/// Formats entries as lines, with a heading whenever the day changes.
pub(super) struct Wording {
    time_zone: TimeZone,
    day: Date,
}

impl Wording {
    /// Formats times in this zone. The first heading is omitted if the day is `today`.
    pub(super) fn new(time_zone: TimeZone, today: Timestamp) -> Self {
        let day = today.to_zoned_datetime(time_zone.clone()).date();
        Self { time_zone, day }
    }

    /// Formats a message in its current state.
    pub(super) fn message(&mut self, message: &Message) -> Vec<Line> {
        let text = match (message.delete_time, message.edit_time) {
            (Some(_), _) => "(deleted)".to_owned(),
            (None, Some(_)) => format!("{} (edited)", visible(message.text.trim_end())),
            (None, None) => visible(&message.text).to_owned(),
        };
        self.at(message.create_time, |time| Line {
            style: Style::Message,
            head: format!("{time} {}:", message.sender_id),
            text,
        })
    }

    /// Formats an event; empty for ephemerals and for kinds newer than this client.
    pub(super) fn event(&mut self, event: &Event) -> Vec<Line> {
        let actor = &event.actor_id;
        let text = match &event.kind {
            Some(Kind::MessageSent(message)) => return self.message(message),
            Some(Kind::MessageEdited(message)) => {
                format!("{actor} edited the message of {}: {}", self.time(message.create_time), visible(&message.text))
            }
            Some(Kind::MessageDeleted(message)) if message.sender_id == *actor => {
                format!("{actor} deleted the message of {}", self.time(message.create_time))
            }
            Some(Kind::MessageDeleted(message)) => {
                format!("{actor} deleted the message of {} from {}", self.time(message.create_time), message.sender_id)
            }
            Some(Kind::MemberJoined(change)) if change.user_id == *actor => format!("{actor} joined"),
            Some(Kind::MemberJoined(change)) => format!("{actor} added {}", change.user_id),
            Some(Kind::MemberLeft(change)) if change.user_id == *actor => format!("{actor} left"),
            Some(Kind::MemberLeft(change)) => format!("{actor} removed {}", change.user_id),
            Some(Kind::MemberUpdated(change)) => format!("{actor} made {} {}", change.user_id, role(change.role())),
            // The entry shows the state after the change, not which of title, description, avatar and attributes changed.
            Some(Kind::ConversationUpdated(conversation)) if conversation.title.is_empty() => {
                format!("{actor} updated the conversation, which has no title")
            }
            Some(Kind::ConversationUpdated(conversation)) => {
                format!("{actor} updated the conversation: {}", conversation.title)
            }
            Some(Kind::ReadMarker(_) | Kind::Typing(_)) | None => return Vec::new(),
        };
        self.at(event.event_time, |time| Line { style: Style::Notice, head: time, text })
    }

    fn at(&mut self, time: Option<prost_types::Timestamp>, line: impl FnOnce(String) -> Line) -> Vec<Line> {
        let Some(moment) = moment(time) else { return vec![line(self.time(time))] };
        let day = moment.to_zoned_datetime(self.time_zone.clone()).date();
        let heading = (day != self.day).then(|| Line::notice(format!("{}", day.strftime("— %A, %-d %B %Y —"))));
        self.day = day;
        heading.into_iter().chain([line(self.time(time))]).collect()
    }

    fn time(&self, time: Option<prost_types::Timestamp>) -> String {
        let zoned = moment(time).map(|moment| moment.to_zoned_datetime(self.time_zone.clone()));
        zoned.map_or_else(|| "--:--".to_owned(), |zoned| zoned.strftime("%H:%M").to_string())
    }
}

fn moment(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
}

fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Owner => "an owner",
        MemberRole::Admin => "an admin",
        MemberRole::Member | MemberRole::Unspecified => "a plain member",
    }
}

/// Formats a list of members. `is_all`: there are no more.
pub(super) fn members(members: &[Member], is_all: bool) -> Line {
    let name = |member: &Member| match member.role() {
        MemberRole::Owner => format!("{} (owner)", member.user_id),
        MemberRole::Admin => format!("{} (admin)", member.user_id),
        MemberRole::Member | MemberRole::Unspecified => member.user_id.clone(),
    };
    let names: Vec<String> = members.iter().map(name).collect();
    let count = if is_all { names.len().to_string() } else { format!("more than {}", names.len()) };
    let noun = if names.len() == 1 && is_all { "member" } else { "members" };
    Line::notice(format!("{count} {noun}: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use parlance::message::v1::{Conversation, MemberChange};

    use super::*;

    const NOON: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_795_521_600, nanos: 0 };

    fn said(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.render(false)).collect()
    }

    fn wording() -> Wording {
        Wording::new(TimeZone::UTC, moment(Some(NOON)).unwrap())
    }

    fn message() -> Message {
        let (sender_id, text) = ("bob".to_owned(), "hello".to_owned());
        Message { sender_id, text, create_time: Some(NOON), ..Message::default() }
    }

    fn event(actor: &str, kind: Kind) -> Event {
        Event { actor_id: actor.to_owned(), event_time: Some(NOON), kind: Some(kind), ..Event::default() }
    }

    fn change(user: &str, role: MemberRole) -> MemberChange {
        MemberChange { user_id: user.to_owned(), role: role.into(), join_time: None }
    }

    #[test]
    fn a_message_is_shown_as_it_is_now() {
        assert_eq!(said(&wording().message(&message())), ["12:00 bob: hello"]);
        let edited = Message { edit_time: Some(NOON), ..message() };
        assert_eq!(said(&wording().message(&edited)), ["12:00 bob: hello (edited)"]);
        let blank = Message { text: "\u{2800}".to_owned(), ..message() };
        assert_eq!(said(&wording().message(&blank)), ["12:00 bob: (empty message)"]);
        let deleted = Message { delete_time: Some(NOON), text: String::new(), ..edited };
        assert_eq!(said(&wording().message(&deleted)), ["12:00 bob: (deleted)"]);
    }

    #[test]
    fn a_heading_is_shown_when_the_day_changes() {
        let mut wording = wording();
        let next_day = prost_types::Timestamp { seconds: NOON.seconds + 86_400, nanos: 0 };
        let later = Message { create_time: Some(next_day), ..message() };
        assert_eq!(said(&wording.message(&later)), ["— Wednesday, 25 November 2026 —", "12:00 bob: hello"]);
        assert_eq!(said(&wording.message(&later)), ["12:00 bob: hello"]);
        let mut elsewhere = Wording::new(TimeZone::fixed(jiff::tz::offset(2)), moment(Some(NOON)).unwrap());
        assert_eq!(said(&elsewhere.message(&message())), ["14:00 bob: hello"]);
    }

    #[test]
    fn events_are_put_into_plain_words() {
        let titled = Conversation { title: "News".to_owned(), ..Conversation::default() };
        let edited = Message { text: "hello!".to_owned(), edit_time: Some(NOON), ..message() };
        for (actor, kind, words) in [
            ("bob", Kind::MessageEdited(edited), "12:00 bob edited the message of 12:00: hello!"),
            ("bob", Kind::MessageDeleted(message()), "12:00 bob deleted the message of 12:00"),
            ("ann", Kind::MessageDeleted(message()), "12:00 ann deleted the message of 12:00 from bob"),
            ("bob", Kind::MemberJoined(change("bob", MemberRole::Member)), "12:00 bob joined"),
            ("ann", Kind::MemberJoined(change("bob", MemberRole::Member)), "12:00 ann added bob"),
            ("bob", Kind::MemberLeft(change("bob", MemberRole::Member)), "12:00 bob left"),
            ("ann", Kind::MemberLeft(change("bob", MemberRole::Member)), "12:00 ann removed bob"),
            ("ann", Kind::MemberUpdated(change("bob", MemberRole::Admin)), "12:00 ann made bob an admin"),
            ("ann", Kind::ConversationUpdated(titled), "12:00 ann updated the conversation: News"),
            (
                "ann",
                Kind::ConversationUpdated(Conversation::default()),
                "12:00 ann updated the conversation, which has no title",
            ),
        ] {
            assert_eq!(said(&wording().event(&event(actor, kind))), [words]);
        }
        assert!(wording().event(&Event::default()).is_empty());
    }

    #[test]
    fn members_are_one_sentence() {
        let member =
            |user: &str, role: MemberRole| Member { user_id: user.to_owned(), role: role.into(), ..Member::default() };
        let two = [member("ann", MemberRole::Owner), member("bob", MemberRole::Member)];
        assert_eq!(members(&two, true).render(false), "2 members: ann (owner), bob");
        assert_eq!(members(&two[..1], true).render(false), "1 member: ann (owner)");
        assert_eq!(members(&two, false).render(false), "more than 2 members: ann (owner), bob");
    }
}
