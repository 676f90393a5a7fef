"""Checks the alerts and the dashboard in deploy/ against real services and a real Prometheus.

    python3 -m checks.observability        (`make observability` builds the binaries and starts PostgreSQL)

promtool checks the rules. Then both services are started with their admin ports on the PostgreSQL that TEST_DATABASE_URL
names, users chat, a Prometheus reads the ports, and every expression of every panel and alert is evaluated: each must be
valid, each panel must show data, and each label in an expression must exist. Every alert must have its section in
docs/OPERATIONS.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from checks.harness.base import BINARIES, PATIENCE, ROOT, Report, free_port, output_of, run, say, until, usage
from checks.harness.process import Process, is_healthy

RULES = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
OPERATIONS = ROOT / "docs/OPERATIONS.md"

def service(started: contextlib.ExitStack, name: str, *flags: str) -> tuple[str, str]:
    """Starts a service and returns its address and that of its metrics."""
    process = Process(
        BINARIES / name, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
        "--database-url", os.environ["TEST_DATABASE_URL"], "--log-format", "json", "--drain-accept", "0s", *flags,
    )
    started.callback(process.end)
    listen = until(lambda: f"{name} listens; its output: {process.text()}", lambda: process.logged("listening", "local"))
    until(f"{name} serves", lambda: is_healthy(name, listen))
    return listen, process.logged("metrics are at /metrics", "address")


def ask(prometheus: str, path: str, **words: str) -> Any:
    url = f"http://{prometheus}/api/v1/{path}?{urllib.parse.urlencode(words)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)
    except OSError:
        return {"status": "unreachable"}


def start_prometheus(started: contextlib.ExitStack, folder: str, targets: dict[str, str]) -> str:
    """Starts a Prometheus that reads these services, and returns its address."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in targets.items()
        ],
    }
    # JSON is YAML.
    file = pathlib.Path(folder, "prometheus.yml")
    file.write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    process = Process(
        "prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}",
    )
    started.callback(process.end)
    until("prometheus answers", lambda: ask(address, "query", query="1").get("status") == "success")
    return address


def talk(user_service: str, message_service: str) -> Iterator[None]:
    """Sends messages while a subscriber follows, one for each step. Users and channel are missing at first, so calls fail."""
    addresses = {"USER_SERVICE_URL": f"http://{user_service}", "MESSAGE_SERVICE_URL": f"http://{message_service}"}
    with contextlib.ExitStack() as listening:
        chat = [str(BINARIES / "parlance"), "chat", "general", "--as"]
        reader = subprocess.Popen(
            [*chat, "bob"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **addresses},
        )
        listening.callback(reader.wait)
        listening.callback(reader.stdin.close)
        for number in range(20):
            line = f"line {number}\n"
            subprocess.run(
                [*chat, "ada"], input=line, text=True, check=True, capture_output=True, env={**os.environ, **addresses}
            )
            yield


def expressions() -> Iterator[tuple[str, str]]:
    """The panels of the dashboard, each with an expression."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']!r}", target["expr"]


def alerts(prometheus: str) -> Iterator[dict[str, Any]]:
    for group in ask(prometheus, "rules")["data"]["groups"]:
        yield from group["rules"]


def concrete(expression: str) -> str:
    return expression.replace("$job", "parlance.*").replace("$__rate_interval", "1m")


def check_labels(prometheus: str, where: str, expression: str, report: Report) -> None:
    for name, matchers in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
            found = ask(prometheus, "query", query=f'count({name}{{{label}!=""}})')
            report.check(bool(found.get("data", {}).get("result")), f"{where}: no series {name} has a label {label}")


def is_settled(prometheus: str, where: str, expression: str, report: Report) -> bool:
    """Evaluates an expression. Returns true if it has data or is invalid, which is reported: then it is not evaluated
    again."""
    answer = ask(prometheus, "query", query=concrete(expression))
    if answer.get("status") == "error":
        report.fail(f"{where}: {answer['error']}: {expression}")
        return True
    return bool(answer.get("data", {}).get("result"))


def check_panels(prometheus: str, users: str, messages: str, report: Report) -> None:
    missing = list(expressions())

    def poll() -> bool:
        missing[:] = [one for one in missing if not is_settled(prometheus, *one, report)]
        return not missing

    for _ in talk(users, messages):
        poll()
    end = time.monotonic() + PATIENCE / 2
    until("every panel shows data", lambda: poll() or time.monotonic() > end)
    for where, expression in expressions():
        report.check((where, expression) not in missing, f"{where} shows no data: {expression}")
        check_labels(prometheus, where, concrete(expression), report)


def check_alerts(prometheus: str, report: Report) -> None:
    sections = OPERATIONS.read_text() if OPERATIONS.exists() else ""
    for rule in alerts(prometheus):
        name = rule["name"]
        report.check(rule["health"] == "ok", f"alert {name}: {rule.get('lastError')}")
        report.check(rule["state"] != "firing", f"alert {name} fires for healthy services: {rule['alerts']}")
        has_section = bool(re.search(rf"^#+ {name}$", sections, re.MULTILINE))
        report.check(has_section, f"alert {name} has no section in docs/OPERATIONS.md")
        check_labels(prometheus, f"alert {name}", rule["query"], report)


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    if not os.environ.get("TEST_DATABASE_URL"):
        sys.exit("TEST_DATABASE_URL is not set: run make observability")
    output_of("install-prometheus")
    for words in (["check", "rules", RULES], ["test", "rules", ROOT / "deploy/prometheus/alerts_test.yml"],
                  ["check", "config", ROOT / "deploy/prometheus/prometheus.yml"]):
        say(f"promtool {' '.join(map(str, words))}")
        run("promtool", *words)

    report = Report()
    with contextlib.ExitStack() as started:
        folder = tempfile.mkdtemp(prefix="parlance-prometheus-")
        started.callback(shutil.rmtree, folder, ignore_errors=True)
        users, users_admin = service(started, "user-service")
        messages, messages_admin = service(started, "message-service", "--user-service-url", f"http://{users}")
        targets = {"parlance-user-service": users_admin, "parlance-message-service": messages_admin}
        prometheus = start_prometheus(started, folder, targets)
        until(
            "prometheus has read every port",
            lambda: len(ask(prometheus, "query", query="up == 1").get("data", {}).get("result", [])) == len(targets),
        )
        say(f"prometheus reads {', '.join(targets)}; users chat")
        check_panels(prometheus, users, messages, report)
        check_alerts(prometheus, report)
    report.end("observability")


if __name__ == "__main__":
    main()
