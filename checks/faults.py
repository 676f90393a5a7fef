"""Injects faults under load and counts broken promises.

    python3 -m checks.faults [FAULT=COUNT ...] [--senders N] [--seed N] [--minutes N] [--write]
    make faults FAULTS="kill-message-service=1000 lose-commit-reply=500"

Each fault is a story of tests/stories/faults/matrix.rs (`make faults FAULTS=--list` lists them). Without FAULT=COUNT those of
`make test` run, as often as there; the others must be named. They run one after the other; the checker judges each.
`--write` puts the results into docs/RELIABILITY.md, in place of earlier ones of the same faults.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

from checks.harness.base import BINARIES, ROOT, run, say

STORIES = "faults::matrix::"
DOCUMENT = ROOT / "docs/RELIABILITY.md"
RESULTS = ROOT / "docs/reliability.json"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def main() -> None:
    arguments = parse()
    program = stories()
    known, alone = faults_of(program, "--include-ignored"), faults_of(program, "--ignored")
    if arguments.list:
        for name in known:
            say(name)
        return
    chosen = dict(counts(arguments.faults, known)) or dict.fromkeys([name for name in known if name not in alone], None)
    results, failed = [], []
    for number, (name, count) in enumerate(chosen.items(), start=1):
        say(f"{name}{f', {count} times' if count else ''} ({number} of {len(chosen)})")
        result, is_good = inject(program, name, count, arguments)
        if not is_good or result is None or result["violations"]:
            failed.append(name)
        if result is not None:
            results.append(result)
            if arguments.write and is_good:
                write(result)
            say(f"  {sentence(result)}")
    violations = sum(result["violations"] for result in results)
    injected = sum(result["count"] for result in results)
    say(f"{injected} faults of {len(chosen)} kinds, {violations} promises broken, {len(failed)} kinds failed")
    sys.exit(1 if failed else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", metavar="FAULT=COUNT")
    parser.add_argument("--senders", type=int, help="senders, each with one send in flight (default: 48)")
    parser.add_argument("--seed", type=int, help="the seed of what is random (default: a new one for each fault)")
    parser.add_argument("--minutes", type=int, help="the time after which a fault is injected no more (default: none)")
    parser.add_argument("--write", action="store_true", help="put the results into docs/RELIABILITY.md")
    parser.add_argument("--list", action="store_true", help="list the faults")
    return parser.parse_args()


def stories() -> pathlib.Path:
    """Builds the stories and returns their program: cargo itself would hold its lock for as long as they run."""
    lines = run("cargo", "test", "--workspace", "--test", "stories", "--no-run", "--message-format", "json").splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    programs = [message["executable"] for message in messages if message.get("target", {}).get("name") == "stories"]
    return pathlib.Path(next(program for program in programs if program))


def faults_of(program: pathlib.Path, which: str) -> list[str]:
    listed = run(program, "--list", which, STORIES)
    return [name.replace("_", "-") for name in re.findall(rf"^{STORIES}(\w+): test$", listed, re.MULTILINE)]


def counts(words: list[str], known: list[str]) -> list[tuple[str, int]]:
    chosen = []
    for word in words:
        name, _, count = word.partition("=")
        if name not in known or not count.isdigit():
            sys.exit(f"{word}: not FAULT=COUNT, where FAULT is one of {', '.join(known)}")
        chosen.append((name, int(count)))
    return chosen


def inject(
    program: pathlib.Path, name: str, count: int | None, arguments: argparse.Namespace,
) -> tuple[dict[str, Any] | None, bool]:
    """Runs the story of a fault. Returns its report, and true if it passed; prints the cause and the end of its output if not."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report"
        env = {**os.environ, "PARLANCE_FAULTS_REPORT": str(report), "RUST_BACKTRACE": "0"}
        for variable, value in [
            ("PARLANCE_FAULTS", f"{name}={count}" if count else None), ("PARLANCE_FAULTS_SENDERS", arguments.senders),
            ("PARLANCE_FAULTS_SEED", arguments.seed), ("PARLANCE_FAULTS_MINUTES", arguments.minutes),
        ]:
            if value is not None:
                env[variable] = str(value)
        story = [program, STORIES + name.replace("-", "_"), "--exact", "--include-ignored", "--nocapture"]
        command = [str(word) for word in [BINARIES / "parlance", "with-postgres", "--", *story]]
        # Its own log, not a pipe: a long run writes much.
        with tempfile.TemporaryFile("w+") as output:
            running = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )
            wait(running)
            if running.returncode != 0:
                output.seek(0)
                lines = output.readlines()
                panics = [at for at, line in enumerate(lines) if "panicked at" in line][:3]
                say("".join(f"  | {line[:2000]}" for at in panics for line in lines[at : at + 3]))
                say("".join(f"  | {line}" for line in lines[-12:]))
        last = json.loads(report.read_text().splitlines()[-1]) if report.exists() else None
        return last, running.returncode == 0


def wait(running: subprocess.Popen[bytes]) -> None:
    """Waits for the end, and says every five minutes that it still does."""
    began = time.monotonic()
    while True:
        try:
            running.wait(timeout=300)
            return
        except subprocess.TimeoutExpired:
            say(f"  still running, for {(time.monotonic() - began) / 60:.0f} min")


def sentence(result: dict[str, Any]) -> str:
    more = [f"{count:,} {fact}" for fact, count in result["facts"].items()]
    if result["longest_recovery_ms"] is not None:
        more.append(f"next acknowledgement after at most {result['longest_recovery_ms'] / 1000:.1f} s")
    return "; ".join(
        [f"{result['acknowledged']:,} messages acknowledged, {result['violations']} promises broken", *more,
         f"{result['seconds']} s"]
    )


def write(result: dict[str, Any]) -> None:
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    stored[result["fault"]] = {
        **result, "commit": run("git", "rev-parse", "--short", "HEAD").strip(),
        "date": datetime.date.today().isoformat(), "machine": machine(),
    }
    RESULTS.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table(stored)}\n{END}{after}")


def table(stored: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| fault | times | senders | acknowledged | broken promises | next acknowledgement after at most | seed | commit |",
        "|---|--:|--:|--:|--:|--:|---|---|",
    ]
    for name, result in sorted(stored.items()):
        recovery = result["longest_recovery_ms"]
        facts = "".join(f" ({count:,} {fact})" for fact, count in result["facts"].items())
        lines.append(
            f"| `{name}` | {result['count']:,}{facts} | {result['senders']} | {result['acknowledged']:,} "
            f"| {result['violations']} | {'' if recovery is None else f'{recovery / 1000:.1f} s'} "
            f"| {result['seed']} | `{result['commit']}` |"
        )
    machines = sorted({f"{result['machine']}, {result['date']}" for result in stored.values()})
    return "\n".join([*lines, "", *(f"Run on: {each}." for each in machines), ""])


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = run(BINARIES / "parlance", "with-postgres", "--", "sh", "-c", 'psql "$TEST_DATABASE_URL" -Atc "SHOW server_version"').strip()
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, PostgreSQL {version.splitlines()[-1]}, "
        "debug build with its assertions, clients and all processes on this machine"
    )


if __name__ == "__main__":
    main()
