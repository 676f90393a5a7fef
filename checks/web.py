"""Checks the web client: types, the tests of its protocol, that web/dist is what the sources build, and then the client
itself, in Chromium against the real `parlance serve` with its own ports and PostgreSQL.

    python3 -m checks.web              all of it (`make web-check` builds `parlance` first)
    python3 -m checks.web --build      writes web/dist and ends
    python3 -m checks.web --picture    writes docs/page.png and ends

Installs what is missing: the packages of web/package-lock.json and, by apt, Debian's Chromium. PARLANCE names another
binary to test, CHROMIUM another browser.
"""

from __future__ import annotations

import filecmp
import os
import pathlib
import re
import shutil
import sys
import tempfile

from checks.harness.base import BINARIES, ROOT, run, say, show, usage

WEB = ROOT / "web"
OLDEST_NODE = 20


def require_node() -> None:
    version = run("node", "--version") if shutil.which("node") and shutil.which("npm") else ""
    found = re.match(r"v(\d+)", version)
    if not found or int(found[1]) < OLDEST_NODE:
        sys.exit(f"Install Node.js {OLDEST_NODE} or newer, with npm. Only a change of the web client needs it.")


def find_chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found:
        return found
    say("Chromium is not on this machine; installing it")
    root = [] if os.getuid() == 0 else ["sudo"]
    run(*root, "apt-get", "update", "-qq")
    packages = ["chromium", "fonts-dejavu-core"]
    quiet = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    run(*quiet, *packages)
    return shutil.which("chromium") or sys.exit("Chromium cannot be installed here: set CHROMIUM to a browser of its kind.")


def files_of(folder: pathlib.Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def check_committed_build() -> None:
    """Builds the client into a folder and compares that with web/dist."""
    committed = WEB / "dist"
    with tempfile.TemporaryDirectory(prefix="parlance-web-") as folder:
        built = pathlib.Path(folder)
        run("node", "web/build.mjs", built)
        names = files_of(committed) | files_of(built)
        _, different, missing = filecmp.cmpfiles(committed, built, sorted(names), shallow=False)
    if different or missing:
        sys.exit(f"web/dist is not what the sources build ({', '.join(different + missing)}): run make web, and commit it")


def main() -> None:
    if "--help" in sys.argv:
        usage(__doc__)
    action = sys.argv[1] if sys.argv[1:] else ""
    if action not in ("", "--build", "--picture"):
        sys.exit(f"Unknown argument {action}; --help lists all.")
    require_node()
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=WEB)
    if action == "--build":
        show("node", "build.mjs", cwd=WEB)
        return
    chromium = find_chromium()
    parlance = pathlib.Path(os.environ.get("PARLANCE") or BINARIES / "parlance").resolve()
    environment = {**os.environ, "CHROMIUM": chromium, "PARLANCE": str(parlance)}
    if action == "--picture":
        run("node", "build.mjs", "tests", cwd=WEB)
        show(parlance, "with-postgres", "--", "node", "web/build/picture.mjs", "docs/page.png", env=environment)
        return
    say("=== types")
    run("node", "build.mjs", "tests", cwd=WEB)
    show("npx", "--no-install", "tsc", cwd=WEB)
    say("=== the committed build")
    check_committed_build()
    say("=== the protocol")
    show("node", "--test", *(f"web/build/{name}.test.mjs" for name in ("backoff", "session", "foreign", "tabs", "text")))
    say("=== the client, in a browser")
    show(parlance, "with-postgres", "--", "node", "--test", "web/build/page.test.mjs", env=environment)


if __name__ == "__main__":
    main()
