"""Builds the image and checks both compose files on a real engine: the services' user and capabilities, their roles in
PostgreSQL (user-service takes over tables of the superuser), that no acknowledged message is lost when PostgreSQL is killed
and services are restarted under traffic, that two replicas notify each other over NATS, and that every service stops in
time by itself.

    python3 -m checks.containers        (`make containers` builds `parlance` first)

Needs root where no Docker engine runs: it is then installed, started, and stopped at the end. Names and ports are of this
run only. What stays is Docker's cache: base images, and parlance-check-dependencies, the image of compiled third-party
crates, which makes the next run quick.

  PARLANCE_STAND_IN_IMAGES  a program that builds the base images where they cannot be pulled (unset: they are pulled)
  PARLANCE_PROFILE          the cargo profile of the image (quick, which builds faster than release)
  COMPOSE                   the compose to use (`docker compose`, else `docker-compose`)
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import secrets
import signal
import sys
import tempfile
import time
import urllib.request

from checks.harness import go
from checks.harness.base import Report, run, say, until, usage
from checks.harness.compose import PATIENCE, Project, build, remove_images
from checks.harness.engine import docker, engine, inspect
from checks.harness.grpcurl import Grpcurl
from checks.harness.people import PARLANCE, Ada, Bob

MESSAGES = "parlance.message.v1.MessageService"
GRACE = 30


def check_confinement(project: Project, service: str, ports: dict[int, int], report: Report) -> None:
    """Checks the user, capabilities, ports and read-only file system of a service's container."""
    container = project.container(service)
    found = inspect(container)
    config = found["Config"]
    report.check(config["User"] == "65532:65532", f"{service} runs as {config['User']!r}")
    report.check(config["StopSignal"] == "SIGTERM", f"{service} is stopped by {config['StopSignal']}")
    report.check(config.get("StopTimeout") == GRACE, f"{service} has {config.get('StopTimeout')} s to stop")
    published = {
        inside: [(one["HostIp"], one["HostPort"]) for one in outside]
        for inside, outside in found["NetworkSettings"]["Ports"].items() if outside
    }
    expected = {f"{inside}/tcp": [("127.0.0.1", str(outside))] for inside, outside in ports.items()}
    report.check(published == expected, f"{service} publishes {published}")

    # The kernel's view of the process.
    status = dict(re.findall(r"^(\w+):\s+(.*)$", run("docker", "exec", container, "cat", "/proc/1/status"), re.MULTILINE))
    wanted = {"Uid": "\t".join(["65532"] * 4), "Gid": "\t".join(["65532"] * 4), "NoNewPrivs": "1"}
    wanted |= {name: "0" * 16 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    for name, text in wanted.items():
        report.check(status[name] == text, f"{service} has {name} {status[name]!r} instead of {text!r}")
    for folder in ("/", "/tmp", "/usr/local/bin", "/var/tmp"):
        done = docker("exec", "--user", "0", container, "touch", f"{folder}/written")
        report.check("Read-only file system" in done.stderr, f"writing to {folder} of {service} is not refused: {done}")


def check_roles(project: Project, report: Report) -> None:
    """Checks that each service has a role that is no superuser, owns its schema and cannot read the other."""
    roles = {
        "user_service": ("parlance_user.users", "parlance_message.messages"),
        "message_service": ("parlance_message.messages", "parlance_user.users"),
    }
    of_sessions = (
        "SELECT DISTINCT usename || ' ' || rolsuper FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid "
        "WHERE application_name LIKE 'parlance %'"
    )
    found = set(project.psql(of_sessions).stdout.split("\n")) - {""}
    report.equal("the roles of the services", found, {f"{role} false" for role in roles})
    for role, (own, other) in roles.items():
        done = project.psql(f"SELECT tableowner FROM pg_tables WHERE schemaname || '.' || tablename = '{own}'", role)
        report.equal(f"the owner of {own}", done.stdout.strip(), role)
        done = project.psql(f"SELECT FROM {other}", role)
        report.check("permission denied" in done.stderr, f"{role} is not refused {other}: {done}")


def list_log(grpcurl: Grpcurl, conversation: str) -> list[dict]:
    """All entries of a conversation."""
    events: list[dict] = []
    while True:
        page = grpcurl.attempt(
            f"{MESSAGES}/ListEvents", conversation_id=conversation, actor_id="ada", after_sequence=len(events),
            page_size=200,
        )
        if not page.get("events"):
            grpcurl.report.equal("the head", int(page["lastSequence"]), len(events))
            return events
        events += page["events"]


def talk_through_restarts(project: Project, grpcurl: Grpcurl, users: Grpcurl, report: Report) -> int:
    """Ada and Bob talk while PostgreSQL and the services are restarted. Returns the head of their conversation."""
    users.attempt("parlance.user.v1.UserService/CreateUser", user_id="ada", username="ada")
    grpcurl.attempt(
        "parlance.message.v1.ConversationService/CreateConversation", conversation_id="general",
        kind="CONVERSATION_KIND_CHANNEL", creator_id="ada",
    )
    with contextlib.ExitStack() as ends:
        bob = Bob(project, "general", report)
        ends.callback(bob.chat.end)
        ends.callback(bob.enough.set)
        bob.start()
        ada = Ada(grpcurl, "general")
        ends.callback(ada.enough.set)
        ada.start()
        until(lambda: f"bob sees ada; {bob.chat.tail()}", lambda: "ada says" in bob.chat.out(), PATIENCE)
        ada.more(20)
        say("PostgreSQL is killed, and started once a send has failed")
        with ada.failing():
            run("docker", "kill", project.container("postgres"))
        run("docker", "start", project.container("postgres"))
        ada.more(20)
        say("message-service is stopped, and started once a send has failed")
        with ada.failing():
            run("docker", "stop", project.container("message-service"))
        run("docker", "start", project.container("message-service"))
        ada.more(20)
        say("user-service is restarted; known users keep sending")
        run("docker", "restart", project.container("user-service"))
        ada.more(20)
        ada.enough.set()
        ada.join()
        last = f"ada says {len(ada.acknowledged)}."
        until(lambda: f"bob sees {last!r}; {bob.chat.tail()}", lambda: last in bob.chat.out(), PATIENCE)
        bob.stop()
        seen = [int(n) for n in re.findall(r"ada says (\d+)\.", bob.chat.out())]

    events = list_log(grpcurl, "general")
    sequences = [int(event["sequence"]) for event in events]
    report.check(sequences == list(range(1, len(events) + 1)), "the log has a hole")
    sent = [event["messageSent"] for event in events if "messageSent" in event]
    stored = [(one["requestId"], int(one["sequence"]), one["text"]) for one in sent if one["senderId"] == "ada"]
    expected = [(f"ada-{n}", at, f"ada says {n}.") for n, at in enumerate(ada.acknowledged, 1)]
    report.check(stored == expected, f"acknowledged to ada: {expected}; stored: {stored}")
    typed = [one["text"] for one in sent if one["senderId"] != "ada"]
    report.check(typed == [f"bob says {n}." for n in range(1, bob.typed + 1)], f"of bob's {bob.typed} are stored: {typed}")
    in_order = list(range(seen[0], len(ada.acknowledged) + 1))
    report.check(seen == in_order, f"bob saw ada's messages, not each once and in order: {seen}")
    say(
        f"{len(events)} entries without a hole; ada sent {len(ada.acknowledged)} with {ada.retries} retries, of which "
        f"{ada.duplicates} had been stored already; bob {bob.typed}"
    )
    return len(events)


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return sum(float(text) for text in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", answer.read().decode(), re.MULTILINE))


def talk_over_replicas(project: Project, replicas: dict[str, Grpcurl], head: int, report: Report) -> None:
    """Checks that each replica streams the other's messages, after a hint over NATS, and that all stop in time."""
    follow = {"conversation_id": "general", "actor_id": "ada", "after_sequence": head}
    with contextlib.ExitStack() as ends:
        streams = [ends.enter_context(one.stream(f"{MESSAGES}/StreamMessages", follow)) for one in replicas.values()]
        for stream in streams:
            stream.wait("that it has caught up", {"caughtUp": {"conversationId": "general"}})
        heard = metric(project.metrics, "parlance_bus_heard_total")
        for name, grpcurl in replicas.items():
            text = f"sent at {name}"
            grpcurl.attempt(
                f"{MESSAGES}/SendMessage", conversation_id="general", sender_id="ada", text=text, request_id=f"at-{name}"
            )
            for stream in streams:
                stream.wait(repr(text), {"event": {"messageSent": {"text": text}}}, 10)
        until("a hint arrives over NATS", lambda: metric(project.metrics, "parlance_bus_heard_total") > heard, 10)
        report.equal("failures of the bus", metric(project.metrics, "parlance_bus_failures_total"), 0)
        say("each replica streams the messages sent at the other")

        # Both have an open stream now, which a stop must drain.
        for service in ("message-service-2", "message-service", "user-service"):
            stop(project, service, report)


def stop(project: Project, service: str, report: Report) -> None:
    container = project.container(service)
    started = time.monotonic()
    run("docker", "stop", container)
    took = time.monotonic() - started
    state = inspect(container)["State"]
    report.check(took < GRACE and state["ExitCode"] == 0, f"{service} stopped after {took:.1f} s with {state['ExitCode']}")
    say(f"{service} stopped by itself in {took:.1f} s with exit code {state['ExitCode']}")


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    # What was started is stopped in any case.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    if not PARLANCE.is_file():
        sys.exit(f"{PARLANCE} does not exist; `make containers` builds it first")
    name = f"parlance-check-{secrets.token_hex(4)}"
    report = Report()
    grpcurl = go.grpcurl()
    with engine(), contextlib.ExitStack() as gone:
        gone.callback(remove_images, name)
        build(name, report)
        folder = gone.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-"))
        with Project(name, name, pathlib.Path(folder), report) as project:
            users, first, second = (
                Grpcurl(grpcurl, f"127.0.0.1:{port}", report)
                for port in (project.users, project.messages, project.messages_2)
            )
            project.refuses_without_a_password()
            project.migrate_as_superuser("user-service")
            project.up()
            check_roles(project, report)
            check_confinement(project, "user-service", {50051: project.users}, report)
            check_confinement(project, "message-service", {50052: project.messages}, report)
            head = talk_through_restarts(project, first, users, report)
            project.up("docker-compose.replicas.yml", project.folder / "metrics.yml")
            replica = {50052: project.messages_2, 9090: project.metrics}
            check_confinement(project, "message-service-2", replica, report)
            talk_over_replicas(project, {"message-service": first, "message-service-2": second}, head, report)
    report.end("containers")


if __name__ == "__main__":
    main()
