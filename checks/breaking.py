"""Fails when proto/ breaks clients of any earlier state on this branch: on the wire, in JSON or in generated code.

    python3 -m checks.breaking        (`make breaking` sets BUF, the command that runs buf)

Uses buf's category FILE (see buf.yaml) against the latest 20 states, since a clone does not show which of them were
released: an unlucky name that never left a branch is squashed before it lands. First it plants breaks into a copy, each of
which must be found. A clone without its history is refused, unless SHALLOW=ok permits leaving the check out.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

from checks.harness.base import ROOT, run, say, usage

LIMIT = 20


class Break(NamedTuple):
    """A change of a file of proto/ that must violate a rule."""

    subject: str
    rule: str
    file: str
    pattern: str
    replacement: str


PLANTED = [
    Break("a field with another number", "FIELD_NO_DELETE", "parlance/user/v1/user.proto",
          r"(display_name) = 3;", r"\1 = 33;"),
    Break("a field with another name", "FIELD_SAME_NAME", "parlance/message/v1/message.proto",
          r"string text = 6;", "string body = 6;"),
    Break("a field of another type", "FIELD_SAME_TYPE", "parlance/message/v1/message.proto",
          r"int64 (sequence = 2;)", r"uint64 \1"),
    Break("a removed RPC", "RPC_NO_DELETE", "parlance/user/v1/user_service.proto", r".*rpc GetUser\(.*\n", ""),
    Break("a stream that became unary", "RPC_SAME_SERVER_STREAMING", "parlance/message/v1/message_service.proto",
          r"(rpc Subscribe.*)\(stream ", r"\1("),
    Break("a removed enum value", "ENUM_VALUE_NO_DELETE", "parlance/error/v1/error_reason.proto",
          r".*ERROR_REASON_CONFLICT.*\n", ""),
    Break("the original contract", "FIELD_NO_DELETE", "original/user_service.proto", r".*string username.*\n", ""),
]


def compare(folder: pathlib.Path, against: pathlib.Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Compares two states, both by today's buf.yaml."""
    words = [
        *shlex.split(os.environ["BUF"]), "breaking", str(folder), "--against", str(against), "--config", "buf.yaml",
        "--against-config", "buf.yaml", *flags,
    ]
    return subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def plant(planted: Break, scratch: pathlib.Path) -> None:
    """Plants a break into a copy, which must be found."""
    folder = scratch / "planted"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "proto", folder / "proto")
    file = folder / "proto" / planted.file
    text, count = re.subn(planted.pattern, planted.replacement, file.read_text())
    if not count:
        sys.exit(f"proto/{planted.file} has changed, so nothing was planted ({planted.subject}): update checks/breaking.py")
    file.write_text(text)
    found = compare(folder, ROOT, "--error-format", "json")
    if found.returncode == 0 or planted.rule not in found.stdout:
        sys.exit(f"a planted break was not found ({planted.subject}, {planted.rule}): {found.stdout}")


def has_history() -> bool:
    words = ["git", "rev-parse", "--is-shallow-repository"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.returncode == 0 and found.stdout.strip() == "false"


def earlier_states() -> dict[str, str]:
    """The latest states of proto/ and, for each, the last commit that had it."""
    states: dict[str, str] = {}
    for commit in run("git", "log", "--first-parent", "--format=%H", "--", "proto").split():
        words = ["git", "rev-parse", "--verify", "--quiet", f"{commit}:proto"]
        state = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        if state and len(states) < LIMIT:
            states.setdefault(state, commit)
    return states


def extract(commit: str, folder: pathlib.Path) -> None:
    folder.mkdir()
    with subprocess.Popen(["git", "archive", commit, "proto"], cwd=ROOT, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    if not os.environ.get("BUF"):
        sys.exit("BUF is not set: run make breaking")
    with tempfile.TemporaryDirectory(prefix="parlance-breaking-") as folder:
        scratch = pathlib.Path(folder)
        for planted in PLANTED:
            plant(planted, scratch)
        say(f"all {len(PLANTED)} planted breaks are found")

        if not has_history():
            say("NOT CHECKED: earlier states of proto/ are missing (a shallow clone, or none)")
            if os.environ.get("SHALLOW") == "ok":
                return
            sys.exit("Fetch them (git fetch --unshallow), or leave the check out with SHALLOW=ok.")
        states = earlier_states()
        if not states:
            sys.exit("This history has no state of proto/ at all: is this the right repository?")
        broken = 0
        for state, commit in states.items():
            extract(commit, scratch / state)
            found = compare(ROOT, scratch / state)
            if found.returncode != 0:
                broken += 1
                say(f"{found.stdout}proto/ breaks clients of {run('git', 'log', '-1', '--format=%h, %s', commit).strip()}")
    say(f"proto/ was compared with {len(states)} earlier states; it breaks {broken}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
