"""Go for the checks: a toolchain that is new enough, and grpcurl at the versions pinned here."""

from __future__ import annotations

import functools
import os
import pathlib
import tempfile

from checks.harness.base import ROOT, output_of, run, say

PACKAGE = "github.com/fullstorydev/grpcurl/cmd/grpcurl"
VERSION = "v1.9.4"
# The last version that knows reflection v1alpha only, as many tools still do.
V1ALPHA_VERSION = "v1.8.7"


@functools.cache
def environment() -> dict[str, str]:
    """The environment for Go: installed where it is missing, and independent of the machine's settings."""
    folder = output_of("install-go")
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    # Go must use what is installed and fetch no other toolchain.
    pinned = {"PATH": path, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off", "GO111MODULE": "on"}
    return {**os.environ, **pinned}


def grpcurl(version: str = VERSION) -> pathlib.Path:
    """The path of grpcurl, which the first call builds with Go's module tooling into .parlance/tools."""
    # A folder for each version, since a program needs its own name on a PATH.
    folder = ROOT / ".parlance/tools" / f"grpcurl-{version}"
    program = folder / "grpcurl"
    if program.is_file():
        return program
    go = environment()
    say(f"building grpcurl {version}; the first time takes about a minute")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as building:
        run("go", "install", f"{PACKAGE}@{version}", env={**go, "GOBIN": building})
        # Atomic, so that two checks can do this at a time.
        os.replace(pathlib.Path(building) / "grpcurl", program)
    return program
