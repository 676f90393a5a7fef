//! The reference model of a conversation, as short as possible. Written from the contract, not from the service.

use std::collections::{BTreeMap, HashMap};

use tonic::Code;

use super::operation::{CONVERSATIONS, DEACTIVATED, DETAILS, DIRECT, Operation};

/// The head after a successful call, or code and reason.
pub(super) type Predicted = Result<i64, (Code, &'static str)>;

const OWNER: i32 = 1;
const ADMIN: i32 = 2;
const MEMBER: i32 = 3;
const CHANNEL: i32 = 3;

const UNKNOWN: (Code, &str) = (Code::NotFound, "CONVERSATION_NOT_FOUND");
const STRANGER: (Code, &str) = (Code::PermissionDenied, "NOT_A_MEMBER");
const ROLE: (Code, &str) = (Code::PermissionDenied, "ROLE_INSUFFICIENT");
const NO_MESSAGE: (Code, &str) = (Code::NotFound, "MESSAGE_NOT_FOUND");
const LAST_OWNER: (Code, &str) = (Code::FailedPrecondition, "LAST_OWNER");

pub(super) struct Member {
    pub(super) role: i32,
    /// The entry of the join.
    joined: i64,
    pub(super) read: i64,
    read_messages: i64,
}

pub(super) struct Message {
    pub(super) sender: usize,
    sent: (u8, i64),
    /// `None` once deleted.
    pub(super) text: Option<u8>,
}

/// One conversation. `log` has each entry in short, in the words of [`super::play`].
#[derive(Default)]
pub(super) struct Conversation {
    pub(super) kind: i32,
    pub(super) log: Vec<String>,
    pub(super) members: BTreeMap<usize, Member>,
    pub(super) messages: BTreeMap<i64, Message>,
    requests: HashMap<(usize, u8), i64>,
    /// 0 where there is none.
    pub(super) details: [u8; DETAILS],
}

/// All conversations; kind 0 is one that does not exist yet.
pub(super) struct Model {
    pub(super) conversations: Vec<Conversation>,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut conversations: Vec<_> = (0..CONVERSATIONS).map(|_| Conversation::default()).collect();
        conversations[DIRECT].kind = 1;
        conversations[DIRECT].join(0, 0, MEMBER);
        conversations[DIRECT].join(0, 1, MEMBER);
        Self { conversations }
    }

    pub(super) fn apply(&mut self, operation: &Operation) -> Predicted {
        use Operation as Op;
        let (at, actor, named): (usize, usize, &[usize]) = match operation {
            Op::Create { conversation, creator, members, .. } => (*conversation, *creator, members),
            Op::Add { conversation, actor, users, .. } => (*conversation, *actor, users),
            Op::Send { conversation, sender: actor, .. }
            | Op::Edit { conversation, actor, .. }
            | Op::Delete { conversation, actor, .. }
            | Op::Remove { conversation, actor, .. }
            | Op::Role { conversation, actor, .. }
            | Op::Update { conversation, actor, .. }
            | Op::Mark { conversation, actor, .. } => (*conversation, *actor, &[]),
        };
        if actor == DEACTIVATED || named.contains(&DEACTIVATED) {
            return Err((Code::FailedPrecondition, "USER_DEACTIVATED"));
        }
        let conversation = &mut self.conversations[at];
        if let Op::Create { kind, members, .. } = operation {
            return conversation.create(*kind, actor, members);
        }
        if let Op::Send { text, request, reply_to, .. } = operation {
            return conversation.send(actor, (*text, *reply_to), *request);
        }
        let joins_itself = conversation.kind == CHANNEL
            && matches!(operation, Op::Add { users, .. } if users.iter().all(|user| *user == actor));
        let role = match conversation.members.get(&actor) {
            Some(member) => member.role,
            None if joins_itself => 0,
            None => return Err(conversation.stranger()),
        };
        let changes_members_or_details = !matches!(operation, Op::Edit { .. } | Op::Delete { .. } | Op::Mark { .. });
        if conversation.kind == 1 && changes_members_or_details {
            return Err((Code::FailedPrecondition, "CONVERSATION_IS_DIRECT"));
        }
        let mut outcome = conversation.change(actor, role, joins_itself, operation);
        if outcome == Err(ROLE) && conversation.succeed() {
            let role = conversation.members.get(&actor).map_or(role, |member| member.role);
            outcome = conversation.change(actor, role, joins_itself, operation);
        }
        outcome?;
        Ok(conversation.head())
    }
}

impl Conversation {
    pub(super) fn head(&self) -> i64 {
        self.log.len() as i64
    }

    pub(super) fn unread(&self, user: usize) -> i64 {
        self.messages.len() as i64 - self.members[&user].read_messages
    }

    fn stranger(&self) -> (Code, &'static str) {
        if self.kind == CHANNEL { STRANGER } else { UNKNOWN }
    }

    fn join(&mut self, actor: usize, user: usize, role: i32) {
        self.log.push(format!("{actor}: joined {user} {role}"));
        let read_messages = self.messages.len() as i64;
        self.members.insert(user, Member { role, joined: self.head(), read: self.head(), read_messages });
    }

    /// Makes the longest-standing admin, else member, owner of a conversation that has members and no owner: all have left a
    /// channel, and others have joined it since. Returns true if there is one.
    fn succeed(&mut self) -> bool {
        if self.kind == 1 || self.owners() > 0 {
            return false;
        }
        let successor = self.members.iter_mut().min_by_key(|(_, member)| (member.role, member.joined));
        let Some((user, member)) = successor else { return false };
        member.role = OWNER;
        self.log.push(format!("{user}: role {user} {OWNER}"));
        true
    }

    fn create(&mut self, kind: i32, creator: usize, members: &[usize]) -> Predicted {
        if self.kind != 0 {
            return Err((Code::AlreadyExists, "CONVERSATION_ID_TAKEN"));
        }
        self.kind = kind;
        self.join(creator, creator, OWNER);
        for member in members {
            if !self.members.contains_key(member) {
                self.join(creator, *member, MEMBER);
            }
        }
        Ok(self.head())
    }

    /// Returns the sequence of the message, new or known.
    fn send(&mut self, sender: usize, content: (u8, i64), request: Option<u8>) -> Predicted {
        if let Some(sequence) = request.and_then(|request| self.requests.get(&(sender, request))) {
            let known = &self.messages[sequence];
            let same = known.text.is_none() || known.sent == content;
            return if same { Ok(*sequence) } else { Err((Code::InvalidArgument, "REQUEST_ID_REUSED")) };
        }
        if !self.members.contains_key(&sender) {
            return Err(self.stranger());
        }
        if content.1 != 0 && !self.messages.contains_key(&content.1) {
            return Err(NO_MESSAGE);
        }
        self.log.push(format!("{sender}: sent"));
        let sequence = self.head();
        self.messages.insert(sequence, Message { sender, sent: content, text: Some(content.0) });
        let count = self.messages.len() as i64;
        if let Some(own) = self.members.get_mut(&sender)
            && own.read_messages == count - 1
        {
            (own.read, own.read_messages) = (sequence, count);
        }
        self.requests.extend(request.map(|request| ((sender, request), sequence)));
        Ok(sequence)
    }

    fn change(
        &mut self,
        actor: usize,
        role: i32,
        joins_itself: bool,
        operation: &Operation,
    ) -> Result<(), (Code, &'static str)> {
        use Operation as Op;
        match operation {
            Op::Edit { sequence, text, .. } => {
                let message = self.messages.get_mut(sequence).ok_or(NO_MESSAGE)?;
                if message.sender != actor {
                    return Err((Code::PermissionDenied, "NOT_THE_SENDER"));
                }
                let current = message.text.as_mut().ok_or((Code::FailedPrecondition, "MESSAGE_DELETED"))?;
                if current != text {
                    *current = *text;
                    self.log.push(format!("{actor}: edited {sequence}"));
                }
            }
            Op::Delete { sequence, .. } => {
                let message = self.messages.get_mut(sequence).ok_or(NO_MESSAGE)?;
                if message.sender != actor && role == MEMBER {
                    return Err(ROLE);
                }
                if message.text.take().is_some() {
                    self.log.push(format!("{actor}: deleted {sequence}"));
                }
            }
            Op::Add { users, role: granted, .. } => {
                let may = role == OWNER || (*granted == MEMBER && (role == ADMIN || joins_itself));
                if !may {
                    return Err(ROLE);
                }
                for user in users {
                    if !self.members.contains_key(user) {
                        self.join(actor, *user, *granted);
                    }
                }
            }
            Op::Remove { user, .. } => {
                let target = self.members.get(user).map(|member| member.role);
                if *user != actor && (role == MEMBER || (role == ADMIN && target.is_some_and(|target| target < MEMBER)))
                {
                    return Err(ROLE);
                }
                let target = target.ok_or((Code::NotFound, "MEMBER_NOT_FOUND"))?;
                if target == OWNER && self.owners() == 1 && self.members.len() > 1 {
                    return Err(LAST_OWNER);
                }
                self.members.remove(user);
                self.log.push(format!("{actor}: left {user} {target}"));
            }
            Op::Role { user, role: granted, .. } => {
                if role != OWNER {
                    return Err(ROLE);
                }
                let last = self.owners() == 1;
                let target = self.members.get_mut(user).ok_or((Code::NotFound, "MEMBER_NOT_FOUND"))?;
                if target.role != *granted {
                    if target.role == OWNER && last {
                        return Err(LAST_OWNER);
                    }
                    target.role = *granted;
                    self.log.push(format!("{actor}: role {user} {granted}"));
                }
            }
            Op::Update { detail, value, .. } => {
                if role == MEMBER {
                    return Err(ROLE);
                }
                if self.details[*detail] != *value {
                    self.details[*detail] = *value;
                    self.log.push(format!("{actor}: updated {:?}", self.details));
                }
            }
            Op::Mark { sequence, .. } => {
                let sequence = (*sequence).min(self.head());
                let messages = self.messages.range(..=sequence).count() as i64;
                self.members.entry(actor).and_modify(|own| {
                    if sequence > own.read {
                        (own.read, own.read_messages) = (sequence, messages);
                    }
                });
            }
            Op::Create { .. } | Op::Send { .. } => unreachable!("handled before"),
        }
        Ok(())
    }

    fn owners(&self) -> usize {
        self.members.values().filter(|member| member.role == OWNER).count()
    }
}
