"""Checks third-party crates with cargo-deny: advisories, bans, licences and sources.

    python3 -m checks.deny

Advisories are in a database that is fetched. Where it cannot be reached, that is reported and the rest is checked.
"""

from __future__ import annotations

import subprocess
import sys

from checks.harness.base import ROOT, say, show, usage

PATIENCE = 120


def fetches_advisories() -> bool:
    words = ["cargo", "deny", "fetch", "db"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    if subprocess.run(["cargo", "deny", "--version"], capture_output=True, check=False).returncode != 0:
        sys.exit("cargo-deny is not installed: cargo install --locked cargo-deny")
    if fetches_advisories():
        show("cargo", "deny", "--workspace", "check")
    else:
        say("NOT CHECKED: advisories (their database cannot be reached from here)")
        show("cargo", "deny", "--workspace", "check", "bans", "licenses", "sources")


if __name__ == "__main__":
    main()
