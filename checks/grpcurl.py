"""Calls every RPC of both services with grpcurl, which knows of the API only what reflection returns.

    python3 -m checks.grpcurl        (`make grpcurl` builds the binaries first)

Starts `parlance serve` with its own data on free ports. On both ports grpcurl lists the services and describes every
service, RPC and message, which must be all of proto/. Then it calls every RPC, streams and errors included, and the answers
are compared. An RPC that is described and not called fails the check. Finally an older grpcurl, which speaks reflection
v1alpha only, lists, describes and calls.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from checks.harness import go
from checks.harness.base import ROOT, Report, say, usage
from checks.harness.grpcurl import EXIT, Grpcurl, values
from checks.harness.process import Serve

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"
REFLECTION_V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
ORIGINAL = "UserService"
USERS = "parlance.user.v1.UserService"
CONVERSATIONS = "parlance.message.v1.ConversationService"
MESSAGES = "parlance.message.v1.MessageService"
COMMON = [HEALTH, REFLECTION, REFLECTION_V1ALPHA]


def mask(*paths: str) -> dict:
    """A FieldMask as grpcurl takes it, which does not know the type's JSON form of one string."""
    return {"paths": paths}


def proto_names(folder: str) -> tuple[set[str], set[str]]:
    """The RPCs and the top-level messages and enums that a folder of proto/ declares."""
    rpcs: set[str] = set()
    types: set[str] = set()
    files = sorted((ROOT / "proto" / folder).rglob("*.proto"))
    for text in (path.read_text() for path in files):
        package = "".join(f"{name}." for name in re.findall(r"^package ([\w.]+);", text, re.M))
        types.update(package + name for name in re.findall(r"^(?:message|enum) (\w+)", text, re.M))
        for service, body in re.findall(r"^service (\w+) {(.*?)^}", text, re.M | re.S):
            rpcs.update(f"{package}{service}/{rpc}" for rpc in re.findall(r"^\s*rpc (\w+)", body, re.M))
    if not rpcs or not types:
        sys.exit(f"proto/{folder} declares no RPC")
    return rpcs, types


def describe(grpcurl: Grpcurl, folders: list[str]) -> set[str]:
    """Describes every service and every type that it refers to. Returns the names of all RPCs."""
    check = grpcurl.report.equal
    rpcs: set[str] = set()
    types: set[str] = set()
    waiting: list[str] = []
    for service in grpcurl.services():
        text = grpcurl.ask("describe", service)
        for rpc in re.findall(r"^\s*rpc (\w+) ", text, re.M):
            rpcs.add(f"{service}/{rpc}")
            method = grpcurl.ask("describe", f"{service}.{rpc}")
            check(f"{service}.{rpc} is described", "is a method:" in method, True)
            waiting += re.findall(r"[( ]\.([\w.]+) \)", method)
    while waiting:
        name = waiting.pop()
        if name in types:
            continue
        types.add(name)
        text = grpcurl.ask("describe", name)
        check(f"{name} is described", bool(re.search(rf"^{re.escape(name)} is an? (message|enum):", text)), True)
        waiting += re.findall(r"[\s<]\.([\w.]+)[ >]", re.sub(r"^\s*//.*$", "", text, flags=re.M))
    for folder in folders:
        known_rpcs, known_types = proto_names(folder)
        check(f"RPCs of proto/{folder} that reflection lacks", sorted(known_rpcs - rpcs), [])
        check(f"types of proto/{folder} that reflection lacks", sorted(known_types - types), [])
    say(f"described {len(rpcs)} RPCs and {len(types)} types at {grpcurl.address}")
    return rpcs


def common(grpcurl: Grpcurl, names: list[str]) -> None:
    """Calls the services of every port: health and reflection."""
    check = grpcurl.report.equal
    for name in ["", *names]:
        grpcurl.call(f"{HEALTH}/Check", {"service": name}, {"status": "SERVING"})
    ran = grpcurl.run(f"{HEALTH}/Check", {"service": "no.such.Service"})
    check("the health of no service is NOT_FOUND", ran.returncode, EXIT["NOT_FOUND"])
    with grpcurl.stream(f"{HEALTH}/Watch", {"service": names[0]}) as watch:
        watch.wait("health", {"status": "SERVING"})
    listed = [{"name": name} for name in sorted([*names, *COMMON])]
    for service in (REFLECTION, REFLECTION_V1ALPHA):
        ran = grpcurl.run(f"{service}/ServerReflectionInfo", [{"list_services": ""}, {"file_containing_symbol": names[0]}])
        answers = values(ran.stdout)
        found = answers[0].get("listServicesResponse", {}).get("service", []) if answers else []
        check(f"{service} lists", sorted(found, key=lambda one: one["name"]), listed)
        check(f"{service} gives a file", answers[1:], [{"fileDescriptorResponse": {"fileDescriptorProto": ...}}])


def users(grpcurl: Grpcurl) -> None:
    service = f"{USERS}/".__add__
    new = {"user_id": "ada", "username": "ada", "request_id": "ada"}
    with grpcurl.stream(service("WatchUsers"), {}) as watch:
        watch.wait("ready", {"ready": {}})
        ada = {"userId": "ada", "username": "ada", "state": "USER_STATE_ACTIVE", "createTime": ..., "etag": '"1"'}
        first = grpcurl.call(service("CreateUser"), new, ada)
        grpcurl.call(service("CreateUser"), new, first)
        watch.wait("a new user", {"changedUser": {"userId": "ada"}})
    grpcurl.refused(service("CreateUser"), {**new, "username": "eve"}, "INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    grpcurl.refused(service("CreateUser"), {"username": "Ada"}, "ALREADY_EXISTS", "USERNAME_TAKEN")
    grpcurl.refused(service("CreateUser"), {"username": "a b"}, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
    for name in ("bob", "eve", "gone"):
        grpcurl.call(service("CreateUser"), {"user_id": name, "username": name}, {"userId": name})
    made = grpcurl.call(service("CreateUser"), {"username": "zoe"}, {"userId": ...})
    grpcurl.call(service("GetUser"), {"username": "ZOE"}, made)
    grpcurl.call(service("GetUser"), {"user_id": "ada"}, first)
    grpcurl.refused(service("GetUser"), {"user_id": "missing"}, "NOT_FOUND", "USER_NOT_FOUND")
    several = {"users": [{"userId": "bob"}, {"userId": "ada"}], "missingUserIds": ["missing"]}
    grpcurl.call(service("BatchGetUsers"), {"user_ids": ["bob", "missing", "ada"]}, several)
    page = {"users": [{"userId": "ada"}, {"userId": "bob"}], "nextPageToken": ...}
    token = grpcurl.call(service("ListUsers"), {"page_size": 2}, page)["nextPageToken"]
    rest = {"users": [{"userId": "eve"}, {"userId": "gone"}, {"username": "zoe"}], "nextPageToken": None}
    grpcurl.call(service("ListUsers"), {"page_token": token}, rest)
    grpcurl.refused(service("ListUsers"), {"page_token": "x"}, "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    change = {"user": {"user_id": "ada", "display_name": "Ada L."}, "update_mask": mask("display_name")}
    grpcurl.call(service("UpdateUser"), change, {"displayName": "Ada L.", "username": "ada", "etag": '"2"'})
    grpcurl.call(service("DeactivateUser"), {"user_id": "eve"}, {"state": "USER_STATE_DEACTIVATED"})
    grpcurl.call(f"{ORIGINAL}/GetUser", {"user_id": "eve"}, {"userId": "eve", "username": "eve"})
    grpcurl.call(service("ReactivateUser"), {"user_id": "eve"}, {"state": "USER_STATE_ACTIVE"})
    grpcurl.call(service("RevokeTokens"), {"user_id": "bob"}, {"userId": "bob", "tokensValidAfter": ...})
    grpcurl.refused(service("CreateToken"), {"user_id": "bob"}, "FAILED_PRECONDITION", "NO_SIGNING_KEY")
    tombstone = {"userId": "gone", "username": None, "state": "USER_STATE_DELETED", "deleteTime": ...}
    grpcurl.call(service("DeleteUser"), {"user_id": "gone"}, tombstone)
    grpcurl.call(service("GetUser"), {"user_id": "gone"}, tombstone)
    grpcurl.refused(f"{ORIGINAL}/GetUser", {"user_id": "gone"}, "NOT_FOUND", "USER_NOT_FOUND")


def conversations(grpcurl: Grpcurl) -> None:
    service = f"{CONVERSATIONS}/".__add__
    ids = {"conversation_id": "general", "actor_id": "ada"}
    new = {"conversation_id": "general", "kind": "CONVERSATION_KIND_GROUP", "creator_id": "ada", "member_ids": ["bob"]}
    general = {"conversationId": "general", "kind": "CONVERSATION_KIND_GROUP", "creatorId": "ada", "lastSequence": "2"}
    made = grpcurl.call(service("CreateConversation"), new, {**general, "createTime": ..., "etag": '"1"'})
    grpcurl.refused(service("CreateConversation"), new, "ALREADY_EXISTS", "CONVERSATION_ID_TAKEN")
    unknown = {**new, "conversation_id": "other", "member_ids": ["missing"]}
    grpcurl.refused(service("CreateConversation"), unknown, "NOT_FOUND", "USER_NOT_FOUND")
    grpcurl.call(service("GetConversation"), ids, made)
    grpcurl.refused(service("GetConversation"), {**ids, "actor_id": "eve"}, "NOT_FOUND", "CONVERSATION_NOT_FOUND")
    titled = {"conversation": {"conversation_id": "general", "title": "All"}, "update_mask": mask("title"), "actor_id": "ada"}
    grpcurl.call(service("UpdateConversation"), titled, {**general, "title": "All", "lastSequence": "3"})
    joined = {"members": [{"userId": "eve", "role": "MEMBER_ROLE_MEMBER", "joinTime": ...}]}
    grpcurl.call(service("AddMembers"), {**ids, "user_ids": ["eve"]}, joined)
    raised = {**ids, "user_id": "bob", "role": "MEMBER_ROLE_ADMIN"}
    grpcurl.call(service("UpdateMember"), raised, {"userId": "bob", "role": "MEMBER_ROLE_ADMIN"})
    grpcurl.refused(service("UpdateMember"), {**raised, "actor_id": "eve"}, "PERMISSION_DENIED", "ROLE_INSUFFICIENT")
    listed = {"members": [
        {"userId": "ada", "role": "MEMBER_ROLE_OWNER"}, {"userId": "bob", "role": "MEMBER_ROLE_ADMIN"}, {"userId": "eve"},
    ]}
    grpcurl.call(service("ListMembers"), ids, listed)
    grpcurl.refused(service("RemoveMember"), {**ids, "user_id": "ada"}, "FAILED_PRECONDITION", "LAST_OWNER")
    grpcurl.call(service("RemoveMember"), {**ids, "user_id": "eve"}, {})
    grpcurl.call(service("MarkRead"), {**ids, "sequence": 4}, {"userId": "ada", "lastReadSequence": "4"})
    inbox = {"items": [{"conversation": {"conversationId": "general", "title": "All"}, "membership": {"userId": "ada"}}]}
    grpcurl.call(service("ListConversations"), {"actor_id": "ada"}, inbox)


def messages(grpcurl: Grpcurl) -> None:
    """Continues where `conversations` ends: six entries, the members ada and bob."""
    service = f"{MESSAGES}/".__add__
    ids = {"conversation_id": "general", "actor_id": "ada"}
    hello = {
        "conversation_id": "general", "sender_id": "ada", "text": "Hello!", "request_id": "ada-1", "attributes": {"lang": "en"},
    }
    stored = {"sequence": "7", "ordinal": "1", "senderId": "ada", "text": "Hello!", "attributes": {"lang": "en"}}
    sent = grpcurl.call(service("SendMessage"), hello, {"message": stored, "duplicate": None})
    grpcurl.call(service("SendMessage"), hello, {**sent, "duplicate": True})
    grpcurl.refused(service("SendMessage"), {**hello, "text": "Bye!"}, "INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    grpcurl.refused(service("SendMessage"), {**hello, "sender_id": "missing"}, "NOT_FOUND", "USER_NOT_FOUND")
    grpcurl.refused(service("SendMessage"), {**hello, "sender_id": "gone"}, "FAILED_PRECONDITION", "USER_DELETED")
    one = {**ids, "sequence": 7}
    grpcurl.call(service("GetMessage"), one, sent.get("message"))
    grpcurl.refused(service("GetMessage"), {**ids, "sequence": 1}, "NOT_FOUND", "MESSAGE_NOT_FOUND")
    edited = {"sequence": "7", "text": "Hello, all!", "changeSequence": "8", "editTime": ...}
    grpcurl.call(service("EditMessage"), {**one, "text": "Hello, all!"}, edited)
    grpcurl.refused(service("EditMessage"), {**one, "actor_id": "bob", "text": "Oh"}, "PERMISSION_DENIED", "NOT_THE_SENDER")
    grpcurl.call(service("ListMessages"), ids, {"messages": [edited], "oldestSequence": "1", "lastSequence": "8"})
    kinds = [
        "memberJoined", "memberJoined", "conversationUpdated", "memberJoined", "memberUpdated", "memberLeft",
        "messageSent", "messageEdited",
    ]
    log = [{"sequence": str(sequence), kind: ...} for sequence, kind in enumerate(kinds, start=1)]
    grpcurl.call(service("ListEvents"), ids, {"events": log, "lastSequence": "8"})
    reading = {**ids, "actor_id": "bob", "after_sequence": 7}
    with grpcurl.stream(service("StreamMessages"), reading) as stream, \
            grpcurl.stream(service("Subscribe"), {"actor_id": "bob", "start": "SUBSCRIBE_START_NOW"}) as subscription:
        stream.wait("the backlog", {"event": {"sequence": "8", "messageEdited": {"text": "Hello, all!"}}})
        stream.wait("the end of the backlog", {"caughtUp": {"conversationId": "general", "sequence": "8"}})
        subscription.wait("the end of all backlogs", {"caughtUp": {"conversationId": None}})
        session(grpcurl)
        for reader in (stream, subscription):
            reader.wait("the session's message", {"event": {"sequence": "9", "messageSent": {"text": "From a session"}}})
        grpcurl.call(service("SendTyping"), ids, {})
        subscription.wait("typing", {"event": {"sequence": None, "typing": {"userId": "ada"}}})
        grpcurl.call(service("DeleteMessage"), one, {"sequence": "7", "text": None, "deleteTime": ..., "changeSequence": "10"})
        for reader in (stream, subscription):
            reader.wait("a deletion", {"event": {"sequence": "10", "messageDeleted": {"sequence": "7", "text": None}}})
    grpcurl.refused(service("StreamMessages"), {**reading, "after_sequence": 99}, "FAILED_PRECONDITION", "SEQUENCE_AHEAD")
    grpcurl.refused(service("Subscribe"), {"actor_id": "missing"}, "NOT_FOUND", "USER_NOT_FOUND")


def session(grpcurl: Grpcurl) -> None:
    """Sends several frames of Chat, one of them bad, then the half-close."""
    send = {"conversation_id": "general", "text": "From a session", "request_id": "session-1"}
    opening = {"frame_id": 1, "open": {"actor_id": "ada", "cursors": [{"conversation_id": "general", "after_sequence": 8}]}}
    with grpcurl.session(f"{MESSAGES}/Chat", [opening, {"frame_id": 2, "send": send}]) as chat:
        chat.wait("that it is open", {"opened": {"frameId": "1"}})
        chat.wait("the answer to a send", {"ack": {"frameId": "2", "requestId": "session-1", "sequence": "9"}})
        chat.wait("its own message", {"event": {"sequence": "9", "actorId": "ada", "messageSent": {"ordinal": "2"}}})
        chat.send({"frame_id": 3, "send": send})
        chat.wait("a duplicate", {"ack": {"frameId": "3", "sequence": "9", "duplicate": True}})
        chat.send({"frame_id": 4})
        chat.wait("that a frame is empty", {"nack": {"frameId": "4", "status": {"code": 3}}})
        chat.send({"frame_id": 5, "typing": {"conversation_id": "general"}})
        chat.wait("the answer to typing", {"ack": {"frameId": "5"}})
        chat.send({"frame_id": 6, "mark_read": {"conversation_id": "general", "sequence": 9}})
        chat.wait("the answer to a read mark", {"ack": {"frameId": "6", "sequence": "9"}})
        grpcurl.report.equal("Chat ends well after the half-close", chat.half_close(), 0)


def older(program: Path, serve: Serve, report: Report) -> None:
    """Lists, describes and calls with a client that does not know reflection v1."""
    check = report.equal
    names = program.read_bytes()
    check("the older grpcurl knows v1alpha", REFLECTION_V1ALPHA.encode() in names, True)
    check("the older grpcurl knows v1", REFLECTION.encode() in names, False)
    for address, services, known, call, request, answer in (
        (serve.user_service, [ORIGINAL, USERS], "parlance.user.v1.User", f"{USERS}/GetUser", {"user_id": "ada"},
         {"userId": "ada"}),
        (serve.message_service, [CONVERSATIONS, MESSAGES], "parlance.message.v1.Event", f"{MESSAGES}/GetMessage",
         {"conversation_id": "general", "sequence": 9, "actor_id": "bob"}, {"text": "From a session"}),
    ):
        grpcurl = Grpcurl(program, address, report)
        check(f"services by v1alpha at {address}", grpcurl.services(), sorted([*services, *COMMON]))
        for name in services:
            check(f"{name} by v1alpha", f"{name} is a service:" in grpcurl.ask("describe", name), True)
        check(f"{known} by v1alpha", f"{known} is a message:" in grpcurl.ask("describe", known), True)
        grpcurl.call(call, request, answer)


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    present, v1alpha = go.grpcurl(), go.grpcurl(go.V1ALPHA_VERSION)
    report = Report()
    began = time.monotonic()
    with Serve() as serve:
        at_users = Grpcurl(present, serve.user_service, report)
        at_messages = Grpcurl(present, serve.message_service, report)
        for grpcurl, services, folders, stories in (
            (at_users, [ORIGINAL, USERS], ["original", "parlance/user"], [users]),
            (at_messages, [CONVERSATIONS, MESSAGES], ["parlance/message"], [conversations, messages]),
        ):
            report.equal(f"services at {grpcurl.address}", grpcurl.services(), sorted([*services, *COMMON]))
            rpcs = describe(grpcurl, folders)
            common(grpcurl, services)
            for story in stories:
                story(grpcurl)
            report.equal(f"RPCs at {grpcurl.address} that were not called", sorted(rpcs - grpcurl.called), [])
            say(f"called {len(grpcurl.called)} RPCs at {grpcurl.address}")
        older(v1alpha, serve, report)
    report.end(f"grpcurl, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
